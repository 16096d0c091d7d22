"""The Open Inference Protocol (KServe v2) over HTTP: tensors as JSON or, by Triton's extension, as bytes."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from orric.edge.config import Server
from orric.vision.datasets import FULL_PX, Pixels

INPUT, OUTPUT = "images", "logits"
HEADER_LENGTH = "inference-header-content-length"
SHAPE = (FULL_PX, FULL_PX, 3)
EACH = FULL_PX * FULL_PX * 3
EXTENSIONS = ["binary_tensor_data"]
# Rows, columns and colours of images: deeper nesting is no tensor.
DEEPEST = 5


class BadRequestError(Exception):
    """A request that cannot be answered, with what to tell the client.

    Args:
        status: Of HTTP.
        message: In a line, without anything of this machine.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Inference:
    """A request of inference.

    Attributes:
        images: Shape (n, 32, 32, 3), 0 to 255.
        identity: Given by the client, None where it gave none.
        binary: Whether outputs are wanted as bytes.
        classes: How many of the likeliest classes are wanted in place of outputs, 0 for outputs.
    """

    images: Pixels
    identity: str | None
    binary: bool
    classes: int


def decompressed(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body without its content encoding.

    Raises:
        BadRequestError: The encoding is unknown, the body is damaged, or larger than allowed.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadRequestError(415, f"content encoding {encoding[:20]!r} is unknown; use gzip, deflate or none")
    reader = zlib.decompressobj(47 if encoding == "gzip" else 15)
    try:
        found = reader.decompress(body, most + 1)
    except zlib.error:
        raise BadRequestError(400, f"the body is not {encoding}") from None
    if len(found) > most:
        raise BadRequestError(413, f"the body is larger than {most} bytes")
    if not reader.eof:
        raise BadRequestError(400, f"the body is not {encoding}")
    return found


def parsed(body: bytes, header_length: str | None, server: Server) -> Inference:
    """Read the body of an inference request.

    Args:
        body: JSON, or JSON and the bytes of the tensor behind it.
        header_length: Length of the JSON in bytes, where bytes follow.
        server: Limits.

    Raises:
        BadRequestError: Something is wrong with it.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12):
            raise BadRequestError(400, "Inference-Header-Content-Length is no number")
        length = int(header_length)
        if length > len(body):
            raise BadRequestError(
                400, f"Inference-Header-Content-Length is {length}, and the body has {len(body)} bytes"
            )
    try:
        table = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise BadRequestError(400, "the body is not valid JSON") from None
    if not isinstance(table, dict):
        raise BadRequestError(400, "the body is no JSON object")
    inputs = table.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadRequestError(400, f"give one input, {INPUT!r}")
    identity = table.get("id")
    if identity is not None and (not isinstance(identity, str) or len(identity) > 256):
        raise BadRequestError(400, "id is no text of at most 256 characters")
    binary, classes = _wanted(table)
    images = _images(inputs[0], body[length:], server)
    return Inference(images, identity, binary, classes)


def _wanted(table: dict[str, Any]) -> tuple[bool, int]:
    """Return whether outputs are wanted as bytes, and how many classes in place of them."""
    binary = _parameters(table).get("binary_data_output", False) is True
    classes = 0
    outputs = table.get("outputs")
    if outputs is not None:
        if not isinstance(outputs, list) or len(outputs) > 1:
            raise BadRequestError(400, f"there is one output, {OUTPUT!r}")
        for one in outputs:
            if not isinstance(one, dict) or one.get("name") != OUTPUT:
                raise BadRequestError(400, f"there is one output, {OUTPUT!r}")
            parameters = _parameters(one)
            binary = parameters.get("binary_data", binary) is True
            classes = parameters.get("classification", 0)
            if not isinstance(classes, int) or isinstance(classes, bool) or not 0 <= classes <= 1000:
                raise BadRequestError(400, "classification is no number from 0 to 1000")
    return binary, classes


def _images(tensor: dict[str, Any], raw: bytes, server: Server) -> Pixels:
    """Return the images of the input tensor."""
    if tensor.get("name") != INPUT:
        raise BadRequestError(400, f"the input is called {INPUT!r}")
    if tensor.get("datatype") != "UINT8":
        raise BadRequestError(400, f"the datatype of {INPUT!r} is UINT8")
    shape = tensor.get("shape")
    wanted = f"the shape of {INPUT!r} is [n, {FULL_PX}, {FULL_PX}, 3]"
    if not isinstance(shape, list) or len(shape) != 4 or tuple(shape[1:]) != SHAPE:
        raise BadRequestError(400, wanted)
    count = shape[0]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadRequestError(400, f"{wanted}, n at least 1")
    if count > server.most_images:
        raise BadRequestError(413, f"a request has {server.most_images} images at most")
    size = _parameters(tensor).get("binary_data_size")
    if size is not None:
        if not isinstance(size, int) or isinstance(size, bool) or size != count * EACH or len(raw) != size:
            found = f"{len(raw)} bytes follow the JSON, binary_data_size is {str(size)[:20]}, {count * EACH} are wanted"
            raise BadRequestError(400, found)
        return np.frombuffer(raw, np.uint8).reshape(count, *SHAPE)
    if raw:
        raise BadRequestError(400, "bytes follow the JSON, and the input has no binary_data_size")
    return _numbers(tensor.get("data"), count)


def _numbers(data: Any, count: int) -> Pixels:
    """Return the images of a JSON array, flat or nested."""
    wanted = f"data of {INPUT!r} holds {count * EACH} whole numbers from 0 to 255"
    # What is no list of whole numbers of this length never becomes an array: one long word would fill the memory.
    for _ in range(DEEPEST):
        if not isinstance(data, list) or not data or len(data) > count * EACH:
            raise BadRequestError(400, wanted)
        if not isinstance(data[0], list):
            break
        if any(not isinstance(row, list) for row in data) or sum(map(len, data)) > count * EACH:
            raise BadRequestError(400, wanted)
        data = list(chain.from_iterable(data))
    if len(data) != count * EACH or any(type(number) is not int or not 0 <= number <= 255 for number in data):
        raise BadRequestError(400, wanted)
    return np.array(data, np.uint8).reshape(count, *SHAPE)


def _parameters(owner: dict[str, Any]) -> dict[str, Any]:
    found = owner.get("parameters", {})
    if not isinstance(found, dict):
        raise BadRequestError(400, "parameters are no JSON object")
    return found


def answered(
    request: Inference, outputs: np.ndarray[Any, Any], model: str, version: int, names: tuple[str, ...]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON where bytes follow.

    Args:
        request: What was asked.
        outputs: Shape (n, classes).
        model: The model's name.
        version: Of the student that answered.
        names: Of the classes, () where they are unknown.
    """
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(outputs.shape)}
    raw = None
    if request.classes:
        tensor["datatype"] = "BYTES"
        order = np.argsort(-outputs, axis=1, kind="stable")[:, : request.classes]
        rows = [
            [":".join([f"{row[k]:f}", str(k), *names[k : k + 1]]) for k in chosen.tolist()]
            for row, chosen in zip(outputs, order, strict=True)
        ]
        tensor["shape"] = list(order.shape)
        if request.binary:
            words = [word.encode() for row in rows for word in row]
            raw = b"".join(len(word).to_bytes(4, "little") + word for word in words)
        else:
            tensor["data"] = [word for row in rows for word in row]
    elif request.binary:
        raw = outputs.astype("<f4", copy=False).tobytes()
    else:
        tensor["data"] = outputs.ravel().tolist()
    if raw is not None:
        tensor["parameters"] = {"binary_data_size": len(raw)}
    answer: dict[str, Any] = {"model_name": model, "model_version": str(version)}
    if request.identity is not None:
        answer["id"] = request.identity
    answer["outputs"] = [tensor]
    head = json.dumps(answer, separators=(",", ":")).encode()
    return (head, None) if raw is None else (head + raw, len(head))


def metadata(model: str, versions: list[int], classes: int) -> dict[str, Any]:
    """Return what the protocol tells of a model."""
    return {
        "name": model,
        "versions": [str(version) for version in versions],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, classes]}],
    }
