"""The exact offline optimum under window memory, by dynamic programming over every state.

What later slots can depend on is which options the last w slots took: with M options at most M^w states before a slot.
Backwards from the last slot V_t(state) = max_i R_ti f_t(x(state)) + V_{t+1}(state without its oldest slots, then i), so
every slot costs a pass over its states and their options, O(T M^{w+1}) altogether; that is little for short windows and
for few slots, and `affordable` says whether it is. A state is a number: the options of the slots it remembers are its
digits, the newest the least.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from orric.competitive.problem import OfflineProblem
from orric.competitive.window import windows
from orric.exceptions import extra

with extra("sim"):
    from orric.compiled import compiled

Array = np.ndarray[Any, Any]
# What a solution may look at (some seconds), and the states of one slot; the checker has the same limits.
MOST_TRANSITIONS, MOST_STATES = 2**33, 2**21
# Choices kept at once, a byte or two each; a longer trace goes through its slots twice.
MOST_CHOICES = 2**28


def affordable(problem: OfflineProblem) -> bool:
    """Say whether the optimum of a window can be found over all states."""
    begins, ends, _ = windows(problem.requests, problem.memory.slots or len(problem.requests))
    # Sums of logarithms do not overflow.
    summed = np.concatenate([[0.0], np.cumsum(np.log2(problem.counts))])
    states = summed[ends] - summed[begins]
    if states.max() > math.log2(MOST_STATES) + 1e-9:
        return False
    return bool((2.0**states * problem.counts).sum() <= MOST_TRANSITIONS)


def best_of_states(problem: OfflineProblem) -> tuple[float, Array]:
    """Find the optimum over all states.

    Args:
        problem: An offline problem under window memory that is `affordable`.

    Returns:
        Its value, rounded up by more than any way to add differs, and the options that attain it, shape (T,).
    """
    slots = len(problem.counts)
    begins, ends, mass = windows(problem.requests, problem.memory.slots or slots)
    sizes = [math.prod(problem.counts[begin:end].tolist()) for begin, end in zip(begins, ends, strict=True)]
    # A slot without requests has one option, and leaves the state as it was.
    kept = [
        math.prod(problem.counts[begins[t + 1] : ends[t]].tolist()) if problem.requests[t] > 0 else sizes[t]
        for t in range(slots - 1)
    ] + [1]
    digit = np.min_scalar_type(int(problem.counts.max()) - 1)
    # Values of all states before some slots, from which the slots up to the next one can be done again.
    following = np.zeros(int(problem.counts[-1]))
    stretch, held = [slots], 0
    for t in range(slots - 1, -1, -1):
        if held + sizes[t] > MOST_CHOICES and stretch[-1] > t + 1:
            stretch.append(t + 1)
            held = 0
        held += sizes[t]
    stretch.append(0)

    def backward(first: int, last: int, following: Array) -> tuple[Array, list[Array]]:
        """Go from after slot `last` back to before slot `first`, counted from 0, last excluded."""
        choices = []
        for t in range(last - 1, first - 1, -1):
            extents = np.zeros(1)
            if mass[t] > 0:
                past = slice(begins[t], ends[t])
                extents = _gained(problem.requests[past], problem.gains[past], problem.counts[past]) / mass[t]
            accuracies = np.asarray(problem.curves[t](extents), float)
            choice = np.empty(sizes[t], digit)
            rewards = problem.rewards[t, : problem.counts[t]]
            following = _one_slot(accuracies, rewards, following, kept[t], choice)
            choices.append(choice)
        return following, choices[::-1]

    values = [following]
    for last, first in itertools.pairwise(stretch):
        following, choices = backward(first, last, following)
        values.append(following)
    chosen, state = np.zeros(slots, np.int64), 0
    for n in range(len(stretch) - 1, 0, -1):
        first, last = stretch[n], stretch[n - 1]
        if n < len(stretch) - 1:
            _, choices = backward(first, last, values[n - 1])
        for t, choice in enumerate(choices, first):
            chosen[t] = choice[state]
            state = state % kept[t] * int(problem.counts[t]) + int(chosen[t])
    longest = int((ends - begins).max())
    magnitudes = {id(curve): curve.magnitude(float(problem.gains.max())) for curve in problem.curves}
    unsure = float(problem.rewards[:, 0] @ np.array([magnitudes[id(curve)] for curve in problem.curves]))
    return float(following[0]) * (1 + 2.0**-44 + 8 * (slots + 2 * longest) * 2.0**-53) + unsure * 2.0**-49, chosen


@compiled
def _gained(requests: Array, gains: Array, counts: Array) -> Array:
    """Return what the slots of every state gained together, shape (states,)."""
    size = 1
    for count in counts:
        size *= count
    gained = np.zeros(size)
    filled = 1
    for s in range(len(counts)):
        # From the back, so that nothing is overwritten before it is read.
        for state in range(filled - 1, -1, -1):
            before = gained[state]
            for i in range(counts[s]):
                gained[state * counts[s] + i] = before + requests[s] * gains[s, i]
        filled *= counts[s]
    return gained


@compiled
def _one_slot(accuracies: Array, rewards: Array, following: Array, kept: int, choice: Array) -> Array:
    """Return the values of all states before a slot, given those after it, and write the best options."""
    options = len(rewards)
    values = np.empty(len(accuracies))
    for first in range(0, len(accuracies), kept):
        for rest in range(kept):
            after = rest * options
            accuracy = accuracies[first + rest]
            best, value = 0, rewards[0] * accuracy + following[after]
            for i in range(1, options):
                other = rewards[i] * accuracy + following[after + i]
                if other > value:
                    best, value = i, other
            values[first + rest] = value
            choice[first + rest] = best
    return values
