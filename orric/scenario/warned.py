"""A warning about a scenario."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Warned:
    """A warning.

    Attributes:
        kind: What it is about: streams and points of a sweep that have one in common are told once.
        text: In one line.
    """

    kind: str
    text: str
