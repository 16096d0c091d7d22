"""How finely a report holds a run: whole where that is small enough, else in bins, with single slots in two windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orric.records import Array, Result
from orric.report.packing import COARSE, FINE, Blob
from orric.report.series import CHOICES, Series, series_of_all, series_of_gpus, series_of_streams

# Bytes after deflation; base64 makes four of three.
MOST_BYTES = 1_700_000
# Of the numbers' bytes, those that are not told by their neighbours.
_BYTES_A_NUMBER = 1.0
# A stream's bins are coarser, and have no bands, from here on.
MANY_STREAMS = 64
_LEAST_WINDOW, _MOST_WINDOW, _MOST_BINS = 24, 512, 9000
_WIDTHS = {"all": 17, "streams": 17, "gpus": 7}  # channels of a line
_BANDS = 6


@dataclass(frozen=True)
class Block:
    """Bins of equal length of lines of one kind.

    Attributes:
        kind: "all", "streams" or "gpus".
        first: Index of the first slot, from 0.
        size: Slots in a bin.
        bins: How many.
    """

    kind: str
    first: int
    size: int
    bins: int


def blocks(slots: int, counts: Mapping[str, int], results: int, worst: int, room: float) -> list[Block]:
    """Choose the blocks that a report holds of every result, the finest of each kind first.

    Args:
        slots: Length of the run.
        counts: How many lines there are of each kind.
        results: How many results.
        worst: The slot around which single slots are kept, from 0.
        room: How many numbers there may be.
    """
    channels, width = _WIDTHS, _width(counts, results)
    if slots * width <= room:
        return [Block(kind, 0, 1, slots) for kind, count in counts.items() if count]
    window = min(int(0.1 * room / width), _MOST_WINDOW)
    parts = {"streams": 0.5} if counts["streams"] else {}
    narrow = results * sum(count * channels[kind] for kind, count in counts.items() if kind != "streams")
    found = []
    for kind, count in counts.items():
        if not count:
            continue
        bands = 0 if kind == "gpus" or count > MANY_STREAMS else 2 * _BANDS
        part = parts[kind] * room if kind in parts else (0.8 - sum(parts.values())) * room * channels[kind] / narrow
        each = results * count * (channels[kind] + bands) if kind in parts else channels[kind] + bands
        bins = min(max(int(part / each), 8), _MOST_BINS, slots)
        size = math.ceil(slots / bins)
        if size > 1 and window >= _LEAST_WINDOW:
            begins = {0, min(max(worst - window // 2, 0), max(slots - window, 0))}
            found += [Block(kind, begin, 1, min(window, slots - begin)) for begin in sorted(begins)]
        found.append(Block(kind, 0, size, math.ceil(slots / size)))
    return found


def _width(counts: Mapping[str, int], results: int) -> int:
    """Return how many numbers a slot has."""
    return results * sum(count * _WIDTHS[kind] for kind, count in counts.items())


def packed(
    results: Sequence[Result],
    capacities_macs: Mapping[str, float],
    choices: Mapping[str, list[str]],
    worst: int,
    begun: Callable[[], Blob],
) -> tuple[Blob, list[dict[str, Any]]]:
    """Pack every result's lines, as finely as `MOST_BYTES` lets them be.

    Args:
        results: One row per slot and stream.
        capacities_macs: What each GPU can do in a slot, by name.
        choices: Names of the configurations.
        worst: The slot around which single slots are kept, from 0.
        begun: Returns what the lines are packed behind.

    Returns:
        The blob, and of every block its place: kind, first, size, bins, and one pack per result.
    """
    first = results[0]
    streams, slots = len(first.streams), len(first.columns["slot"]) // len(first.streams)
    gpus = max(len(set(result.gpu_columns["gpu"].tolist())) if result.gpu_columns else 1 for result in results)
    counts = {"all": 1, "streams": streams if streams > 1 else 0, "gpus": gpus}
    room, chosen, blob = MOST_BYTES / _BYTES_A_NUMBER, list[Block](), begun()
    places: list[dict[str, Any]] = []
    fits = False
    while True:
        tried = blocks(slots, counts, len(results), worst, room)
        if tried == chosen:
            return blob, places
        chosen, blob = tried, begun()
        places = [{**vars(block), "packs": []} for block in chosen]
        for result in results:
            _pack(blob, places, chosen, result, capacities_macs, choices)
        used = len(blob.deflated())
        if used <= MOST_BYTES and (fits or used > 0.7 * MOST_BYTES or all(block.size == 1 for block in chosen)):
            return blob, places
        # Zeros and steps take next to nothing, so that what fits is known only afterwards. It grows but once.
        fits, room = True, min(room, slots * _width(counts, len(results)))
        room *= min(0.88 * MOST_BYTES / used, 6.0)


def _pack(
    blob: Blob,
    places: Sequence[dict[str, Any]],
    chosen: Sequence[Block],
    result: Result,
    capacities_macs: Mapping[str, float],
    choices: Mapping[str, list[str]],
) -> None:
    series: dict[str, Callable[[], Series]] = {
        "all": lambda: series_of_all(result),
        "streams": lambda: series_of_streams(result, choices),
        "gpus": lambda: series_of_gpus(result, capacities_macs)[1],
    }
    made: dict[str, Series] = {}
    for block, place in zip(chosen, places, strict=True):
        if block.kind not in made:
            made[block.kind] = series["streams" if block.kind == "all" and len(result.streams) == 1 else block.kind]()
        lines: dict[str, Array] = made[block.kind].binned(block.first, block.size, block.bins)
        count = next(iter(lines.values())).shape[1]
        many = block.kind == "streams" and count > MANY_STREAMS
        if many:
            lines = {name: values for name, values in lines.items() if not name.endswith(("_low", "_high"))}
        place["packs"].append(
            blob.steps(lines, COARSE if many else FINE, ("p50_s", "p99_s", "p99_s_low", "p99_s_high"))
        )


def names_of_choices(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the configurations that any result ever chose, by what they are for, in alphabetical order."""
    return {name: sorted({one for result in results for one in set(result.columns[name].tolist())}) for name in CHOICES}
