"""Models on disk: trained weights of the project's networks, exported when needed, or a user's ONNX files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import safetensors
import safetensors.torch
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from orric.exceptions import CalibrationError, ProfileError, nearest
from orric.vision.blocks import folded_weights
from orric.vision.datasets import FULL_PX
from orric.vision.macs import count_macs, count_onnx_macs
from orric.vision.networks import NETWORKS, ROLES
from orric.vision.onnx_export import export, replace
from orric.vision.onnx_models import PROBED_PX, external_files, load_onnx, load_onnx_network
from orric.vision.onnx_network import OnnxNetwork

ARCHITECTURE = "architecture"
# The last layer's weights, one row for each class.
HEAD = "head.weight"


def cache_folder() -> Path:
    """Return the folder of exported models: $ORRIC_CACHE, or orric in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orric"
    return Path(os.environ.get("ORRIC_CACHE") or default)


def sha256(path: Path) -> str:
    """Return the hash of a file, as profiles keep it in their provenance; of an ONNX model with what lies beside it."""
    found = hashlib.sha256(path.read_bytes())
    if is_onnx(path):
        with suppress(DecodeError):
            for beside in sorted(external_files(onnx.load(path, load_external_data=False))):
                with suppress(OSError):
                    found.update((path.parent / beside).read_bytes())
    return found.hexdigest()


def macs_of(path: Path, role: str, classes: int, resolution_px: int) -> float:
    """Return the MACs of one image through a model, which need not be one that torch could retrain."""
    if is_onnx(path):
        return float(count_onnx_macs(load_onnx(path, role, classes, (resolution_px,)), resolution_px))
    return float(count_macs(load_network(path, role, classes), resolution_px))


def classes_of(path: Path, role: str) -> int:
    """Return how many classes a model tells apart.

    Raises:
        ProfileError: The file is missing or damaged, or no classifier.
    """
    if is_onnx(path):
        session = onnxruntime.InferenceSession(
            load_onnx(path, role).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        outputs = session.run(None, {session.get_inputs()[0].name: np.zeros((2, 3, FULL_PX, FULL_PX), np.float32)})
        return int(outputs[0].shape[1])
    architecture_of(path, role)  # which refuses what is no file of weights
    with safetensors.safe_open(path, "pt") as file:
        if HEAD not in file.keys():  # noqa: SIM118 (it is no dictionary)
            raise ProfileError(str(path), f"has no {HEAD!r}", "give weights of one of the project's networks")
        return int(file.get_slice(HEAD).get_shape()[0])


def is_onnx(path: Path) -> bool:
    """Say whether a file is a user's ONNX model by its name; anything else holds weights of the project's networks."""
    return path.suffix.lower() == ".onnx"


def architecture_of(path: Path, role: str) -> str:
    """Return the name of the network whose weights a safetensors file holds, the role's own if it names none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            name: str = (file.metadata() or {}).get(ARCHITECTURE, ROLES[role])
    except FileNotFoundError:
        raise ProfileError(
            str(path), "no such file", f"it should hold the {role}'s weights; orric calibrate --pretrain trains it"
        ) from None
    except (OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ProfileError(str(path), f"does not hold the {role}'s weights ({reason})", "calibrate anew") from None
    if name not in NETWORKS:
        raise ProfileError(str(path), f"architecture {name!r} is unknown", nearest(name, NETWORKS))
    return name


def load_network(path: Path, role: str, classes: int) -> nn.Module:
    """Load a student or teacher as a torch network.

    Args:
        path: Weights of one of the project's networks (safetensors, which name the architecture), or a user's model
            (.onnx).
        role: "student" or "teacher".
        classes: Number of classes.

    Returns:
        The network in evaluation mode.

    Raises:
        ProfileError: The file is missing, damaged, or holds another network.
        CalibrationError: ONNX Runtime and torch differ about a user's model.
    """
    if is_onnx(path):
        return load_onnx_network(path, role, classes)[0]
    network = NETWORKS[architecture_of(path, role)](classes)
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except safetensors.SafetensorError as error:
        reason = str(error).splitlines()[0]
        raise ProfileError(str(path), f"does not hold the {role}'s weights ({reason})", "calibrate anew") from None
    except RuntimeError:
        found = f"holds other weights than those of the {role} for {classes} classes"
        remedy = "give weights of that network and data set, or train them by orric calibrate --pretrain"
        raise ProfileError(str(path), found, remedy) from None
    return network.eval()


def save_network(network: nn.Module, path: Path, architecture: str | None = None) -> None:
    """Write a network's weights as safetensors.

    Args:
        network: One of the project's networks.
        path: The file.
        architecture: Its name in `orric.vision.networks.NETWORKS`; left out, whoever loads the file takes the default
            of the role.
    """
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, path, None if architecture is None else {ARCHITECTURE: architecture})
    path.chmod(0o644)  # which safetensors would leave to its owner alone


@lru_cache(maxsize=8)
def exported(path: Path, role: str, classes: int) -> bytes:
    """Return the ONNX model that serves: a user's own, or that of weights on disk.

    Weights are exported when first used, and the model is kept in the cache folder.

    Args:
        path: The model or the weights.
        role: "student" or "teacher".
        classes: Number of classes.

    Raises:
        ProfileError: See `load_network`.
    """
    if is_onnx(path):
        # A teacher sees the full resolution alone.
        sizes = (FULL_PX,) if role == "teacher" else PROBED_PX
        return bytes(load_onnx(path, role, classes, sizes).SerializeToString())
    network = load_network(path, role, classes)
    # What the exporter writes depends on its own version as well as on the weights.
    key = hashlib.sha256(f"{sha256(path)} {role} torch {torch.__version__} ort {onnxruntime.__version__}".encode())
    kept = cache_folder() / f"{role}-{key.hexdigest()[:16]}.onnx"
    with suppress(OSError, DecodeError, CalibrationError):
        # A file cut short does not parse or lacks a parameter; the weights themselves come from the network.
        found = onnx.load_from_string(kept.read_bytes())
        replace(found, folded_weights(network))
        return bytes(found.SerializeToString())
    model = export(network)
    with suppress(OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(model)
        Path(file.name).replace(kept)
    return model


def with_features(model: bytes) -> bytes:
    """Return a classifier that also gives what goes into its last matrix product; itself where there is none."""
    found = onnx.load_from_string(model)
    products = [node for node in found.graph.node if node.op_type in ("Gemm", "MatMul")]
    if products:
        constants = {one.name for one in found.graph.initializer}
        inner = next((name for name in products[-1].input if name not in constants), None)
        if inner is not None and inner not in {one.name for one in [*found.graph.output, *found.graph.input]}:
            found.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
    return bytes(found.SerializeToString())


@dataclass
class ServedNetwork:
    """A network that torch trains and the ONNX model that serves it, with one initializer per weight.

    Attributes:
        network: What is trained.
        model: What is served at first; `replaced` is the same with the network's present weights.
    """

    network: nn.Module
    model: onnx.ModelProto

    @classmethod
    def load(cls, path: Path, role: str, classes: int, resolutions_px: Sequence[int] = PROBED_PX) -> ServedNetwork:
        """Load a student or teacher of either kind; see `load_network`.

        Args:
            path: The model or the weights.
            role: "student" or "teacher".
            classes: Number of classes.
            resolutions_px: Sides of the square images that a user's model must take.
        """
        if is_onnx(path):
            return cls(*load_onnx_network(path, role, classes, resolutions_px))
        return cls(load_network(path, role, classes), onnx.load_from_string(exported(path, role, classes)))

    @property
    def relative(self) -> bool:
        """Whether outputs are compared on their own scale (`orric.vision.onnx_export.check_outputs`)."""
        return isinstance(self.network, OnnxNetwork)

    def weights(self) -> dict[str, Tensor]:
        """Return the network's present weights by the names of the model's initializers."""
        if isinstance(self.network, OnnxNetwork):
            return self.network.initializers()
        return folded_weights(self.network)

    def replaced(self) -> bytes:
        """Return the model with the network's present weights, serialized.

        Raises:
            CalibrationError: Weights and initializers do not match one to one.
        """
        # A message of its own each time: what is overwritten in one stays in memory for as long as the message lives.
        fresh = onnx.ModelProto()
        fresh.CopyFrom(self.model)
        replace(fresh, self.weights())
        return bytes(fresh.SerializeToString())
