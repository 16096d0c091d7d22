"""Everything that a report's script draws: what there is, as JSON, and the numbers, packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orric.allocators import REFERENCES
from orric.latency import MIDDLES_S, LatencyHistogram
from orric.records import Array, Result
from orric.report import pareto
from orric.report.facts import contenders, leading, leading_name, main_results, winners
from orric.report.levels import names_of_choices, packed
from orric.report.packing import FINE, Blob
from orric.report.table import MODELS

# Latencies at which distributions are told: of all streams together, and of each.
_POINTS, _STREAM_POINTS, _FEW_POINTS = 240, 64, 24
# Of 1 - F, in powers of ten.
_MOST_NINES = 7.0
_MOST_EVENTS, _MOST_STEPS = 200, 6000
TOTALS = (
    "requests", "leading", "accuracy", "late", "unanswered", "p50_s", "p99_s",
    "before_p50_s", "before_p99_s", "during_p50_s", "during_p99_s", "after_p50_s", "after_p99_s",
)  # fmt: skip


def payload(
    results: Sequence[Result],
    deadlines_s: Mapping[str, float],
    capacities_macs: Mapping[str, float],
    slot_s: float | None,
) -> tuple[dict[str, Any], str]:
    """Return what a report's script needs.

    Args:
        results: Of one scenario and seed, one row per slot and stream, under one accuracy model or several.
        deadlines_s: By stream, of those that have one.
        capacities_macs: What each GPU can do in a slot, by name.
        slot_s: Length of a slot.

    Returns:
        What is small, for JSON, and the numbers as text: base64 of a deflated blob.
    """
    first, shown = results[0], main_results(results)
    streams, choices = first.streams, names_of_choices(results)
    grids = {"all": _grid(results, _POINTS)}
    if len(streams) > 1:
        grids["streams"] = _grid(results, _FEW_POINTS if len(streams) > 64 else _STREAM_POINTS)
    head: dict[str, Any] = {}
    totals = [_totals(result, streams) for result in results]
    nines = [{kind: _nines(result, kind, grid) for kind, grid in grids.items()} for result in results]

    def begun() -> Blob:
        blob = Blob()
        head["totals"] = [blob.floats(one) for one in totals]
        head["cdf"] = [{kind: blob.steps({"nines": lines}, FINE) for kind, lines in kinds.items()} for kinds in nines]
        return blob

    worst = _worst_slot(shown)
    blob, blocks = packed(results, capacities_macs, choices, worst, begun)
    best = {result.allocator for result in winners(shown)}
    places = pareto.points(results)
    names = list(dict.fromkeys(name for result in results for name in _gpus(result)))
    slots = len(first.columns["slot"]) // len(streams)
    return {
        "slots": slots,
        "slot_s": slot_s,
        "measure": leading_name(results),
        "streams": streams,
        "deadlines": [deadlines_s.get(name) for name in streams],
        "gpus": names,
        "measured": bool(first.gpu_columns),
        "choices": choices,
        "grids": {kind: [float(f"{one:.6g}") for one in grid] for kind, grid in grids.items()},
        "totals": TOTALS,
        "severities": severity_steps(first),
        "worst": worst + 1,
        "batches": pareto.batches_of(slots),
        "costs": pareto.COSTS,
        "results": [
            {
                "allocator": result.allocator,
                "model": result.accuracy_model,
                "modelName": MODELS.get(result.accuracy_model, result.accuracy_model),
                "reference": result.allocator in REFERENCES,
                "best": result.allocator in best and result.accuracy_model == shown[0].accuracy_model,
                "gpus": _gpus(result),
                "placed": _placed(result, names),
                "events": [[e.time_s, e.slot, e.subject, e.what] for e in result.events[:_MOST_EVENTS]],
                "eventsLeftOut": max(len(result.events) - _MOST_EVENTS, 0),
                "place": _rounded(places[n]),
                "totals": head["totals"][n],
                "cdf": head["cdf"][n],
            }
            for n, result in enumerate(results)
        ],
        "fronts": _fronts(results, places),
        "blocks": blocks,
    }, blob.text()


def first_choice(results: Sequence[Result]) -> int:
    """Return which result a report shows at first: the best, or the first where nobody is."""
    tied = winners(main_results(results))
    return next((n for n, result in enumerate(results) if tied and result is tied[0]), 0)


def severity_steps(result: Result) -> dict[str, Any]:
    """Return the steps of severity of every stream: patterns of [first slot, corruption, severity], and whose is which.

    A stream whose severity changes too often to be drawn has the pattern -1; "all" has one only where all streams do
    alike.
    """
    count = len(result.streams)
    corruptions, severities = (result.columns[name].reshape(-1, count) for name in ("corruption", "severity"))
    names = sorted(set(result.columns["corruption"].tolist()))
    states = severities.astype(np.int64) + 1
    for number, name in enumerate(names):
        states += 16 * number * (corruptions == name)
    lines = [np.ascontiguousarray(line) for line in states.T]
    numbers: dict[bytes, int] = {}
    which = [numbers.setdefault(line.tobytes(), len(numbers)) for line in lines]
    patterns = [lines[which.index(number)] for number in range(len(numbers))]
    allowed = max(_MOST_STEPS // len(patterns), 12)
    found, places = list[list[list[int]]](), dict[int, int]()
    for n, pattern in enumerate(patterns):
        begins = np.concatenate([[0], np.flatnonzero(np.diff(pattern)) + 1])
        if len(begins) > min(allowed, 400):
            places[n] = -1
            continue
        places[n] = len(found)
        parts = pattern[begins]
        found.append(
            [[at + 1, state // 16, state % 16 - 1] for at, state in zip(begins.tolist(), parts.tolist(), strict=True)]
        )
    each = [places[n] for n in which]
    return {
        "corruptions": names, "patterns": found, "streams": each, "alike": len(patterns) == 1,
    }  # fmt: skip


def _gpus(result: Result) -> list[str]:
    if not result.gpu_columns:
        return ["the budget"]
    return list(dict.fromkeys(result.gpu_columns["gpu"].tolist()))


def _placed(result: Result, names: Sequence[str]) -> list[int]:
    """Return on which GPU each stream was most of the time."""
    rows = result.columns["gpu"].reshape(-1, len(result.streams))
    counts = np.array([(rows == name).sum(axis=0) for name in names]).reshape(len(names), -1)
    placed: list[int] = counts.argmax(axis=0).tolist()
    return placed


def _worst_slot(results: Sequence[Result]) -> int:
    """Return the slot, from 0, in which the most requests of all contenders were late or had no answer."""
    wrong = 0.0
    for result in contenders(results):
        rows = result.columns
        missed = rows["late"] + rows["shed"] + rows["abandoned"] + rows["lost"]
        # Where all is answered in time, the slot with the most wrong answers is the worst.
        missed = missed if missed.any() else rows["served"] - rows["correct"]
        wrong = wrong + missed.reshape(-1, len(result.streams)).sum(axis=1)
    return int(np.argmax(wrong))


def _grid(results: Sequence[Result], points: int) -> Array:
    """Return latencies in equal ratios, from the least to the greatest that any result has; empty without any."""
    counts = sum((result.latency.counts for result in results), np.zeros(len(MIDDLES_S), np.int64))
    used = np.flatnonzero(counts)
    if not len(used):
        return np.zeros(0)
    low, high = max(MIDDLES_S[used[0]], 1e-6), max(MIDDLES_S[used[-1]], 2e-6)
    # From below the least, where the line still lies on 0, to above the greatest.
    grid: Array = np.geomspace(low * 0.98, high * 1.02, points)
    return grid


def _nines(result: Result, kind: str, grid: Array) -> Array:
    """Return -log10 of the part that takes longer than each latency, shape (points, lines)."""
    histograms = [result.latency] if kind == "all" else [_merged(result, name) for name in result.streams]
    places = np.searchsorted(MIDDLES_S, grid, side="right")
    nines = np.full((len(grid), len(histograms)), np.nan)
    for n, histogram in enumerate(histograms):
        upto = np.concatenate([[0], np.cumsum(histogram.counts)])
        if upto[-1]:
            beyond = 1 - upto[places] / upto[-1]
            nines[:, n] = np.minimum(-np.log10(np.maximum(beyond, 10.0**-_MOST_NINES)), _MOST_NINES)
    return nines


def _merged(result: Result, stream: str) -> LatencyHistogram:
    return LatencyHistogram.merged(result.latencies.get(stream, ()))


def _totals(result: Result, streams: Sequence[str]) -> Array:
    """Return `TOTALS` of all streams together, then of each; shape (1 + streams, TOTALS)."""
    rows = {name: result.columns[name].reshape(-1, len(streams)).sum(axis=0) for name in _SUMMED}
    waiting = result.columns["waiting"].reshape(-1, len(streams))[-1]
    rows["unanswered"] = rows["shed"] + rows["abandoned"] + rows["lost"] + waiting
    rows["right"] = rows["correct_in_time" if result.has_deadlines else "correct"]
    found = np.full((1 + len(streams), len(TOTALS)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        for n, name in enumerate(("requests", "right", "correct", "late", "unanswered")):
            whole = np.concatenate([[rows[name].sum()], rows[name]])
            found[:, n] = whole if n == 0 else whole / found[:, 0]
    found[0, 1] = leading(result)
    for row, histograms in enumerate(_by_phase(result, streams)):
        found[row, 5:7] = LatencyHistogram.merged(histograms).quantiles([0.5, 0.99])
        # Without retraining there is nothing that came before it.
        if len(histograms) == 3 and len(histograms[1]):
            found[row, 7:] = [one for histogram in histograms for one in histogram.quantiles([0.5, 0.99])]
    return found


_SUMMED = ("requests", "correct", "correct_in_time", "late", "shed", "abandoned", "lost")


def _by_phase(result: Result, streams: Sequence[str]) -> list[Sequence[LatencyHistogram]]:
    """Return the histograms of each phase of all streams together, then of each."""
    each = [result.latencies.get(name, ()) for name in streams]
    whole = [LatencyHistogram.merged(phases) for phases in zip(*(one for one in each if one), strict=True)]
    return [whole, *each]


def _fronts(results: Sequence[Result], places: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Return by accuracy model and cost which results, reference lines left out, are on the front."""
    return {
        model: {
            key: pareto.front(
                places,
                key,
                lambda n, model=model: results[n].accuracy_model == model and results[n].allocator not in REFERENCES,  # type: ignore[misc]
            )
            for key in pareto.COSTS
        }
        for model in dict.fromkeys(result.accuracy_model for result in results)
    }


def _rounded(place: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if values is None else [float(f"{one:.6g}") for one in values] for key, values in place.items()}
