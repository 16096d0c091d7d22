"""Fair parts: how much of what is learnt from may come from one source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from orric.edge.sender import Sender
from orric.vision.arrays import Pixels

Indices = np.ndarray[Any, np.dtype[np.intp]]
# Sources that are told apart in a slot; whoever comes later shares one part with all others that do.
MOST_SOURCES = 1024
OTHERS = "others"


def source_of(sender: Sender | None) -> str:
    """Return the name of a source: a client that a trusted proxy names, or else an address."""
    if sender is None:
        return ""
    return sender.address if sender.client is None else f"{sender.client} at {sender.address}"


def fair_parts(wanted: Sequence[int], most: int) -> list[int]:
    """Share out a number so that nobody gets more than asked for, and the least get as much as they can.

    Args:
        wanted: By each.
        most: To be shared out.

    >>> fair_parts([600, 200, 5], 300)
    [148, 147, 5]
    """
    parts, left = [0] * len(wanted), most
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    for place, number in enumerate(order):
        parts[number] = min(wanted[number], left // (len(order) - place))
        left -= parts[number]
    return parts


def fairly_drawn(sources: Sequence[str], count: int, part: float, rng: np.random.Generator, fewest: int = 0) -> Indices:
    """Draw samples uniformly within every source, and as evenly as possible over the sources.

    Args:
        sources: Of each sample.
        count: Samples to draw at most.
        part: Of `count` that one source may fill at most where there are others.
        rng: Draws.
        fewest: Samples that the part must not keep a draw below: a few images of another source would end learning.

    Returns:
        Indices in random order. They are fewer than `count` where the sources' parts do not fill it.
    """
    names, which = np.unique(np.asarray(sources, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return rng.permutation(len(sources))[:count]
    members = [rng.permutation(np.flatnonzero(which == number)) for number in range(len(names))]
    others = len(sources) - max(map(len, members))
    cap = max(int(np.ceil(part * count)), min(count, fewest) - others)
    parts = fair_parts([min(len(one), cap) for one in members], count)
    return rng.permutation(np.concatenate([one[:size] for one, size in zip(members, parts, strict=True)]))


def first_of_each(images: Pixels) -> Indices:
    """Return the indices of images that no earlier one equals, ascending."""
    seen: dict[bytes, int] = {}
    for number, image in enumerate(images):
        seen.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), number)
    return np.fromiter(seen.values(), np.intp, len(seen))
