"""Open and run ONNX models. It needs no torch, so that a server starts at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

Array = np.ndarray[Any, np.dtype[np.float32]]
BATCH = 32


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
    return np.concatenate([session.run(None, {name: part})[0] for part in batches(inputs)])


def batches(inputs: Array) -> list[Array]:
    """Return inputs in parts of `BATCH`."""
    return [inputs[at : at + BATCH] for at in range(0, len(inputs), BATCH)]
