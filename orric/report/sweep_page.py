"""The report of a sweep: who is best, by how much, where, and every run's figures to sort and filter."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orric.report.document import document, figure_element
from orric.report.sweep_heat import heat_map
from orric.report.sweep_plots import by_axis, differences, pareto
from orric.report.sweep_tables import COLUMNS, best_table, means_table, points_table
from orric.report.sweep_words import sweep_sentences

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

CAPTIONS = {
    "by_axis": (
        "Means over all points of a value and all seeds, one small figure for each axis. Bars are 95 % "
        "intervals over seeds, where they are wide enough to be seen."
    ),
    "differences": (
        "All allocators saw the same requests, budgets and drift, so that their differences are paired, seed by seed. "
        "Bars are 95 % intervals; whether a difference is beyond chance is judged after Holm's correction."
    ),
    "pareto": (
        "Means over all points and seeds. Up is more accurate, left is quicker, thriftier or cheaper; hollow marks are "
        "dominated by another allocator in that panel."
    ),
}
HEAT = (
    "Means over all points of two values. On the left the colour says who is best, and the number by "
    "how many points above the next one that earned anything else; pale cells may be chance, after Holm's correction "
    "for the cells of the map. On the right the best of all against the baseline. Below, a map for each allocator, all "
    "on one scale."
)
STEM = "heat_"
# Known of sweeps alone that ask for them.
RATIOS = ("ratio_low", "ratio_high")


def sweep_figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw every figure that a sweep allows, by file stem."""
    drawn = {"differences": differences(summary), "by_axis": by_axis(summary), "pareto": pareto(summary)}
    for number, pair in enumerate(summary.get("interactions", []), start=1):
        drawn[f"{STEM}{number}"] = heat_map(pair, summary)
    return {stem: figure for stem, figure in drawn.items() if figure is not None}


def sweep_page(
    summary: Mapping[str, Any],
    frame: pandas.DataFrame,
    figures: Mapping[str, Figure],
    cases: Mapping[str, Path],
) -> str:
    """Return the report of a sweep as one HTML document.

    Args:
        summary: What sweep.json holds.
        frame: All runs.
        figures: From `sweep_figures`.
        cases: Scenario files of single points, by what they are, relative to the page.
    """
    first, *others = sweep_sentences(summary, frame)
    warnings = []
    if summary["failed"]:
        warnings.append(
            f"{summary['failed']} of {summary['runs']} runs failed; runs.csv has their errors. " + _left_out(summary)
        )
    if lacking := [title for name, title, *_ in COLUMNS if name not in frame and name not in RATIOS]:
        warnings.append(
            f"Written by an earlier version of orric, which did not record: {', '.join(lacking)}. The rest is shown."
        )
    drawn = "\n".join(figure_element(stem, figures[stem], CAPTIONS[stem]) for stem in CAPTIONS if stem in figures)
    linked = "\n".join(
        f'<li><a href="{html.escape(path.as_posix())}">{html.escape(what)}</a></li>' for what, path in cases.items()
    )
    sections = [("Allocators", means_table(summary)), ("Figures", drawn)]
    if maps := _heat_maps(summary, figures):
        sections.append(("Two axes at a time", maps))
    if summary.get("by_point"):
        sections += [("Best at every point", best_table(summary))] if summary["points"] > 1 else []
        sections.append(("Points", points_table(summary)))
    else:
        warnings.append("Written by an earlier version of orric, which did not tell single points; runs.csv has them.")
    if linked:
        slots = summary["engine"] == "slot-model"
        again = "orric evaluate --scenario FILE --allocator NAME --seed SEED" if slots else "orric run FILE --seed SEED"
        said = f"<p>Scenario files of single points; <code>{again}</code> repeats runs of the sweep.</p>"
        sections.insert(-1, ("Cases", f"{said}\n<ul>\n{linked}\n</ul>"))
    note = [summary["note"]] if summary["note"] else []
    provenance = {
        "command": summary["command"],
        "engine": summary["engine"],
        "runs": f"{summary['runs']:,}",
        **{f"version of {name}": value for name, value in summary["versions"].items()},
    }
    title, styles = f"orric sweep: {summary['sweep']}", ["sweep.css"]
    return document(title, first, warnings, [*note, *others], sections, provenance, styles)


def _heat_maps(summary: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return the heat maps, of several of which a reader chooses one; without scripts all are shown."""
    pairs = summary.get("interactions", [])
    drawn = {n: f"{STEM}{n}" for n in range(1, len(pairs) + 1) if f"{STEM}{n}" in figures}
    if not drawn:
        return ""
    maps = "\n".join(figure_element(stem, figures[stem], HEAT) for stem in drawn.values())
    omitted, said = summary.get("interactions_left_out", []), ""
    if omitted:
        said = (
            f"<p>The {len(drawn)} of {len(drawn) + len(omitted)} pairs that do most together; left out: "
            f"{html.escape(', '.join(omitted))}.</p>"
        )
    if len(drawn) == 1:
        return said + maps
    options = "".join(
        f'<option value="{stem}">{html.escape(" x ".join(pairs[n - 1]["axes"]))}</option>' for n, stem in drawn.items()
    )
    return f'{said}<p><label>Axes <select id="pair">{options}</select></label></p>\n{maps}\n<script>{_CHOICE}</script>'


def _left_out(summary: Mapping[str, Any]) -> str:
    """Say over what the means are where runs failed."""
    if summary["whole_points"] < summary["points"]:
        return (
            f"Means are over the {summary['whole_points']} of {summary['points']} points at which no run failed, but "
            "for allocators that failed everywhere."
        )
    return f"Means are over the {summary['pairs']} of {summary['seeds']} seeds under which no run failed at any point."


_CHOICE = """
{
  const choice = document.getElementById("pair");
  const maps = [...choice.options].map(one => document.getElementById(one.value));
  const show = () => maps.forEach(one => { one.hidden = one.id !== choice.value; });
  choice.addEventListener("change", show);
  show();
}
"""
