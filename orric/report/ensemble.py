"""The report of an ensemble: how competitive ratios lie over many random traces, beside what is proved."""

from __future__ import annotations

import html
import io
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.competitive.bounds import Bounds
from orric.competitive.ranges import TraceRange
from orric.competitive.ratio import span_in_words
from orric.competitive.study import Ensemble, drawn_trace
from orric.report.canvas import clean, figure_of, title
from orric.report.document import document, figure_element
from orric.report.facts import spoken
from orric.report.folder import versions
from orric.report.plots import as_svg
from orric.report.sweep_plots import looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARK = "ratios.json"
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
LEAST_LOSS = 1e-4  # percent
CAPTIONS = {
    "distribution": (
        "What an allocator loses of the optimum is 1 less its competitive ratio; the mark is its worst trace. Ratios "
        "are intervals: the band lies between their ends, and the line is the upper one. Further left is better; "
        "less than 0.0001 % is drawn as that."
    ),
    "bounds": (
        "What is proved for all traces of the same ranges and what was found on the random ones: the line from the "
        "worst ratio to the best, the box the middle half of the traces, the stroke the median. Inference-Only's "
        "ceiling is of equal requests and ample budgets."
    ),
}


def write_ensemble(
    folder: Path, found: Ensemble, ranges: TraceRange, proved: Bounds, answer: Mapping[str, Any]
) -> list[str]:
    """Write ratios.json, ratios.csv, every allocator's worst trace, the figures and report.html.

    Args:
        folder: Where to write.
        found: The ratios.
        ranges: Of the traces.
        proved: What is proved of such traces.
        answer: What `orric ratio --json` answers, with the command, the gap and the profile's file.

    Returns:
        The conclusion, sentence by sentence.
    """
    figures = {"distribution": distribution(found), "bounds": beside_bounds(found, proved)}
    worst = {}
    for name, row in answer["ratios"].items():
        worst[name] = f"worst-{re.sub(r'[^A-Za-z0-9+._-]', '-', name)}.csv"
        drawn_trace(ranges, answer["seed"], row["worst"]["number"]).save(folder / worst[name])
    lines = [f"trace,{','.join(f'{name} low,{name} high' for name in found.high)}"]
    rows = np.stack([end[name] for name in found.high for end in (found.low, found.high)], axis=1)
    lines += [f"{number},{','.join(map(repr, row))}" for number, row in enumerate(rows.tolist())]
    (folder / "ratios.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for stem, figure in figures.items():
        (folder / f"{stem}.svg").write_bytes(as_svg(figure))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        (folder / f"{stem}.png").write_bytes(buffer.getvalue())
    sentences = ensemble_sentences(found, proved)
    table = {**answer, "worst_traces": worst, "versions": versions(), "conclusion": sentences}
    (folder / MARK).write_text(json.dumps(table, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(_page(found, proved, table, figures), encoding="utf-8")
    return sentences


def ensemble_sentences(found: Ensemble, proved: Bounds) -> list[str]:
    """Say who reaches how much of the optimum at worst and on the mean, beside what is proved."""
    count = len(next(iter(found.high.values())))
    ordered = sorted(found.high, key=lambda name: -float(found.high[name].min()))
    first = ordered[0]
    worst = span_in_words(float(found.low[first].min()), float(found.high[first].min()))
    sentences = [
        f"On {count:,} random traces of {proved.slots} slots {spoken(first)} earns {worst} of the offline optimum at "
        f"worst{', the most of ' + str(len(ordered)) + ' allocators' if len(ordered) > 1 else ''}."
    ]
    for name in ordered:
        low, high = found.low[name], found.high[name]
        sentences.append(
            f"{spoken(name)}: {span_in_words(float(low.min()), float(high.min()))} at worst, "
            f"{span_in_words(float(low.mean()), float(high.mean()))} on the mean, "
            f"{span_in_words(float(np.quantile(low, 0.05)), float(np.quantile(high, 0.05)))} or less on 5 % of them."
        )
    if "orric" in found.high and "theorem4" not in proved.unproved:
        sentences.append(f"For ORRIC {proved.theorem4:.4f} is proved on every such trace (Theorem 4).")
    if "inference-only" in found.high and "theorem2" not in proved.unproved:
        ceiling = f", and on {proved.slots} slots of equal requests no more than {proved.theorem3:.4f} (Theorem 3)"
        sentences.append(
            f"For Inference-Only {proved.theorem2:.4f} is proved on every such trace (Theorem 2)"
            f"{ceiling if 'theorem3' not in proved.unproved else ''}."
        )
    return [*sentences, *(f"{doubt[0].upper()}{doubt[1:]}." for doubt in proved.doubts)]


def distribution(found: Ensemble) -> Figure:
    """Draw on which part of the traces every allocator loses at most so much of the optimum."""
    figure = figure_of(4.6)
    axes = figure.subplots()
    clean(axes)
    style, handles = looks(list(found.high)), {}
    for names in _alike(found):
        low, high = (np.sort(100 * (1 - end[names[0]])) for end in (found.high, found.low))
        part = 100 * np.arange(1, len(high) + 1) / len(high)
        look = {key: style[names[0]][key] for key in ("color", "linestyle")}
        low, high = np.maximum(low, LEAST_LOSS), np.maximum(high, LEAST_LOSS)
        axes.fill_betweenx(part, low, high, color=look["color"], alpha=0.25, linewidth=0)
        (handles[" = ".join(names)],) = axes.plot(
            high, part, linewidth=1.8, marker=style[names[0]]["marker"], markevery=[-1], markersize=7, **look
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.set_ylim(0, 104)
    axes.set_xlabel("lost of the offline optimum (%)")
    axes.set_ylabel("traces that lose at most so much (%)")
    worst = {name: 100 * (1 - float(high.min())) for name, high in found.high.items()}
    ordered = sorted((names[0] for names in _alike(found)), key=lambda name: worst[name])
    said = ", ".join(f"{spoken(name)} {worst[name]:.2g} %" for name in ordered[:3])
    more = f" and {len(ordered) - 3} more" * (len(ordered) > 3)
    count = len(next(iter(found.high.values())))
    title(figure, f"Lost of the optimum on the worst of {count:,} random traces: {said}{more}", handles)
    return figure


def _alike(found: Ensemble) -> list[list[str]]:
    """Put allocators together whose ratios are the same on every trace."""
    groups: dict[bytes, list[str]] = {}
    for name, high in found.high.items():
        groups.setdefault(np.round(high, 9).tobytes(), []).append(name)
    return list(groups.values())


def beside_bounds(found: Ensemble, proved: Bounds) -> Figure:
    """Draw where every allocator's ratios lie, beside the proved bounds."""
    names = sorted(found.high, key=lambda name: float(found.high[name].min()))
    style = looks(list(found.high))
    figure = figure_of(1.7 + 0.42 * len(names))
    axes = figure.subplots()
    clean(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    handles: dict[str, Any] = {}
    marks = {
        "orric": [("theorem4", "proved: ORRIC ≥", ">")],
        "inference-only": [
            ("theorem2", "proved: Inference-Only ≥", ">"),
            ("theorem3", "proved: Inference-Only ≤", "<"),
        ],
    }
    for row, name in enumerate(names):
        high, colour = found.high[name], style[name]["color"]
        least, _, first, middle, third, most = np.quantile(high, QUANTILES)
        axes.plot([least, most], [row, row], color=colour, linewidth=1.6)
        axes.barh(row, third - first, left=first, height=0.5, color=colour, alpha=0.35)
        axes.plot([middle, middle], [row - 0.25, row + 0.25], color=colour, linewidth=2)
        axes.plot([least], [row], color=colour, marker="|", markersize=11)
        for bound, label, marker in marks.get(name, []):
            if bound in proved.unproved:
                continue
            (handles[label],) = axes.plot(
                [getattr(proved, bound)], [row], color=colour, marker=marker, markersize=8, linestyle="none",
                markerfacecolor="white" if marker == "<" else colour,
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("competitive ratio (online / optimum)")
    if "orric" in found.high and "theorem4" not in proved.unproved:
        worst = float(found.high["orric"].min())
        said = f"ORRIC's worst random trace leaves it {worst:.3f}; {proved.theorem4:.3f} is proved for every trace"
    else:
        said = f"{spoken(names[-1])} keeps the most on its worst random trace: {float(found.high[names[-1]].min()):.3f}"
    title(figure, said, handles)
    return figure


def _page(found: Ensemble, proved: Bounds, table: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    first, *others = ensemble_sentences(found, proved)
    drawn = "\n".join(figure_element(stem, figure, CAPTIONS[stem]) for stem, figure in figures.items())
    headings = ["allocator", "worst, low end", "worst, high end", "5 %", "median", "mean, low end", "mean, high end"]
    rows = []
    for name, row in table["ratios"].items():
        high = found.high[name]
        values = [
            row["worst"]["low"], row["worst"]["high"], float(np.quantile(high, 0.05)), float(np.median(high)),
            row["mean"]["low"], row["mean"]["high"],
        ]  # fmt: skip
        cells = "".join(f'<td data-value="{value!r}">{value:.6f}</td>' for value in values)
        named = html.escape(name)
        rows.append(f'<tr><th scope="row" data-value="{named}">{named}</th>{cells}</tr>')
    head = "".join(f'<th scope="col"><button type="button">{one}</button></th>' for one in headings)
    body = "\n".join(rows)
    content = (
        f'<div class="scroll"><table><caption>Competitive ratios on {table["traces"]:,} random traces</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )
    linked = "\n".join(
        f'<li><a href="{html.escape(file)}">{html.escape(file)}</a>: '
        f'<code style="overflow-wrap: anywhere">{html.escape(_replay(table, name, file))}</code></li>'
        for name, file in table["worst_traces"].items()
    )
    sections = [
        ("Allocators", content),
        ("Figures", drawn),
        ("Worst traces", f"<p>Every allocator's worst, to look into, from this folder:</p>\n<ul>\n{linked}\n</ul>"),
    ]
    provenance = {
        "command": table["command"],
        "traces": f"{table['traces']:,}, requests and budgets uniform within their ranges",
        "seed": table["seed"],
        "gap of the optimum": table["gap"],
        **{f"version of {name}": value for name, value in table["versions"].items()},
    }
    warnings = [f"{name} has no ratio: {error}" for name, error in found.failed.items()]
    return document("orric ratio: an ensemble", first, warnings, others, sections, provenance)


def _replay(table: Mapping[str, Any], name: str, file: str) -> str:
    profile = Path(table["profile"]).absolute()
    options = ["--profile", str(profile), "--trace", file, "--allocator", name, "--seed", str(table["seed"])]
    return shlex.join(["orric", "ratio", *options])
