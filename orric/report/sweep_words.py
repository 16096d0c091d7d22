"""What a sweep says in sentences: who is best, by how much, where, and what may be chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orric.allocators import REFERENCES
from orric.competitive.ratio import span_in_words
from orric.report.facts import TIE, spoken
from orric.report.sweep_heat import where_best
from orric.report.sweep_plots import leading_name, leading_of, wins_by_point
from orric.statistics import foremost

if TYPE_CHECKING:
    import pandas


def sweep_sentences(summary: Mapping[str, Any], frame: pandas.DataFrame) -> list[str]:
    """Say in plain sentences who is best, by how much, where not, and what may be chance.

    Args:
        summary: From `orric.sweep.summary.summarised`, with the names of the allocators.
        frame: All runs.
    """
    lines, baseline = summary["allocators"], summary["baseline"]
    leading, name = leading_of(summary), leading_name(summary)
    means = {line: (summary["means"][line].get(leading) or {}).get("mean") for line in lines}
    known = {line: mean for line, mean in means.items() if mean is not None}
    if not known:
        return ["No run has an accuracy, so there is nothing to compare."]
    best = leader(known)
    if best is None:
        return ["No allocator has an accuracy, so there is nothing to compare."]
    where = f"{summary['points']} point{'s' * (summary['points'] > 1)}"
    highest = (
        "the highest"
        if known[best] == max(known[one] for one in known if one not in REFERENCES)
        else "all but the highest"
    )
    among = f"{highest} {name} of {len([*{*known} - {*REFERENCES}])} allocators over {where}"
    said = f"{spoken(best)} has {among}: {100 * known[best]:.2f} %"
    if best == baseline:
        rivals = {
            line: one for line, one in summary["differences"].items()
            if one["mean"] is not None and line not in REFERENCES
        }  # fmt: skip
        near = max(rivals, key=lambda line: rivals[line]["mean"], default=None)
        if near is not None and abs(rivals[near]["mean"]) <= TIE:
            said += f", level with {spoken(near)}"
        elif near is not None:
            said += f", {_above(rivals[near], -1.0)} above {spoken(near)}, the next"
    else:
        one = summary["differences"].get(best)
        if one is not None and one["mean"] is not None:
            said += f", {_above(one, 1.0)} above {spoken(baseline)}"
    sentences = [said + "."]
    if leading == "in_time_accuracy":
        told = summary["means"][best].get("mean_accuracy")
        if told is not None and told["mean"] is not None:
            sentences.append(
                f"In time means by the deadline; late answers counted, too, {spoken(best)} is right about "
                f"{100 * told['mean']:.2f} % of all requests."
            )
    if summary["points"] > 1:
        wins = {line: count for line, count in wins_by_point(frame, summary).items() if count}
        ordered = sorted(wins, key=lambda line: -wins[line])
        told = ", ".join(f"{spoken(line)} at {wins[line]}" for line in ordered[:5])
        if [*wins.values()] == [summary["points"]]:
            sentences.append(f"{spoken(ordered[0])} is best at each of the {summary['points']} points.")
        else:
            sentences.append(
                f"Best at single points, of {summary['points']}, ties within 0.05 points counted for all: {told}."
            )
        sentences += _ahead(summary)
    if summary.get("interactions"):
        sentences.append(f"{where_best(summary['interactions'][0], summary)}.")
    for axis in dict.fromkeys(row["axis"] for row in summary["axes"]):
        sentences += _along(summary, axis, best)
    if ratios := summary.get("ratios"):
        sentences.append(_of_optimum(summary, ratios))
    alike = summary.get("alike", [])
    if len(alike) == len(known):
        sentences.append(_seedless(summary))
    elif summary["pairs"] > 1:
        if alike:
            names = ", ".join(map(spoken, alike))
            sentences.append(f"Seeds change nothing for {names}: one run at each point, without an interval.")
        sentences.append(
            f"Intervals are over {summary['pairs']} seeds, each the mean of all points: runs of one seed are not "
            "independent."
        )
    else:
        sentences.append("There is one seed alone, so nothing can be said of chance: give more seeds.")
    if summary["precision"] is not None:
        sentences.append(_precision(summary["precision"]))
    return [*sentences, *([summary["multiplicity"]] if summary["multiplicity"] else [])]


def _seedless(summary: Mapping[str, Any]) -> str:
    """Say that all seeds give the same, and what would make them differ."""
    return (
        f"One run at each point: seeds change nothing here, all {summary['seeds']} give the same. So nothing is said "
        "of chance; requests, arrivals or budgets that are drawn would differ from seed to seed."
    )


def _precision(precision: Mapping[str, Any]) -> str:
    """Say whether the precision asked for was reached."""
    what = precision["of"] + (f" against {precision['against']}" if precision["against"] else "")
    asked = f"a half-width of {precision['half_width']:g} of {what} was asked for"
    if precision["reached"]:
        return f"At every point {asked} and reached; the widest is {precision['widest']:.3g}."
    widest = "unknown" if precision["widest"] is None else f"{precision['widest']:.3g}"
    return f"At every point {asked} and NOT reached: the widest is {widest}; let most be larger."


def _ahead(summary: Mapping[str, Any]) -> list[str]:
    """Say at how many points the best is ahead of the next, and whether that may be chance."""
    told = summary.get("winners")
    if not told or not told["judged"]:
        return []
    one_run = told.get("one_run", 0)
    rest = told["points"] - told["beyond_chance"] - told["ties"] - one_run
    who = ", ".join(f"{spoken(line)} at {count}" for line, count in _most_first(told["ahead"])[:4])
    said = f"At {told['beyond_chance']} of {told['points']} points the best is beyond chance ahead of the next"
    said += f": {who}" if who else ""
    said += f"; at {rest} it may be chance" if rest else ""
    said += f"; at {one_run} seeds change nothing" if one_run else ""
    said += f"; at {told['ties']} the two are within 0.05 points" if told["ties"] else ""
    return [f"{said} (paired seed by seed; Holm's correction for {told['judged']} points)."]


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: -one[1])


def _of_optimum(summary: Mapping[str, Any], ratios: Mapping[str, Any]) -> str:
    """Say what of the offline optimum allocators reached, on the mean and at worst."""
    told = []
    means = {line: summary["means"][line]["ratio_low"]["mean"] or 0.0 for line in ratios}
    # Who decides the same has the same ratios, and is named once.
    distinct = {(means[line], ratios[line]["low"]): line for line in reversed(list(ratios))}.values()
    for line in sorted(distinct, key=lambda line: -means[line])[:3]:
        worst = ratios[line]
        told.append(
            f"{spoken(line)} {means[line]:.4f} on the mean and {span_in_words(worst['low'], worst['high'])} at worst "
            f"(point {worst['point']}, seed {worst['seed']})"
        )
    return f"Of the offline optimum of the same requests and budgets, allocators reach: {'; '.join(told)}."


def leader(means: Mapping[str, float]) -> str | None:
    """Return who has the largest mean: ORRIC where it ties with the largest, within 0.05 points.

    Reference lines, which are no allocators, and means that are unknown are passed over; None where nobody is left.
    """
    return foremost(means, "orric", REFERENCES)


def _along(summary: Mapping[str, Any], axis: str, best: str) -> list[str]:
    """Say where along an axis the best leads most and least."""
    baseline = summary["baseline"]
    other = best if best != baseline else max(
        (line for line in summary["allocators"] if line != baseline),
        key=lambda line: (summary["differences"].get(line) or {}).get("mean") or float("-inf"),
        default=None,
    )  # fmt: skip
    rows = [row for row in summary["axes"] if row["axis"] == axis]
    if other is None or len(rows) < 2:
        return []
    apart = {
        row["value"]: row["differences"][other]["mean"] for row in rows if row["differences"][other]["mean"] is not None
    }
    if len(apart) < 2:
        return []
    high, low = max(apart, key=lambda value: apart[value]), min(apart, key=lambda value: apart[value])
    return [
        f"Along {axis}, {spoken(other)} is {_signed(apart[high])} from {spoken(baseline)} at {high} and "
        f"{_signed(apart[low])} at {low}."
    ]  # fmt: skip


def _above(one: Mapping[str, Any], sign: float) -> str:
    """Say by how much one is above another, and whether that may be chance."""
    ends = [] if one["low"] is None else sorted(100 * sign * end for end in (one["low"], one["high"]))
    span = f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
    chance = "" if one["beyond_chance"] or not ends else ", which may be chance,"
    return f"{_points(sign * one['mean'])}{span}{chance}"


def _points(part: float) -> str:
    return f"{100 * part:.2f} points"


def _signed(part: float) -> str:
    return f"{100 * part:+.2f} points"
