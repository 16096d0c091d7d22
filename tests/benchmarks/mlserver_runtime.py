"""The digits' student behind MLServer, as serving.py compares it: run by MLServer in an environment without orric."""

from __future__ import annotations

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Student(MLModel):
    """An ONNX model that is given images as bytes."""

    async def load(self) -> bool:
        """Open the model with one thread, as the daemon does."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = await get_model_uri(self.settings)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Turn images into the network's input, as the daemon does, and answer with its outputs."""
        images = NumpyCodec.decode_input(payload.inputs[0])
        inputs = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32)
        inputs /= np.float32(255)
        outputs = self._session.run(None, {self._name: inputs})[0]
        return InferenceResponse(
            id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output("logits", outputs)]
        )
