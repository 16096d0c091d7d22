"""Reading a user's ONNX model, and refusing in one line what is no image classifier of any input size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnxruntime
from google.protobuf.message import DecodeError, EncodeError

from orric.exceptions import ProfileError
from orric.vision.onnx_export import check_outputs, outputs_of
from orric.vision.onnx_network import OnnxNetwork
from orric.vision.onnx_sessions import open_session, run

PROBED_PX = (20, 24, 28, 32)
WANTED = "one input of 32-bit floats of shape (n, 3, height, width) is wanted"
EXPORT = 'torch.onnx.export(..., dynamic_shapes=({0: "batch", 2: "height", 3: "width"},), dynamo=True)'


def load_onnx(
    path: Path, role: str, classes: int | None = None, resolutions_px: Sequence[int] = PROBED_PX
) -> onnx.ModelProto:
    """Read a classifier of images from an ONNX file, with the data that lies beside it.

    Args:
        path: The file.
        role: "student" or "teacher", for messages.
        classes: Number of classes, or None for any.
        resolutions_px: Sides of the square images that it must take.

    Returns:
        The model with one input and one output of shape (n, classes): the first such output of the file.

    Raises:
        ProfileError: The file is missing, damaged, no image classifier, of one fixed input size, or of other classes.
    """
    where = str(path)
    model = _read(path, role)
    session = _opened(model, where)
    name = _image_input(session, where, resolutions_px)
    position, found = _class_output(session, name, where, resolutions_px)
    if classes is not None and found != classes:
        remedy = f"the {role} must know the data set's own classes"
        raise ProfileError(where, f"tells {found} classes apart and the data set has {classes}", remedy)
    chosen = session.get_outputs()[position].name
    for index in reversed(range(len(model.graph.output))):
        if model.graph.output[index].name != chosen:
            del model.graph.output[index]
    return model


def load_onnx_network(
    path: Path, role: str, classes: int | None = None, resolutions_px: Sequence[int] = PROBED_PX
) -> tuple[OnnxNetwork, onnx.ModelProto]:
    """Read a classifier as `load_onnx` does, and as a torch network that gives the same outputs.

    Returns:
        The network in evaluation mode, and the model, simplified (`orric.vision.onnx_network.simplify`) so that every
        weight of the network is one of its initializers.

    Raises:
        ProfileError: See `load_onnx`; or an operator cannot be retrained.
        CalibrationError: ONNX Runtime and torch differ at a resolution.
    """
    model = load_onnx(path, role, classes, resolutions_px)
    # Both are compared with the file as it is, before anything was simplified.
    session = _opened(model, str(path))
    network = OnnxNetwork(model, str(path)).eval()
    simplified = _opened(model, str(path))
    for px in resolutions_px:
        images = np.random.default_rng(px).random((4, 3, px, px), np.float32)
        expected = run(session, images)
        for outputs in (outputs_of(network, images), run(simplified, images)):
            check_outputs(outputs, expected, f"{path} at {px} px", True, "it can be served and not be retrained")
    return network, model


def external_files(model: onnx.ModelProto) -> set[str]:
    """Return the names of the files beside a model that hold weights of it."""
    kept = (entry for one in model.graph.initializer for entry in one.external_data)
    return {str(entry.value) for entry in kept if entry.key == "location"}


def _read(path: Path, role: str) -> onnx.ModelProto:
    where = str(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise ProfileError(where, "no such file", f"it should hold the {role}") from None
    except (OSError, DecodeError) as error:
        raise ProfileError(where, f"is no ONNX model, or cut short ({_line(error)})", "export it anew") from None
    if not model.graph.node:
        raise ProfileError(where, "is no ONNX model: it has no operators", "export it anew")
    for beside in external_files(model):
        if not (path.parent / beside).is_file():
            found = f"its weights lie in {beside!r}, and there is no such file beside it"
            raise ProfileError(where, found, "copy that file too, or export with external_data=False")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ProfileError(where, f"the weights beside it cannot be read ({_line(error)})", "export it anew") from None
    return model


def _opened(model: onnx.ModelProto, where: str) -> onnxruntime.InferenceSession:
    try:
        return open_session(model.SerializeToString())
    except (ValueError, EncodeError) as error:
        raise ProfileError(where, f"is too large ({_line(error)})", "at most 2 GB fit into a model") from None
    except Exception as error:  # ONNX Runtime's own exceptions have no common root of theirs
        raise ProfileError(where, f"ONNX Runtime does not load it ({_line(error)})", "export it anew") from None


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _image_input(session: onnxruntime.InferenceSession, where: str, resolutions_px: Sequence[int]) -> str:
    """Return the name of the only input, if images of any number and size fit in."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(repr(one.name) for one in inputs) or "none"
        raise ProfileError(where, f"is not an image classifier: it has {len(inputs)} inputs ({names})", WANTED)
    (one,) = inputs
    shape: list[Any] = list(one.shape or [])
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3) or one.type != "tensor(float)":
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        found = f"is not an image classifier: its input {one.name!r} is a {one.type} of shape ({sizes})"
        raise ProfileError(where, found, WANTED)
    if isinstance(shape[2], int) or isinstance(shape[3], int):
        wanted = ", ".join(str(px) for px in resolutions_px)
        found = f"takes images of {shape[2]} x {shape[3]} pixels only, and {wanted} are wanted"
        raise ProfileError(where, found, f"export it with dynamic axes for height and width: {EXPORT}")
    if isinstance(shape[0], int):
        found = f"takes {shape[0]} image(s) at a time only"
        raise ProfileError(where, found, f"export it with a dynamic axis for the batch: {EXPORT}")
    return str(one.name)


def _class_output(
    session: onnxruntime.InferenceSession, name: str, where: str, resolutions_px: Sequence[int]
) -> tuple[int, int]:
    """Return which output has one row per image, and its number of classes, alike at every resolution."""
    found: dict[tuple[int, int], None] = {}
    for px in resolutions_px:
        try:
            outputs = session.run(None, {name: np.full((3, 3, px, px), 0.5, np.float32)})
        except Exception as error:  # ONNX Runtime's own exceptions have no common root of theirs
            reason = f"does not run on images of {px} x {px} pixels ({_line(error)})"
            raise ProfileError(where, reason, f"export it with dynamic axes for height and width: {EXPORT}") from None
        for position, values in enumerate(outputs):
            if getattr(values, "ndim", 0) == 2 and len(values) == 3 and values.dtype == np.float32:
                found[position, values.shape[1]] = None
                break
        else:
            shapes = ", ".join(str(tuple(getattr(values, "shape", ()))) for values in outputs)
            reason = f"is not a classifier: for 3 images it gives {shapes}"
            raise ProfileError(where, reason, "one output of 32-bit floats of shape (n, classes) is wanted")
    if len(found) > 1:
        raise ProfileError(where, "the shape of its output follows the resolution", "average over positions")
    return next(iter(found))
