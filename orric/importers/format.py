"""What a format is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orric.arrivals import Arrivals
from orric.interval_counts import IntervalCounts
from orric.timestamps import Timestamps


class Origin(NamedTuple):
    """Where a public trace comes from, and its licence: the CSV files have no place for it, so commands print it."""

    source: str
    licence: str


class Format(NamedTuple):
    """A form in which requests are published.

    Attributes:
        name: As the command line has it.
        read: Reads a whole file; its keyword-only parameters are the format's options.
        stream: Opens a file to be read in chunks, with the same options; None where only counts are in it.
        origin: Where the files come from; None where that may be anywhere.
    """

    name: str
    read: Callable[..., Timestamps | IntervalCounts]
    stream: Callable[..., Arrivals] | None = None
    origin: Origin | None = None
