"""Small networks and images to explain, and what a network was before it was explained."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from orric.retraining.models import load_network
from orric.vision.datasets import digits, to_input
from tests.builders import ROOT


def shipped(role="student"):
    return load_network(ROOT / "traces" / "models" / f"digits-{role}.safetensors", role, 10)


def pictures(count=4, px=32):
    """Return digits as a network's input."""
    data = digits()
    return to_input(data.images[data.held_out[:count]], px)


def seeded(build, seed=1):
    """Build a network from a seed; what others draw afterwards stays what it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


class Pooled(nn.Module):
    """Average over positions, so that everything behind a map is linear."""

    def forward(self, maps):
        return maps.mean(dim=(2, 3))


class Functional(nn.Module):
    """A network whose second activation is a function, which no hook can see."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.function = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 6, 3, 2), function
        self.head = nn.Linear(6, 5)

    def forward(self, images):
        return self.head(self.function(self.second(self.first(images).relu())).mean(dim=(2, 3)))


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 3 * channels),
            nn.Linear(channels, channels),
        )

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return tokens + self.out(nn.functional.scaled_dot_product_attention(q, k, v))


class Transformer(nn.Module):
    """A tiny vision transformer; it classifies by a class token, or by the mean over the others."""

    def __init__(self, class_token=True, channels=8, classes=5):
        super().__init__()
        self.embed = nn.Conv2d(3, channels, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, channels)) if class_token else None
        self.blocks = nn.Sequential(Attention(channels), Attention(channels))
        self.head = nn.Linear(channels, classes)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        if self.token is None:
            return self.head(self.blocks(tokens).mean(dim=1))
        return self.head(self.blocks(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1))[:, 0])


def convolutional(activation=nn.ReLU, middle=None, classes=5):
    """Return a network with an activation between two convolutions and behind the second: layers 0 to 3."""
    middle = middle or nn.Identity()
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2),
        activation(),
        middle,
        nn.Conv2d(4, 6, 3, 2),
        activation(),
        Pooled(),
        nn.Linear(6, classes),
    )


def state_of(network):
    """Return everything that an explanation must leave as it was."""
    modules = list(network.modules())
    return {
        "weights": {name: value.clone() for name, value in network.state_dict().items()},
        "requires": [one.requires_grad for one in network.parameters()],
        "gradients": [None if one.grad is None else one.grad.clone() for one in network.parameters()],
        "modes": [module.training for module in modules],
        "hooks": [
            {name: len(value) for name, value in vars(module).items() if name.endswith("_hooks")} for module in modules
        ],
        "names": [sorted(vars(module)) for module in modules],
    }


def assert_unchanged(network, before):
    after = state_of(network)
    assert after["weights"].keys() == before["weights"].keys()
    for name, value in before["weights"].items():
        assert torch.equal(after["weights"][name], value), name
    for was, now in zip(before["gradients"], after["gradients"], strict=True):
        assert (was is None) == (now is None)
        assert was is None or torch.equal(was, now)
    for part in ("requires", "modes", "hooks", "names"):
        assert after[part] == before[part], part


def disturbed(network):
    """Give a network modes, gradients and frozen weights that a careless explanation would lose."""
    network = copy.deepcopy(network)
    network.train()
    for at, module in enumerate(network.modules()):
        if at % 3 == 2:
            module.training = False
    for at, parameter in enumerate(network.parameters()):
        if at % 2:
            parameter.grad = torch.full_like(parameter, 0.5)
        parameter.requires_grad_(at % 3 > 0)
    return network


def noise(count, px=32, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).random((count, 3, px, px)).astype(dtype)
