"""The page of a comparison of result folders: what differs in what was asked, and every measure of every allocator."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from orric.report.changes import MEASURES, Change, changes, in_words, tells_chance
from orric.report.compare import Case, Folder, cases_of, told_apart
from orric.report.document import document
from orric.report.listing import Cell, listing

# Changes of what was asked that stand in the headline.
MOST_NAMED = 2
NOTE = (
    "Paired by seed. Intervals are of 95 %; what is beyond chance is so after Holm's correction for the allocators "
    "of a measure."
)


@dataclass(frozen=True)
class Comparison:
    """What a case is to the first one.

    Attributes:
        first: The first case.
        other: The case.
        differs: What differs in what was asked, line by line.
        found: Every change.
    """

    first: Case
    other: Case
    differs: list[str]
    found: list[Change]

    @property
    def sentences(self) -> list[str]:
        """What it comes to."""
        return in_words(self.first, self.other, self.found)


def compared(folders: Sequence[Folder]) -> list[Comparison]:
    """Compare folders with the first.

    Args:
        folders: At least two; runs of one scenario that differ by their seed alone are pooled.

    Raises:
        ScenarioError: They cannot be compared.
    """
    first, *others = cases_of(folders)
    return [Comparison(first, one, told_apart(first.first, one.first), changes(first, one)) for one in others]


def lacking(folders: Sequence[Folder]) -> list[str]:
    """Say which folders are of an earlier version, and what they do not know."""
    return [
        f"{one.path} is of an earlier version of orric, which did not record: {', '.join(one.lacking)}."
        for one in folders
        if one.lacking
    ]


def row_of(change: Change) -> tuple[str, str, str, str]:
    """Write a change: before, after, the difference with its interval, and whether it may be chance."""
    measure = MEASURES[change.measure]
    reach = ""
    if change.high > change.low:
        reach = f" ({measure.text(change.low, signed=True)} to {measure.text(change.high, signed=True)})"
    moved = measure.text(change.difference, signed=True) + reach
    return measure.text(change.before), measure.text(change.after), moved, change.verdict


def compare_page(folders: Sequence[Folder], told: Sequence[Comparison]) -> str:
    """Return the comparison as one HTML document.

    Args:
        folders: All of them.
        told: From `compared`.
    """
    verdict, *sentences = [sentence for one in told for sentence in one.sentences]
    if len(told) == 1 and (changed := [line for line in told[0].differs if not line.startswith("version of ")]):
        more = f"; and {len(changed) - MOST_NAMED} more" * (len(changed) > MOST_NAMED)
        verdict += f" What was changed: {'; '.join(changed[:MOST_NAMED])}{more}."
    chance = any(tells_chance(one.found) for one in told)
    sections = []
    for number, one in enumerate(told, start=1):
        differs = "".join(f"<li>{html.escape(line)}</li>" for line in one.differs)
        asked = f"<p>What was asked differs in:</p>\n<ul>{differs}</ul>" if differs else "<p>The same was asked.</p>"
        rows = []
        for change in one.found:
            measure = MEASURES[change.measure]
            before, after, moved, verdict_of = row_of(change)
            known = change.difference == change.difference
            rows.append(
                [
                    Cell(f"{measure.title} ({measure.unit})"),
                    Cell(change.allocator),
                    Cell(before, measure.factor * change.before if change.before == change.before else None),
                    Cell(after, measure.factor * change.after if change.after == change.after else None),
                    Cell(moved, measure.factor * change.difference if known else None),
                    *([Cell(verdict_of)] if chance else []),
                ]
            )
        words = ("measure", "allocator", *(["chance"] if chance else []))
        headings = ("measure", "allocator", "before", "after", "change", *words[2:])
        caption = f"Before: {one.first.label}; after: {one.other.label}"
        table = listing(f"changes-{number}", caption, headings, rows, words)
        sections.append((f"{one.first.label} and {one.other.label}", f"{asked}\n{table}"))
    provenance = {
        f"folder {number}": f"{folder.path}: {folder.summary.get('command', 'unknown command')}"
        for number, folder in enumerate(folders, start=1)
    }
    return document(
        "orric report: comparison",
        verdict,
        lacking(folders),
        [*sentences, *([NOTE] if chance else [])],
        sections,
        provenance,
    )
