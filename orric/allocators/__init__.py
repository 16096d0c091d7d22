"""Allocators by name.

To add one, write a subclass of `Allocator` in a file of this folder and register it in `ALLOCATORS`; packages
of third parties register theirs under the entry-point group `orric.allocators`. The contract tests then run
on it by themselves.
"""

from __future__ import annotations

from functools import lru_cache

from orric.allocators.base import Allocator
from orric.allocators.greedy import InferenceGreedy, InferenceOnly, KnowledgeDistillation, RetrainingGreedy
from orric.allocators.orric import FocusShift, Orric
from orric.exceptions import ScenarioError, nearest

ALLOCATORS: dict[str, type[Allocator]] = {
    allocator.name: allocator
    for allocator in (Orric, InferenceOnly, InferenceGreedy, RetrainingGreedy, KnowledgeDistillation, FocusShift)
}
ALIASES = {"student-only": "inference-only"}
# Lines to draw beside allocators, which decide nothing themselves.
REFERENCES = ("teacher-only", "batch-norm-only")


@lru_cache(maxsize=1)
def _installed() -> dict[str, type[Allocator]]:
    from importlib.metadata import entry_points

    return {point.name: point.load() for point in entry_points(group="orric.allocators")}


def make_allocator(name: str) -> Allocator:
    """Construct an allocator by name.

    Raises:
        ScenarioError: The name is unknown; the nearest known one is suggested. Or it is that of a reference line.

    >>> make_allocator("student-only").name
    'inference-only'
    """
    chosen = ALLOCATORS.get(ALIASES.get(name, name)) or _installed().get(name)
    if chosen is None and name in REFERENCES:
        found = f"{name!r} is a reference line, not an allocator"
        raise ScenarioError("allocator", found, f'have orric run draw it by references = ["{name}"] in a scenario')
    if chosen is None:
        raise ScenarioError("allocator", f"{name!r} is unknown", nearest(name, [*ALLOCATORS, *ALIASES, *_installed()]))
    return chosen()
