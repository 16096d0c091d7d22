"""The records of a journal as closed schemas: what lies on a disk may have been written by anybody."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from orric.configuration import StreamAllocation
from orric.edge.journal import Record
from orric.records import Observation

Index = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**15)]
Amount = Annotated[float, Field(ge=0)]


class _Closed(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _fields(kind: type[Any]) -> dict[str, Any]:
    """Return the fields of a dataclass for `create_model`: those that have a default may be missing."""
    hints = get_type_hints(kind)
    return {
        one.name: (hints[one.name], ... if one.default is dataclasses.MISSING else one.default)
        for one in dataclasses.fields(kind)
    }


# What asdict makes of them; fields that a release adds have defaults, so that the records of before stay whole.
_Seen: Any = create_model("_Seen", __base__=_Closed, **_fields(Observation))
_Allocated: Any = create_model("_Allocated", __base__=_Closed, **_fields(StreamAllocation))


class _Backoff(_Closed):
    """Of `orric.edge.backoff`."""

    most: str
    rest: Whole
    next_rest: Index
    through: Whole
    why: str


class _Episode(_Closed):
    kind: Literal["episode"]
    total: Whole
    of: dict[str, Any]
    paused: bool
    forecast: Amount | None
    profile: str | None = None
    backoff: _Backoff | None = None


class _Decision(_Closed):
    kind: Literal["decision"]
    slot: Index
    budget_macs: Amount
    requests: list[Amount] = Field(min_length=1)
    streams: list[_Allocated] = Field(min_length=1)
    reason: str
    overloaded: bool
    beside: dict[str, list[_Allocated]]
    backlogs: list[Amount] = []
    observed: list[_Seen] = []
    late_s: Amount = 0.0
    missed: Whole = 0


class _Observation(_Closed):
    kind: Literal["observation"]
    seen: _Seen
    forecast: Amount | None
    executed: str | None = None
    backoff: _Backoff | None = None


class _Control(_Closed):
    kind: Literal["control"]
    what: str
    paused: bool


_RECORD: TypeAdapter[Any] = TypeAdapter(
    Annotated[_Episode | _Decision | _Observation | _Control, Field(discriminator="kind")]
)


def follows(records: Sequence[Record], record: Record) -> bool:
    """Say whether a record is one that the daemon writes, and may stand behind others.

    Args:
        records: Those before it, of the same episode.
        record: As it was read.
    """
    try:
        _RECORD.validate_python(record)
    except ValidationError:
        return False
    kind = record["kind"]
    if kind == "episode" or not records:
        return kind == "episode" and not records
    last = next((one["slot"] for one in reversed(records) if one["kind"] == "decision"), 0)
    if kind == "decision":
        first = next((one for one in records if one["kind"] == "decision"), record)
        streams = len(first["streams"])
        whole = len(record["streams"]) == len(record["requests"]) == streams
        return record["slot"] == last + 1 and whole and len(record.get("backlogs", ())) in (0, streams)
    return kind == "control" or bool(record["seen"]["slot"] == last)
