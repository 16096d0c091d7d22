"""The Open Inference Protocol (KServe v2) over HTTP: tensors as JSON or, by Triton's extension, as bytes."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.edge.config import Server
from orric.edge.numbers import numbers
from orric.exceptions import extra
from orric.vision.datasets import FULL_PX, Pixels

with extra("edge"):
    import msgspec

INPUT, OUTPUT = "images", "logits"
HEADER_LENGTH = "inference-header-content-length"
SHAPE = (FULL_PX, FULL_PX, 3)
EACH = FULL_PX * FULL_PX * 3
EXTENSIONS = ["binary_tensor_data"]
# Bytes of a request's JSON at most, without the data of its images.
JSON_BYTES = 1 << 16
# What decompresses to no more than this may do so at any ratio: 170 black images as JSON, of which
# deflate makes a thousandth, where it makes a third of photographs.
SMALL_BYTES = 1 << 20
HINT = "bytes behind the JSON need Inference-Header-Content-Length, the length of the JSON"
_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*\[')


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


def decompressed(body: bytes, encoding: str, most: int, ratio: float = 100.0) -> bytes:
    """Return a body without its content encoding.

    Args:
        body: As it came.
        encoding: gzip, deflate, or none.
        most: Bytes that it may have in the end.
        ratio: How often its size it may have, once that is more than any ratio may give.

    Raises:
        BadRequestError: The encoding is unknown, the body is damaged, or larger than allowed.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadRequestError(415, f"content encoding {encoding[:20]!r} is unknown; use gzip, deflate or none")
    reader = zlib.decompressobj(47 if encoding == "gzip" else 15)
    allowed = min(most, max(SMALL_BYTES, int(ratio * len(body))))
    try:
        found = reader.decompress(body, allowed + 1)
    except zlib.error:
        raise BadRequestError(400, f"the body is not {encoding}") from None
    if len(found) > allowed:
        if allowed < most:
            raise BadRequestError(413, f"the body is more than {ratio:g} times larger than it came; send it as it is")
        raise BadRequestError(413, f"the body is larger than {most} bytes")
    if not reader.eof:
        raise BadRequestError(400, f"the body is not {encoding}")
    return found


class _Tensor(msgspec.Struct):
    name: Any = None
    datatype: Any = None
    shape: Any = None
    parameters: Any = None
    data: msgspec.Raw = msgspec.Raw()


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: Any = None
    parameters: Any = None
    outputs: Any = None


_DECODER = msgspec.json.Decoder(_Request)


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
    table, array = _table(body[:length] if length < len(body) else body, hinted=header_length is None)
    if len(table.inputs) != 1:
        raise BadRequestError(400, f"give one input, {INPUT!r}")
    identity = table.id
    if identity is not None and (not isinstance(identity, str) or len(identity) > 256):
        raise BadRequestError(400, "id is no text of at most 256 characters")
    binary, classes = _wanted(table)
    images = _images(table.inputs[0], body, array, length, server)
    return Inference(images, identity, binary, classes)


def _table(content: bytes, hinted: bool) -> tuple[_Request, tuple[int, int] | None]:
    """Return what the JSON holds, and where its long array stands, which was taken out before it was parsed.

    Nothing but the array may be long, and the array never meets the parser: so no body is costly to parse.
    """
    array = None
    begun = _DATA.search(content, 0, JSON_BYTES)
    if begun is not None:
        # Numbers hold neither quotes nor braces: one of them comes behind the array, or what is there is no array.
        after = min(at for at in (content.find(b'"', begun.end()), content.find(b"}", begun.end()), 1 << 62) if at >= 0)
        end = content.rfind(b"]", begun.end(), after) + 1
        if end:
            array = begun.end() - 1, end
    left = len(content) - (array[1] - array[0] if array is not None else 0)
    if left > JSON_BYTES:
        if hinted and b"binary_data_size" in content[:JSON_BYTES]:
            raise BadRequestError(400, HINT)
        if begun is not None:
            raise BadRequestError(400, f"data of {INPUT!r} holds more than whole numbers from 0 to 255")
        raise BadRequestError(413, f"the JSON is larger than {JSON_BYTES} bytes without the data of {INPUT!r}")
    if array is not None:
        content = b"".join((content[: array[0]], b"[]", content[array[1] :]))
    try:
        return _DECODER.decode(content), array
    except msgspec.ValidationError as error:
        found = str(error)
        if "inputs" in found and "range" not in found:
            raise BadRequestError(400, f"give one input, {INPUT!r}") from None
        if "range" in found:
            raise BadRequestError(400, "the body holds a number that is out of range") from None
        raise BadRequestError(400, "the body is no JSON object") from None
    except (ValueError, RecursionError):
        if hinted and b"binary_data_size" in content:
            raise BadRequestError(400, HINT) from None
        raise BadRequestError(400, "the body is not valid JSON") from None


def _wanted(table: _Request) -> tuple[bool, int]:
    """Return whether outputs are wanted as bytes, and how many classes in place of them."""
    binary = _parameters(table.parameters).get("binary_data_output", False) is True
    classes = 0
    outputs = table.outputs
    if outputs is not None:
        if not isinstance(outputs, list) or len(outputs) > 1:
            raise BadRequestError(400, f"there is one output, {OUTPUT!r}")
        for one in outputs:
            if not isinstance(one, dict) or one.get("name") != OUTPUT:
                raise BadRequestError(400, f"there is one output, {OUTPUT!r}")
            parameters = _parameters(one.get("parameters"))
            binary = parameters.get("binary_data", binary) is True
            classes = parameters.get("classification", 0)
            if not isinstance(classes, int) or isinstance(classes, bool) or not 0 <= classes <= 1000:
                raise BadRequestError(400, "classification is no number from 0 to 1000")
    return binary, classes


def _images(tensor: _Tensor, body: bytes, array: tuple[int, int] | None, length: int, server: Server) -> Pixels:
    """Return the images of the input tensor.

    Args:
        tensor: As the JSON describes it.
        body: All of it.
        array: Where its numbers stand in the body.
        length: Of the JSON.
        server: Limits.
    """
    raw = memoryview(body)[length:]
    if tensor.name != INPUT:
        raise BadRequestError(400, f"the input is called {INPUT!r}")
    if tensor.datatype != "UINT8":
        raise BadRequestError(400, f"the datatype of {INPUT!r} is UINT8")
    shape = tensor.shape
    wanted = f"the shape of {INPUT!r} is [n, {FULL_PX}, {FULL_PX}, 3]"
    if not isinstance(shape, list) or len(shape) != 4 or tuple(shape[1:]) != SHAPE:
        raise BadRequestError(400, wanted)
    count = shape[0]
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise BadRequestError(400, f"{wanted}, n at least 1")
    if count > server.most_images:
        raise BadRequestError(413, f"a request has {server.most_images} images at most")
    size = _parameters(tensor.parameters).get("binary_data_size")
    if size is not None:
        if not isinstance(size, int) or isinstance(size, bool) or size != count * EACH or len(raw) != size:
            found = f"{len(raw)} bytes follow the JSON, binary_data_size is {str(size)[:20]}, {count * EACH} are wanted"
            raise BadRequestError(400, found if len(raw) else f"{found}; {HINT}")
        return np.frombuffer(raw, np.uint8).reshape(count, *SHAPE)
    if len(raw):
        raise BadRequestError(400, "bytes follow the JSON, and the input has no binary_data_size")
    data = bytes(tensor.data)
    # The array that was taken out left an empty one behind.
    text, place = (body, array) if array is not None and data == b"[]" else (data, ())
    values = numbers(text, count * EACH, *place)
    if values is None:
        raise BadRequestError(400, f"data of {INPUT!r} holds {count * EACH} whole numbers from 0 to 255")
    return values.reshape(count, *SHAPE)


def _parameters(found: Any) -> dict[str, Any]:
    if found is None:
        return {}
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
    head = msgspec.json.encode(answer)
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
