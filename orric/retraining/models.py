"""Trained weights on disk and their exported ONNX models."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import onnx
import onnxruntime
import safetensors.torch
import torch
from google.protobuf.message import DecodeError
from torch import nn

from orric.exceptions import CalibrationError, ProfileError
from orric.vision.networks import NETWORKS, fused
from orric.vision.onnx_export import export, replaced


def cache_folder() -> Path:
    """Return the folder of exported models: $ORRIC_CACHE, or orric in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orric"
    return Path(os.environ.get("ORRIC_CACHE") or default)


def sha256(path: Path) -> str:
    """Return the hash of a file, as profiles keep it in their provenance."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_network(path: Path, role: str, classes: int) -> nn.Module:
    """Load a student or teacher from safetensors.

    Args:
        path: The weights.
        role: "student" or "teacher".
        classes: Number of classes.

    Returns:
        The network in evaluation mode.

    Raises:
        ProfileError: The file is missing, or holds the weights of another network.
    """
    network = NETWORKS[role](classes)
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        raise ProfileError(str(path), "no such file", f"it should hold the {role}'s weights") from None
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ProfileError(str(path), f"does not hold the {role}'s weights ({reason})", "calibrate anew") from None
    return network.eval()


def save_network(network: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors."""
    safetensors.torch.save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)


@lru_cache(maxsize=8)
def exported(path: Path, role: str, classes: int) -> bytes:
    """Return the ONNX model of weights on disk; it is exported when first used and kept in the cache folder.

    Args:
        path: The weights.
        role: "student" or "teacher".
        classes: Number of classes.
    """
    network = load_network(path, role, classes)
    # What the exporter writes depends on its own version as well as on the weights.
    key = hashlib.sha256(f"{sha256(path)} {role} torch {torch.__version__} ort {onnxruntime.__version__}".encode())
    kept = cache_folder() / f"{role}-{key.hexdigest()[:16]}.onnx"
    with suppress(OSError, DecodeError, CalibrationError):
        # A file cut short does not parse or lacks a parameter; the weights themselves come from the network.
        return bytes(replaced(onnx.load_from_string(kept.read_bytes()), fused(network)).SerializeToString())
    model = export(network)
    with suppress(OSError):  # a cache that cannot be written only costs time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(model)
        Path(file.name).replace(kept)
    return model
