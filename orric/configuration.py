"""Configurations that can be selected for a slot, and the allocation that selects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from orric.exceptions import OrricError, ProfileError
from orric.section import Amount, Name, Positive, Section


class RetrainingConfiguration(Section):
    """One way to retrain in a slot.

    Attributes:
        name: Unique among the retraining configurations of a profile.
        profit: A_i^T, what one uploaded sample adds to the learning extent, at least 0.
        cost_macs: C_i^T, MACs per uploaded sample, labelling included, at least 0.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    name: Name
    profit: Amount
    cost_macs: Amount


class InferenceConfiguration(Section):
    """One way to serve the requests of a slot.

    Attributes:
        name: Unique among the inference configurations of a profile.
        profit: A_j^I, the accuracy of this configuration divided by the best one's, in (0, 1].
        cost_macs: C_j^I, MACs per request, at least 0.
        latency_s: Seconds per request on the whole device, or None when it was not measured.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    name: Name
    profit: Positive
    cost_macs: Amount
    latency_s: Positive | None = None


Configuration = TypeVar("Configuration", RetrainingConfiguration, InferenceConfiguration)


def undominated(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """Drop every configuration that is at least as dear as another and no better.

    Args:
        configurations: In any order.

    Returns:
        The rest, strictly ascending in cost and in profit; of equals the first one stays.

    >>> cheap = InferenceConfiguration(name="28px", profit=1.0, cost_macs=7.45e6)
    >>> dear = InferenceConfiguration(name="32px", profit=0.87, cost_macs=7.94e6)
    >>> [configuration.name for configuration in undominated([dear, cheap])]
    ['28px']
    """
    kept: list[Configuration] = []
    for configuration in sorted(configurations, key=lambda one: (one.cost_macs, -one.profit)):
        if not kept or configuration.profit > kept[-1].profit:
            kept.append(configuration)
    return tuple(kept)


@dataclass(frozen=True)
class StreamAllocation:
    """What an allocator decides for one stream in one slot.

    Attributes:
        retraining: Name of a retraining configuration.
        inference: Name of an inference configuration.
        inference_share: Share of the GPU for serving, in (0, 1]; None means what the configuration costs.
        retraining_share: Share of the GPU for retraining, in [0, 1]; None means what the configuration costs.
        gpu: Name of the GPU, or None for the one the stream is placed on.
        cloud: Whether the stream is retrained in the cloud, where that costs nothing of the budget.
    """

    retraining: str
    inference: str
    inference_share: float | None = None
    retraining_share: float | None = None
    gpu: str | None = None
    cloud: bool = False


@dataclass(frozen=True)
class Allocation:
    """What an allocator decides for a slot.

    Attributes:
        streams: One entry per stream, in the task's order.
        reason: A few words on why, for people.
    """

    streams: tuple[StreamAllocation, ...]
    reason: str = ""
