"""The real loop: sample, label with the teacher, train, export, check, swap. There is one implementation."""

from orric.exceptions import extra

# Told here, for the whole folder, before any of its modules stumbles over one of them.
with extra("models"):
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    import safetensors  # noqa: F401
    import torch  # noqa: F401
