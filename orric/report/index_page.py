"""The page of all results below a folder: what each says, and where its report lies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orric.allocators import REFERENCES
from orric.durable import read_bounded
from orric.exceptions import ScenarioError
from orric.report.compare import RUN, SWEEP
from orric.report.document import document
from orric.report.facts import TIE, percent
from orric.report.listing import Cell, listing

# A summary of a sweep over hundreds of allocators and axes has a few megabytes.
MOST_BYTES, MOST_FOLDERS, DEEPEST = 2**26, 10_000, 12
PAGE = "index.html"
# Folders of a result that are parts of it.
PARTS = ("chunks", "cases", "requests")
# By which a page is known again as one of these.
SIGN = b"<title>orric results"


@dataclass(frozen=True)
class Entry:
    """A result folder.

    Attributes:
        folder: Where it lies, relative to where the index lies; letters that are none are replaced.
        address: The same, to be followed by a browser.
        kind: "run" or "sweep".
        name: Of the scenario or the sweep.
        date: When it was written, in universal time (ISO 8601).
        seed: Of a run; of a sweep how many.
        verdict: The first sentence of its conclusion.
        best: The best allocator, "" where there is none.
        accuracy: Its in-time accuracy, which without deadlines is its mean accuracy; None unknown.
        late: The part of all requests that came late under it; None unknown.
        has_report: Whether it has a report.html.
    """

    folder: str
    address: str
    kind: str
    name: str
    date: str
    seed: str
    verdict: str
    best: str
    accuracy: float | None
    late: float | None
    has_report: bool

    @property
    def plain(self) -> dict[str, Any]:
        """It as plain values for a file."""
        return asdict(self)


def entries(folder: Path) -> list[Entry]:
    """Find every result folder below a folder, the newest first; whatever else lies there is passed over.

    Links are not followed, and what cannot be read is no result.

    Args:
        folder: Where to look.

    Raises:
        ScenarioError: It is no folder.
    """
    if not folder.is_dir():
        raise ScenarioError(f"folder {folder}", "is no folder", "give one that has result folders below it")
    found = [entry for path, mark in _marks(folder) if (entry := _entry(folder, path, mark)) is not None]
    return sorted(found, key=lambda entry: (entry.date, entry.folder), reverse=True)


def _marks(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders that may be results, with the name of the file that says so."""
    seen = 0
    for place, below, files in os.walk(folder):
        path = Path(place)
        mark = next((name for name in (RUN, SWEEP) if name in files), None)
        if mark is not None:
            seen += 1
            yield path, mark
        if seen >= MOST_FOLDERS:
            return
        deep = len(path.relative_to(folder).parts) >= DEEPEST
        below[:] = [] if deep else sorted(name for name in below if mark is None or name not in PARTS)


def _entry(root: Path, path: Path, mark: str) -> Entry | None:
    """Read a result folder; None where it is none."""
    try:
        summary = json.loads(read_bounded(path / mark, MOST_BYTES))
        date = datetime.fromtimestamp((path / mark).stat().st_mtime, UTC).isoformat(timespec="seconds")
        told = _run(summary) if mark == RUN else _sweep(summary)
        verdict = str(next(iter(summary["conclusion"]), ""))
    # Whatever a stranger's file of that name holds, it is no result.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    relative = os.fsencode(path.relative_to(root).as_posix())
    return Entry(
        relative.decode("utf-8", "replace"),
        quote(relative),
        "run" if mark == RUN else "sweep",
        date=date,
        verdict=verdict,
        has_report=(path / "report.html").is_file(),
        **told,
    )


def _run(summary: Mapping[str, Any]) -> dict[str, Any]:
    results = [one for one in summary["results"] if one["allocator"] not in REFERENCES] or summary["results"]
    models = [one["accuracy_model"] for one in results]
    main = "onnx" if "onnx" in models else models[0]
    shown = {one["allocator"]: one for one in results if one["accuracy_model"] == main}
    best = shown[_best({name: _accuracy(one) for name, one in shown.items()})]
    requests = float(best["requests"])
    late = float(best["late"]) / requests if requests else 0.0
    told = {"name": str(summary["scenario"]), "seed": str(int(summary["seed"])), "best": str(best["allocator"])}
    return {**told, "accuracy": _in_time(best, late), "late": late}


def _sweep(summary: Mapping[str, Any]) -> dict[str, Any]:
    name, seeds = str(summary["sweep"]), int(summary["seeds"])
    means = {
        line: {measure: (one or {}).get("mean") for measure, one in measures.items()}
        for line, measures in summary["means"].items()
    }
    known = {line: one for line, one in means.items() if one.get("mean_accuracy") is not None}
    told = {"name": name, "seed": f"{seeds} seeds" if seeds != 1 else "1 seed"}
    rivals = [line for line in known if line not in REFERENCES] or list(known)
    if not rivals:
        return {**told, "best": "", "accuracy": None, "late": None}
    best = _best({line: _accuracy(known[line]) for line in rivals})
    late, requests = known[best].get("late"), known[best].get("requests")
    part = float(late) / float(requests) if late is not None and requests else None
    return {**told, "best": str(best), "accuracy": _in_time(known[best], part), "late": part}


def _in_time(one: Mapping[str, Any], late: float | None) -> float | None:
    """Return the in-time accuracy; None where some were late, and an earlier version did not record it."""
    return None if one.get("in_time_accuracy") is None and late else _accuracy(one)


def _accuracy(one: Mapping[str, Any]) -> float:
    """Return what allocators are ranked by: in-time accuracy, or the mean one where it was not recorded."""
    value = one.get("in_time_accuracy")
    found = float(one["mean_accuracy"] if value is None else value)
    if not 0 <= found <= 1:
        raise ValueError(f"found an accuracy of {found}")
    return found


def _best(accuracies: Mapping[str, float]) -> str:
    """Return the name of the most accurate: ORRIC's where it ties, as in the conclusion."""
    best = max(accuracies, key=lambda name: accuracies[name])
    return "orric" if accuracies.get("orric", -1.0) >= accuracies[best] - TIE else best


# What is asked first stands where a narrow window still shows it.
HEADINGS = ("folder", "best", "in-time accuracy (%)", "late (%)", "name", "kind", "date", "seed")


def index_page(folder: Path, found: Sequence[Entry]) -> str:
    """Return the index as one HTML document.

    Args:
        folder: Where it will lie.
        found: From `entries`.
    """
    rows = []
    for entry in found:
        accuracy, late = (None if part is None else 100 * part for part in (entry.accuracy, entry.late))
        rows.append(
            [
                Cell(entry.folder, link=f"{entry.address}/{'report.html' * entry.has_report}", note=entry.verdict),
                Cell(entry.best),
                Cell("-" if accuracy is None else f"{accuracy:.2f}", accuracy),
                Cell("-" if late is None else f"{late:.2f}", late),
                Cell(entry.name),
                Cell(entry.kind),
                Cell(entry.date.replace("T", " ").removesuffix("+00:00"), entry.date),
                Cell(entry.seed, int(entry.seed.split()[0])),
            ]
        )
    kinds = {kind: sum(entry.kind == kind for entry in found) for kind in ("run", "sweep")}
    counted = " and ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in kinds.items() if count)
    verdict = f"{counted} below {folder.resolve().name or folder}" if found else f"No result lies below {folder}"
    notes = [
        "In-time accuracy is right and in time, over all requests, of the best allocator; where nothing has a "
        'deadline it is the mean accuracy, and "-" where an earlier version of orric did not record it. Dates are in '
        "universal time.",
    ]
    table = listing("results", "All results, the newest first", HEADINGS, rows, ("name", "kind")) if rows else ""
    worst = max(found, key=lambda entry: entry.late or 0.0, default=None)
    warnings = []
    if worst is not None and (worst.late or 0.0) >= 0.05:
        warnings.append(f"{worst.folder}: {percent(worst.late)} of all requests come late even under {worst.best}.")
    return document("orric results", f"{verdict}.", warnings, notes, [("Results", table)], {"folder": str(folder)})
