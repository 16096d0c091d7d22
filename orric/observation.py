"""What an allocator learns of one stream after a slot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Observation:
    """What an allocator learns of one stream after a slot. Never the true accuracy.

    Attributes:
        slot: Index of the slot, from 1.
        stream: Name of the stream.
        requests: Requests that arrived.
        served: Requests served in the slot.
        late: Those of them that missed their deadline.
        shed: Requests turned away.
        retrained: Part of the allocated retraining work that finished, in [0, 1].
        agreement: Part of the labelled samples on which student and teacher agreed, or None without labels.
        attention: How alike the places are that student and teacher look at, on labelled samples, within 0 and 1; None
            where nobody watches.
        abandoned: Requests that left before anybody served them.
        lost: Requests that a crash took along.
        waiting: Requests that wait, or are in service, at the slot's end.
        retraining: Name of the retraining configuration that was chosen; "" where it was not told.
        inference: Name of the inference configuration that was chosen; "" where it was not told.
        labels: How many samples the agreement was measured on; 0 where there was none or it was not told.
        inference_share: The share of its GPU that the allocator gave for serving it; None where it gave none, or it was
            not told.
        budget_macs: C(t) of its GPU; 0 where it was not told.
        told: D(t) as the slot told it; 0 where that is not known.
        gpu: Name of the GPU that served it; "" where it was not told.
    """

    slot: int
    stream: str
    requests: float
    served: float
    late: float
    shed: float
    retrained: float
    agreement: float | None
    attention: float | None = None
    abandoned: float = 0.0
    lost: float = 0.0
    waiting: float = 0.0
    retraining: str = ""
    inference: str = ""
    labels: float = 0.0
    inference_share: float | None = None
    budget_macs: float = 0.0
    told: float = 0.0
    gpu: str = ""
