"""Networks as ONNX models: export once, replace the weights often, run by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from orric.exceptions import CalibrationError
from orric.vision.blocks import fused
from orric.vision.onnx_sessions import Array, run

TOLERANCE = 1e-4


def export(network: nn.Module) -> bytes:
    """Export a trained network with dynamic batch, height and width.

    Batch norms are folded first, so the model's initializers are the folded network's parameters by name.

    Args:
        network: A trained network of `orric.vision.networks`. (Exporting untrained weights would merge
            equal biases, and replacing them later would silently go wrong.)

    Returns:
        The serialized model.

    Raises:
        CalibrationError: The exporter did not keep one initializer per parameter.
    """
    twin = fused(network)
    with _quiet():
        program = torch.onnx.export(
            twin,
            (torch.zeros(2, 3, 32, 32),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
        )
    assert program is not None
    model = program.model_proto
    # Replacing the weights by themselves shows that every parameter has an initializer of its own.
    replace(model, dict(twin.named_parameters()))
    return bytes(model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's reports on itself from the user: absent torchvision, steps of its optimizer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def replace(model: onnx.ModelProto, weights: Mapping[str, Tensor]) -> None:
    """Write new weights into a model's initializers, in place.

    Args:
        model: Made by `export`, or a user's own.
        weights: By the names of the initializers.

    Raises:
        CalibrationError: A weight has no initializer, or one of another shape; the model is left as it was.
    """
    initializers = {initializer.name: initializer for initializer in model.graph.initializer}
    missing = sorted(set(weights) - set(initializers))
    if missing:
        raise CalibrationError(
            "ONNX export",
            f"parameter {missing[0]!r} has no initializer of its own",
            "export trained weights: equal ones are merged",
        )
    for name, values in weights.items():
        if tuple(initializers[name].dims) != tuple(values.shape):
            raise CalibrationError(
                "ONNX export",
                f"initializer {name!r} has shape {tuple(initializers[name].dims)}",
                f"expected {tuple(values.shape)}",
            )
    for name, values in weights.items():
        array = np.ascontiguousarray(values.detach().cpu().numpy())
        initializers[name].CopyFrom(onnx.numpy_helper.from_array(array, name))


def check_equal(
    session: onnxruntime.InferenceSession, network: nn.Module, inputs: Array, where: str, relative: bool = False
) -> float:
    """Compare a session's outputs with torch's.

    Args:
        session: The exported model.
        network: The network in evaluation mode.
        inputs: Shape (n, 3, height, width).
        where: For the message.
        relative: See `check_outputs`.

    Returns:
        The largest absolute difference.

    Raises:
        CalibrationError: It exceeds 1e-4.
    """
    return check_outputs(run(session, inputs), outputs_of(network, inputs), where, relative)


def outputs_of(network: nn.Module, inputs: Array) -> Array:
    """Return what torch gives for inputs of shape (n, 3, height, width)."""
    device = next((values.device for values in network.parameters()), torch.device("cpu"))
    with torch.no_grad():
        outputs: Array = network(torch.from_numpy(inputs).to(device)).cpu().numpy()
    return outputs


def check_outputs(
    found: Array,
    expected: Array,
    where: str,
    relative: bool = False,
    remedy: str = "the weights do not belong to the model; export it again",
) -> float:
    """Compare what ONNX Runtime gave with what torch gave for the same inputs.

    Args:
        found: Shape (n, classes).
        expected: Shape (n, classes).
        where: For the message.
        relative: Whether the tolerance grows with the largest output beyond 1. The outputs of the project's own small
            networks are small; a network from elsewhere may have any.
        remedy: For the message.

    Returns:
        The largest absolute difference.

    Raises:
        CalibrationError: It exceeds 1e-4, or torch's outputs are no numbers.
    """
    if not np.isfinite(expected).all():
        wrong = "the network's outputs are no numbers, as after a training that diverged"
        raise CalibrationError(where, wrong, "lower learning_rate, or give other weights")
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))) if relative else TOLERANCE
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= tolerance or difference == np.inf:
        raise CalibrationError(
            where,
            f"ONNX Runtime and torch differ by {difference:.3g}, above {tolerance:g}",
            remedy,
        )
    return difference
