"""The Open Inference Protocol: what is read, what is refused, and what no bytes can do."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orric.edge.config import Server
from orric.edge.protocol import BadRequestError, answered, decompressed, parsed

SERVER = Server(most_images=4)
IMAGES = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)


def body(**changes: Any) -> dict[str, Any]:
    """Return a request in JSON with some keys of its tensor changed."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": [2, 32, 32, 3], "data": IMAGES.ravel().tolist()}
    return {"inputs": [{**tensor, **changes}]}


def binary(raw: bytes, **changes: Any) -> tuple[bytes, str]:
    """Return a request with bytes behind its JSON, and the JSON's length."""
    table = body(parameters={"binary_data_size": len(raw)}, **changes)
    del table["inputs"][0]["data"]
    head = json.dumps(table).encode()
    return head + raw, str(len(head))


def test_tensors_come_as_numbers_nested_numbers_and_bytes() -> None:
    for table in (body(), body(data=IMAGES.tolist())):
        found = parsed(json.dumps(table).encode(), None, SERVER)
        assert np.array_equal(found.images, IMAGES)
        assert not found.binary
    content, length = binary(IMAGES.tobytes())
    assert np.array_equal(parsed(content, length, SERVER).images, IMAGES)


@pytest.mark.parametrize(
    ("table", "status", "told"),
    [
        ([], 400, "no JSON object"),
        ({}, 400, "give one input"),
        ({"inputs": []}, 400, "give one input"),
        (body(name="image"), 400, "the input is called 'images'"),
        (body(datatype="FP32"), 400, "the datatype of 'images' is UINT8"),
        (body(shape=[2, 3, 32, 32]), 400, "the shape of 'images' is"),
        (body(shape=[0, 32, 32, 3]), 400, "n at least 1"),
        (body(shape=[True, 32, 32, 3]), 400, "n at least 1"),
        (body(shape=[9, 32, 32, 3]), 413, "4 images at most"),
        (body(shape=[1, 32, 32, 3]), 400, "3072 whole numbers from 0 to 255"),
        (body(data=[256] * 6144), 400, "whole numbers from 0 to 255"),
        (body(data=[0.5] * 6144), 400, "whole numbers"),
        (body(data=["a"] * 6144), 400, "whole numbers"),
        (body(data=[[1], [1, 2]]), 400, "whole numbers"),
        (body(data=[10**40] * 6144), 400, "whole numbers"),
        (body(data=None), 400, "whole numbers"),
        (body(data=["x" * 100_000, *[""] * 6143]), 400, "whole numbers"),
        (body(data=[[[[[[1]]]]]]), 400, "whole numbers"),
        (body(data=[True] * 6144), 400, "whole numbers"),
        (body(parameters=[]), 400, "parameters are no JSON object"),
        (body(parameters={"binary_data_size": 6144}), 400, "0 bytes follow the JSON"),
        ({**body(), "id": 7}, 400, "id is no text"),
        ({**body(), "outputs": [{"name": "other"}]}, 400, "there is one output"),
        ({**body(), "outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, 400, "classification"),
    ],
)
def test_what_is_wrong_is_told(table: Any, status: int, told: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        parsed(json.dumps(table).encode(), None, SERVER)
    assert caught.value.status == status
    assert told in caught.value.message


def test_parameters_may_be_null() -> None:
    table = {**body(parameters=None), "parameters": None, "outputs": [{"name": "logits", "parameters": None}]}
    assert np.array_equal(parsed(json.dumps(table).encode(), None, SERVER).images, IMAGES)


def test_bytes_without_the_length_of_the_json_are_explained() -> None:
    content, _ = binary(IMAGES.tobytes())
    large, _ = binary(bytes(200_000))
    for wrong in (content, large):
        with pytest.raises(BadRequestError, match="need Inference-Header-Content-Length"):
            parsed(wrong, None, SERVER)
    with pytest.raises(BadRequestError, match=r"0 bytes follow.*need Inference-Header-Content-Length"):
        parsed(json.dumps(body(parameters={"binary_data_size": 6144})).encode(), None, SERVER)


def test_only_data_may_be_long_and_it_may_stand_anywhere() -> None:
    note = "x" * 60_000
    assert parsed(json.dumps({"note": note, **body()}).encode(), None, SERVER).images.shape == IMAGES.shape
    with pytest.raises(BadRequestError, match="larger than 65536 bytes without the data"):
        parsed(json.dumps({"note": note * 2, **body()}).encode(), None, SERVER)
    tensor = body()["inputs"][0]
    elsewhere = {"parameters": {"data": [1, 2]}, "inputs": [{"data": tensor.pop("data"), **tensor}], "id": '"data":[9]'}
    found = parsed(json.dumps(elsewhere).encode(), None, SERVER)
    assert np.array_equal(found.images, IMAGES)
    assert found.identity == '"data":[9]'
    for deep in ("[" * 100_000, '{"a":' * 20_000, '{"inputs":[{"data":' + "[" * 200_000):
        with pytest.raises(BadRequestError):
            parsed(deep.encode(), None, SERVER)


def test_bytes_that_do_not_fit() -> None:
    content, length = binary(IMAGES.tobytes())
    for wrong, header in (
        (content[:-1], length), (content + b"x", length), (content, "x"), (content, "-1"), (content, "9" * 11),
        (content, str(len(content) + 1)), (content, "5"), (content, None), (b"\xff" * 100, None), (b"", None),
        (b"[" * 100_000, None),
    ):  # fmt: skip
        with pytest.raises(BadRequestError):
            parsed(wrong, header, SERVER)


def test_bodies_come_compressed_and_no_larger_than_allowed() -> None:
    plain = b"x" * 5000
    assert decompressed(gzip.compress(plain), "gzip", 5000) == plain
    assert decompressed(zlib.compress(plain), "deflate", 5000) == plain
    for content, encoding, status in (
        (gzip.compress(b"x" * 10_000_000), "gzip", 413), (plain, "gzip", 400), (gzip.compress(plain)[:-9], "gzip", 400),
        (plain, "br", 415),
    ):  # fmt: skip
        with pytest.raises(BadRequestError) as caught:
            decompressed(content, encoding, 5000)
        assert caught.value.status == status


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.one_of(st.none(), st.text(max_size=8), st.integers(0, 300).map(str)))
def test_no_bytes_do_anything_but_be_refused(content: bytes, header: str | None) -> None:
    with pytest.raises(BadRequestError):
        parsed(content, header, SERVER)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), VALUES)
def test_no_value_of_a_key_does_anything_but_be_refused(key: str, value: Any) -> None:
    expected = contextlib.suppress(BadRequestError) if key == "parameters" else pytest.raises(BadRequestError)
    with expected:  # parameters may hold anything that says nothing
        parsed(json.dumps(body(**{key: value})).encode(), None, SERVER)


def test_answers_name_the_version_and_come_as_asked() -> None:
    outputs = np.array([[0.5, 2.0, -1.0]], np.float32)
    asked = parsed(json.dumps({**body(), "id": "seven"}).encode(), None, SERVER)
    content, length = answered(asked, outputs, "digits", 3, ())
    table = json.loads(content)
    assert length is None
    assert (table["model_version"], table["id"]) == ("3", "seven")
    assert table["outputs"][0]["data"] == [0.5, 2.0, -1.0]
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
    asked = parsed(json.dumps({**body(), "outputs": wanted}).encode(), None, SERVER)
    content, length = answered(asked, outputs, "digits", 3, ())
    assert np.frombuffer(content[length:], "<f4").tolist() == [0.5, 2.0, -1.0]
    wanted = [{"name": "logits", "parameters": {"classification": 2}}]
    asked = parsed(json.dumps({**body(), "outputs": wanted}).encode(), None, SERVER)
    tensor = json.loads(answered(asked, outputs, "digits", 3, ("a", "b", "c"))[0])["outputs"][0]
    assert tensor["data"] == ["2.000000:1:b", "0.500000:0:a"]
