"""The checker's own dynamic program over every state of a window, which proves an upper end by being worked out anew.

It shares no code with the solver's (`states`) and goes the other way, from the first slot to the last. Before slot t a
state is which options the slots of the window took, in mixed radix, the newest slot the least digit; its value is the
most that slots before t can have earned in it, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
ULP = 2.0**-52
# The states of one slot, and the transitions of all: a minute's work. A claim that needs more proves nothing.
MOST_TRANSITIONS, MOST_STATES = 2**33, 2**21


def most_earned(
    requests: Sequence[float],
    options: Sequence[Sequence[tuple[float, float]]],
    width: int,
    accuracy_above: Callable[[int, Array], Array],
    progress: Callable[[float], object] = lambda part: None,
) -> tuple[float, int]:
    """Bound what any allocations earn under window memory from above. O(T M^{w+1}).

    Args:
        requests: D(t), at least 0.
        options: (profit, reward) of what each slot may choose, both at least 0.
        width: w, the number of slots that count.
        accuracy_above: Given a slot, counted from 0, and extents, bounds f_t there from above; f_t rises.
        progress: Called with the share of the work done.

    Returns:
        The bound, and the number of transitions looked at.

    Raises:
        CertificateError: There are too many states.
    """
    # The window [begin, end) before each slot, which a slot without requests leaves as it is.
    windows = [(0, 0)]
    for slot, asked in enumerate(requests):
        windows.append((max(slot + 1 - width, 0), slot + 1) if asked > 0 else windows[-1])
    windows[-1] = (len(requests), len(requests))  # nothing follows the last slot
    # What a slot without requests chose changes no extent.
    counts = [len(some) if asked > 0 else 1 for some, asked in zip(options, requests, strict=True)]
    sizes = [_product(counts[begin:end]) for begin, end in windows]
    transitions = sum(size * len(some) for size, some in zip(sizes, options, strict=False))
    if transitions > MOST_TRANSITIONS:
        found = f"its states have {transitions:,} options"
        raise CertificateError("memory", found, f"{MOST_TRANSITIONS:,} are the most")
    values = np.zeros(1)
    for slot, some in enumerate(options):
        begin, end = windows[slot]
        extents, total = np.zeros(1), 0.0
        for past in range(begin, end):
            profits = [profit for profit, _ in options[past]] if requests[past] > 0 else [0.0]
            extents = np.add.outer(extents, requests[past] * np.array(profits)).ravel()
            total += requests[past]
        if total > 0:
            # Each product, sum and quotient of numbers >= 0 is off by half an ulp at most.
            extents = extents / total * (1 + (end - begin + 2) * ULP)
        accuracies = accuracy_above(slot, extents)
        if requests[slot] > 0:
            # What later windows have forgotten are the highest digits: of those states only the best counts.
            forgotten = _product(counts[begin : min(max(windows[slot + 1][0], begin), end)])
            ahead = np.empty((sizes[slot] // forgotten, len(some)))
            for n, (_, reward) in enumerate(some):
                ahead[:, n] = (values + reward * accuracies).reshape(forgotten, -1).max(axis=0)
            values = ahead.ravel()
        else:
            values = values + max(reward for _, reward in some) * accuracies
        if slot % 64 == 0:
            progress((slot + 1) / len(options))
    return float(values.max()) * (1 + (len(options) + 1) * ULP), transitions


def _product(counts: Sequence[int]) -> int:
    """Return the number of states that some slots make; stop where it is too large."""
    size = 1
    for count in counts:
        size *= count
        if size > MOST_STATES:
            raise CertificateError("memory", "its windows have too many states", f"{MOST_STATES:,} are the most")
    return size
