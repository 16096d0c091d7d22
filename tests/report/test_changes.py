"""Folders are compared by every measure, paired by seed; runs that differ by their seed alone are pooled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas
import pytest

from orric.exceptions import ScenarioError
from orric.report.changes import MEASURES, changes, in_words
from orric.report.compare import Case, Folder, _changed, cases_of
from orric.report.compare_page import compare_page, compared

from ..result_folders import write_run

# Who heeds no deadline is late by what idles.
LATE, ALLOCATORS = "inference-greedy", ("inference-greedy", "inference-only")


@pytest.fixture(scope="module")
def folders(small, tmp_path_factory) -> dict[tuple[str, int], Folder]:
    """Return runs with a spare that idles, and with one that serves, under three seeds each."""
    root = tmp_path_factory.mktemp("runs")
    return {
        (spare, seed): Folder.load(write_run(root / f"{spare}-{seed}", small(spare=spare, allocators=ALLOCATORS), seed))
        for spare in ("idle", "inference")
        for seed in (1, 2, 3)
    }


def test_every_measure_is_compared_and_the_leading_one_stands_first(folders) -> None:
    one, other = folders["idle", 1], folders["inference", 1]
    found = changes(*cases_of([one, other]))
    assert found[0].measure == "in_time_accuracy"
    told = {change.measure for change in found}
    assert told >= {"mean_accuracy", "late", "latency_p50_s", "latency_p99_s", "macs_per_request", "answered"}
    for change in found:
        for folder, value in ((one, change.before), (other, change.after)):
            (mine,) = [row for row in folder.summary["results"] if row["allocator"] == change.allocator]
            whole = mine["requests"] if MEASURES[change.measure].part_of_requests else 1.0
            assert value == pytest.approx(mine[change.measure] / whole)
        assert change.verdict in ("one pair only", "same")


def test_a_sentence_tells_what_came_late(folders) -> None:
    cases = cases_of([folders["idle", 1], folders["inference", 1]])
    found = changes(*cases)
    late, tail = (
        next(one for one in found if one.measure == name and one.allocator == LATE)
        for name in ("late", "latency_p99_s")
    )
    assert late.before - late.after > 0.05
    text = " ".join(in_words(*cases, found))
    assert f"late {100 * late.before:.2f} to {100 * late.after:.2f} %" in text
    assert f"p99 latency {tail.before:.3f} to {tail.after:.3f} s" in text
    assert "one seed, which says nothing of chance" in text


def test_seeds_of_one_scenario_are_pooled_as_pairs(folders) -> None:
    cases = cases_of([folders[key] for key in sorted(folders)])
    assert [len(case.folders) for case in cases] == [3, 3]
    found = changes(*cases)
    late = next(one for one in found if one.measure == "late" and one.allocator == LATE)
    apart = []
    for seed in (1, 2, 3):
        ends = []
        for spare in ("idle", "inference"):
            (mine,) = [r for r in folders[spare, seed].summary["results"] if r["allocator"] == LATE]
            ends.append(mine["late"] / mine["requests"])
        apart.append(ends[1] - ends[0])
    assert late.pairs == 3
    assert late.difference == pytest.approx(sum(apart) / 3)
    assert late.low < late.difference < late.high < 0
    assert late.verdict == "beyond chance"
    assert "over 3 seeds" in " ".join(in_words(*cases, found)).lower()


def test_seeds_alone_leave_nothing_to_pair(folders) -> None:
    cases = cases_of([folders["idle", 1], folders["idle", 2]])
    assert len(cases) == 2
    found = changes(*cases)
    assert {change.verdict for change in found} - {"same"} == {"nothing to pair"}
    assert "No seed is in both" in " ".join(in_words(*cases, found))


def test_any_number_is_compared_with_the_first(folders) -> None:
    told = compared([folders["idle", 1], folders["inference", 1], folders["idle", 1]])
    assert [one.other.label for one in told] == [str(folders[spare, 1].path) for spare in ("inference", "idle")]
    assert told[0].differs == ["spare: idle -> inference"]
    assert told[1].differs == []
    assert {change.verdict for change in told[1].found} == {"same"}


def test_streams_that_change_alike_share_a_line() -> None:
    before = {"stream.1.deadline_s": 3.0, "stream.2.deadline_s": 3.0, "stream.3.deadline_s": 3.0, "a{0}": 1}
    assert _changed(before, dict.fromkeys(before, 5.0)) == ["stream.*.deadline_s: 3.0 -> 5.0", "a{0}: 1 -> 5.0"]
    two = {**before, "stream.1.deadline_s": 5.0, "stream.3.deadline_s": 5.0}
    assert _changed(before, two) == ["stream.1,3.deadline_s: 3.0 -> 5.0"]
    assert _changed(before, {**before, "stream.2.deadline_s": 4.0}) == ["stream.2.deadline_s: 3.0 -> 4.0"]


def test_the_headline_tells_by_how_much_and_after_what(folders) -> None:
    pair = [folders["idle", 1], folders["inference", 1]]
    (told,) = compared(pair)
    change = next(one for one in told.found if one.measure == "in_time_accuracy" and one.allocator == LATE)
    page = compare_page(pair, [told])
    verdict = re.findall('<p class="verdict">(.*?)</p>', page)[0]
    assert f"{100 * change.difference:.2f} points more than the highest in" in verdict
    assert verdict.endswith("What was changed: spare: idle -&gt; inference.")
    # Of one seed nothing is known of chance, and no column says so row by row.
    assert ">chance<" not in page
    seeds = [folders[key] for key in sorted(folders)]
    assert ">chance<" in compare_page(seeds, compared(seeds))


def test_of_other_slots_those_that_both_have_are_compared(folders, small, tmp_path: Path) -> None:
    short = Folder.load(write_run(tmp_path / "short", small(spare="idle", slots=5, allocators=ALLOCATORS), 1))
    (told,) = compared([folders["idle", 1], short])
    assert any("12 and 5; compared are the 5 that both have" in line for line in told.differs)
    names = {change.measure for change in told.found}
    assert names >= {"in_time_accuracy", "late", "macs_per_request"}
    assert "latency_p99_s" not in names
    rows = folders["idle", 1].rows
    mine = rows[(rows["allocator"] == LATE) & (rows["slot"] <= 5)]
    late = next(one for one in told.found if one.measure == "late" and one.allocator == LATE)
    assert late.before == pytest.approx(mine["late"].sum() / mine["requests"].sum())


def test_without_deadlines_the_mean_accuracy_leads(small, tmp_path: Path) -> None:
    free = small(deadline_s=None)
    pair = [Folder.load(write_run(tmp_path / name, free, seed)) for name, seed in (("a", 1), ("b", 1))]
    found = changes(*cases_of(pair))
    assert found[0].measure == "mean_accuracy"
    assert not {"late", "in_time", "in_time_accuracy"} & {change.measure for change in found}


def test_what_cannot_be_compared_is_refused(folders, small, tmp_path: Path) -> None:
    other = Folder.load(write_run(tmp_path / "named", small(), 1))
    rows = other.rows.assign(stream="door")
    strange = Folder(other.path, other.summary, rows, other.keys)
    with pytest.raises(ScenarioError, match="no slot of a stream is in both"):
        changes(Case((folders["idle", 1],)), Case((strange,)))
    alone = Folder(other.path, other.summary, other.rows.assign(allocator="thief"), other.keys)
    with pytest.raises(ScenarioError, match="no allocator is in both"):
        changes(Case((folders["idle", 1],)), Case((alone,)))


def test_a_folder_of_an_earlier_version_is_compared_by_what_it_has(folders, small, tmp_path: Path) -> None:
    path = write_run(tmp_path / "old", small(spare="idle"), 1)
    rows = pandas.read_parquet(path / "result.parquet")
    rows.drop(columns=["correct_in_time", "abandoned", "lost"]).to_parquet(path / "result.parquet", index=False)
    summary = json.loads((path / "summary.json").read_text())
    summary["results"] = [{key: row[key] for key in ("allocator", "accuracy_model")} for row in summary["results"]]
    (path / "summary.json").write_text(json.dumps(summary))
    found = changes(*cases_of([Folder.load(path), folders["inference", 1]]))
    assert {change.measure for change in found} == {"mean_accuracy"}
