"""What clients may send, as the daemon's document describes it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


Requests = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class StreamRequests(_Body):
    """How many requests a stream will have in the slot."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    requests: Requests


class Observed(_Body):
    """What happened to a stream in the slot before."""

    stream: Annotated[str, Field(min_length=1, max_length=256)]
    requests: Requests
    served: Requests
    late: Requests = 0.0
    shed: Requests = 0.0
    retrained: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    agreement: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    abandoned: Requests = 0.0
    lost: Requests = 0.0
    waiting: Requests = 0.0
    labels: Requests = 0.0


class Decide(_Body):
    """A slot to be decided."""

    streams: Annotated[list[StreamRequests], Field(min_length=1, max_length=1000)]
    budget_macs: Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)] | None = None
    observed: Annotated[list[Observed], Field(max_length=1000)] = []


class Truth(_Body):
    """True classes of the images of an earlier inference request."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    labels: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, max_length=4096)]


class Pin(_Body):
    """A version to serve from now on; the present one when left out."""

    version: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    error: str


# A request of inference in JSON; bytes may stand in place of its data.
INFERENCE: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
        "inputs": {
            "type": "array", "minItems": 1, "maxItems": 1,
            "items": {
                "type": "object", "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"const": "images"}, "datatype": {"const": "UINT8"},
                    "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4},
                    "data": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
                },
            },
        },
        "outputs": {
            "type": "array", "maxItems": 1,
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"const": "logits"}}},
        },
    },
}  # fmt: skip
