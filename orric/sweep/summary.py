"""What a sweep says: means by allocator, paired differences, and what each axis does."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np

from orric.randomness import generator
from orric.statistics import Interval, bootstrap_interval, difference_p, holm, in_words, mean_interval
from orric.sweep.figures import Figures, plain, told
from orric.sweep.interactions import effects, interactions
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Sweep
from orric.sweep.points import by_point, tally


def summarised(sweep: Sweep, table: Any) -> dict[str, Any]:
    """Return what the sweep says, as plain values for a file.

    Args:
        sweep: What was swept.
        table: All runs.
    """
    figures, leading = Figures(sweep, table), sweep.leading
    lines, baseline = sweep.lines, sweep.lines.index(sweep.compared_with)
    known = known_measures(figures)
    means = {
        line: {name: told(figures.interval(figures.by_seed(name)[place])) for name in known}
        for place, line in enumerate(lines)
    }
    others = [place for place in range(len(lines)) if place != baseline]
    differences: dict[str, Any] = {}
    if leading in known:
        by_seed = figures.by_seed(leading)
        apart = [by_seed[place] - by_seed[baseline] for place in others]
        adjusted = holm([difference_p(one, figures.pilot) for one in apart])
        for place, one, probability in zip(others, apart, adjusted, strict=True):
            # Resampling knows nothing of a number of seeds that was chosen by their spread.
            drawn = Interval(nan, nan, nan, 0)
            if figures.pilot is None and np.isfinite(probability):
                drawn = bootstrap_interval(one, generator(1, "ensemble", place))
            differences[lines[place]] = {
                **told(figures.interval(one)),
                "bootstrap_low": plain(drawn.low),
                "bootstrap_high": plain(drawn.high),
                "p_holm": plain(probability),
                "beyond_chance": bool(probability < 0.05),
            }
    winners = figures.winners(figures.of(leading))
    pairs, left_out = interactions(figures, leading) if leading in known else ([], [])
    return {
        "leading": leading,
        "points": len(sweep.points),
        "whole_points": int(figures.whole.sum()),
        "seeds": figures.seeds,
        "pairs": max((one["count"] for one in differences.values()), default=figures.seeds),
        "precision": _reached(figures),
        "asked": _asked(sweep),
        "alike": figures.alike(leading),
        "baseline": sweep.compared_with,
        "means": means,
        "differences": differences,
        "multiplicity": in_words(sum(one["p_holm"] is not None for one in differences.values())),
        "axes": effects(figures, leading) if leading in known else [],
        "interactions": pairs,
        "interactions_left_out": left_out,
        "winners": tally(winners),
        "by_point": by_point(figures, known, winners),
        "ratios": _worst_ratios(figures) if "ratio_low" in known else None,
    }


def known_measures(figures: Figures) -> list[str]:
    """Return the measures that are known of any run."""
    return [name for name in MEASURES if np.isfinite(figures.of(name)).any()]


def _worst_ratios(figures: Figures) -> dict[str, Any]:
    """Return every allocator's lowest competitive ratio of all runs, as an interval, and of which run it is."""
    low, high = figures.of("ratio_low"), figures.of("ratio_high")
    found: dict[str, Any] = {}
    for place, line in enumerate(figures.sweep.lines):
        ends = high[:, place]
        if not np.isfinite(ends).any():
            continue
        point, seed = np.unravel_index(int(np.nanargmin(ends)), ends.shape)
        found[line] = {
            "low": float(np.nanmin(low[:, place])),
            "high": float(ends[point, seed]),
            "point": int(point) + 1,
            "seed": figures.seed_numbers[int(seed)],
        }
    return found


def _reached(figures: Figures) -> dict[str, Any] | None:
    """Say how wide the widest interval of a point is, where a precision was asked for."""
    precision = figures.sweep.precision
    if precision is None:
        return None
    values, lines = figures.of(figures.sweep.made_precise), list(figures.sweep.lines)
    if precision.against is not None:
        place = lines.index(precision.against)
        values = np.delete(values - values[:, place : place + 1], place, axis=1)
    widths = [mean_interval(line, pilot=figures.pilot).half_width for point in values for line in point]
    widest = float(np.nanmax(widths)) if np.isfinite(widths).any() else float("nan")
    asked = {"of": figures.sweep.made_precise, "against": precision.against, "half_width": precision.half_width}
    return {**asked, "widest": plain(widest), "reached": bool(widest <= precision.half_width * (1 + 1e-9))}


def _asked(sweep: Sweep) -> dict[str, Any]:
    """Return what the results come from, for telling two sweeps apart."""
    base = sweep.base.model_dump(mode="json", exclude_none=True, exclude={"name", "allocators", "references"})
    table = sweep.model_dump(mode="json", exclude_none=True, exclude={"name", "note", "scenario", "allocators"})
    return {"sweep": table, "scenario": base, "files": sweep.file_hashes}
