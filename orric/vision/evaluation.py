"""Networks held in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from orric.vision.onnx_network import OnnxNetwork


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have a network give the logits of evaluation mode inside the block; every module is in its own mode afterwards.

    Args:
        network: A classifier. A user's ONNX model leaves out a softmax at its end, as it does in training.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    if isinstance(network, OnnxNetwork):
        # Its own mode, unlike that of the modules in it, says only whether a softmax at the end is left out.
        network.training = True
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
