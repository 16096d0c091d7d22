"""The real loop: sample, label with the teacher, train, export, check, swap. There is one implementation."""

from importlib.util import find_spec

from orric.exceptions import extra

# Told here, for the whole folder, before any of its modules stumbles over one of them. They are looked for and not
# imported: a process that serves alone starts without torch.
with extra("models"):
    for name in ("onnx", "onnxruntime", "onnxscript", "safetensors", "torch"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
