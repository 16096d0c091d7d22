"""Networks as ONNX models: export once, replace the weights often, run by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from orric.exceptions import CalibrationError
from orric.vision.networks import fused

Array = np.ndarray[Any, np.dtype[np.float32]]
TOLERANCE = 1e-4
BATCH = 32


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
    # Replacing the weights by themselves shows that every parameter has an initializer of its own.
    return bytes(replaced(program.model_proto, twin).SerializeToString())


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


def replaced(model: onnx.ModelProto, twin: nn.Module) -> onnx.ModelProto:
    """Return a copy of a model with the weights of a folded network.

    Args:
        model: Made by `export`.
        twin: Folded by `orric.vision.networks.fused`, of the architecture that was exported.

    Raises:
        CalibrationError: Parameters and initializers do not match one to one.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    initializers = {initializer.name: initializer for initializer in copy.graph.initializer}
    state = dict(twin.named_parameters())
    missing = sorted(set(state) - set(initializers))
    if missing:
        raise CalibrationError(
            "ONNX export",
            f"parameter {missing[0]!r} has no initializer of its own",
            "export trained weights: equal ones are merged",
        )
    for name, parameter in state.items():
        values = parameter.detach().numpy()
        if tuple(initializers[name].dims) != values.shape:
            raise CalibrationError(
                "ONNX export",
                f"initializer {name!r} has shape {tuple(initializers[name].dims)}",
                f"expected {values.shape}",
            )
        initializers[name].CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
    return copy


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Open a model on the processor with one thread, so that outputs do not depend on the number of cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, inputs: Array) -> Array:
    """Run a session over inputs of any number in batches of `BATCH`.

    Args:
        session: From `open_session`.
        inputs: Shape (n, 3, height, width).

    Returns:
        Logits of shape (n, classes).
    """
    name = session.get_inputs()[0].name
    if not len(inputs):
        return np.empty((0, session.get_outputs()[0].shape[1]), np.float32)
    parts = [session.run(None, {name: inputs[at : at + BATCH]})[0] for at in range(0, len(inputs), BATCH)]
    return np.concatenate(parts)


def check_equal(session: onnxruntime.InferenceSession, network: nn.Module, inputs: Array, where: str) -> float:
    """Compare a session's outputs with torch's.

    Args:
        session: The exported model.
        network: The network in evaluation mode.
        inputs: Shape (n, 3, height, width).
        where: For the message.

    Returns:
        The largest absolute difference.

    Raises:
        CalibrationError: It exceeds 1e-4.
    """
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs)).numpy()
    difference = float(np.abs(run(session, inputs) - expected).max(initial=0.0))
    if not difference <= TOLERANCE:
        raise CalibrationError(
            where,
            f"ONNX Runtime and torch differ by {difference:.3g}, above {TOLERANCE:g}",
            "the swapped weights do not belong to the exported model; export it again",
        )
    return difference
