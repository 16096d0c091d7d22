"""What a sweep says of its single points: every measure of every allocator with its interval, and who is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orric.sweep.figures import Figures, shown, told_of

if TYPE_CHECKING:
    import pandas

# Rows, of a point and an allocator each, that sweep.json lists; points.csv has all.
LISTED = 2000


def by_point(figures: Figures, measures: Sequence[str], winners: Sequence[dict[str, Any] | None]) -> list[Any]:
    """Return what there is to say of every point, as plain values for a file: of the first where there are very many.

    Args:
        figures: Of the sweep.
        measures: That are known.
        winners: Of every point, from `Figures.winners`.
    """
    lines, points = figures.sweep.lines, figures.sweep.points
    count = min(len(points), max(LISTED // len(lines), 1))
    intervals = {name: figures.intervals(figures.of(name)[:count]) for name in measures}
    return [
        {
            "point": point + 1,
            "values": {title: shown(value) for title, value in points.labels(point).items()},
            "means": {
                line: {name: told_of(parts, point, place) for name, parts in intervals.items()}
                for place, line in enumerate(lines)
            },
            "winner": winners[point],
        }
        for point in range(count)
    ]


def points_frame(figures: Figures, measures: Sequence[str], head: pandas.DataFrame) -> pandas.DataFrame:
    """Return the intervals of all points as a table: one row for each point and allocator.

    Args:
        figures: Of the sweep.
        measures: That are known; each has its mean, its lower and its upper end in a column.
        head: The columns that say which point and allocator a run is of, of all runs.
    """
    rows = head.iloc[:: figures.seeds].reset_index(drop=True)
    columns: dict[str, Any] = {}
    for name in measures:
        mean, low, high, count = (part.reshape(-1) for part in figures.intervals(figures.of(name)))
        columns.setdefault("seeds", count.astype(int))
        columns |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return rows.assign(**columns)


def winners_frame(figures: Figures, winners: Sequence[dict[str, Any] | None], head: pandas.DataFrame) -> Any:
    """Return who is best at every point, who comes next and by how much, as a table.

    Args:
        figures: Of the sweep.
        winners: Of every point, from `Figures.winners`.
        head: The columns that say which point a run is of, of all runs.
    """
    rows = head.iloc[:: figures.seeds * len(figures.sweep.lines)].reset_index(drop=True)
    names = ("best", "runner_up", "tie", "mean", "low", "high", "count", "p_holm", "beyond_chance")
    unknown = dict.fromkeys(names)
    for name in names:
        title = "difference" if name == "mean" else name
        rows[title] = [(winner or unknown)[name] for winner in winners]
    return rows


def tally(winners: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Count at how many points the best is ahead beyond chance, in a tie, or ahead under seeds that change nothing."""
    known = [winner for winner in winners if winner is not None]
    beyond = [winner for winner in known if winner["beyond_chance"] and not winner["tie"]]
    return {
        "points": len(known),
        "beyond_chance": len(beyond),
        "ties": sum(winner["tie"] for winner in known),
        "one_run": sum(winner["p_holm"] is None and winner["count"] > 1 and not winner["tie"] for winner in known),
        "judged": sum(winner["p_holm"] is not None for winner in known),
        "ahead": {
            line: sum(winner["best"] == line for winner in beyond)
            for line in sorted({winner["best"] for winner in beyond})
        },
    }
