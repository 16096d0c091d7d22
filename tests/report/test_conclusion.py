"""What a report says first: by which measure, and what it warns of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.records import Result
from orric.report.conclusion import conclusion, idle_while_late
from orric.report.facts import leading, leading_name, winners
from orric.report.folder import untried
from orric.report.plots import accuracy_by_slot, accuracy_cost_latency
from orric.report.table import columns_of, html_table


@pytest.fixture(scope="module")
def pair(small) -> list[Result]:
    """Return an allocator that is late, and one that is less right but in time."""
    result = orric.simulate(small(), orric.Orric(), seed=1)
    requests = result.requests
    return [
        altered(result, "late-one", served=requests, late=0.4 * requests, correct=0.9 * requests,
                correct_in_time=0.5 * requests),
        altered(result, "prompt", served=requests, late=0.0 * requests, correct=0.7 * requests,
                correct_in_time=0.7 * requests),
    ]  # fmt: skip


def altered(result: Result, allocator: str, **columns: np.ndarray) -> Result:
    """Return a result under another name, with other columns, of which nothing was turned away."""
    none = dict.fromkeys(("shed", "waiting", "lost", "abandoned"), np.zeros(len(result.requests)))
    return replace(result, allocator=allocator, columns={**result.columns, **none, **columns})


def test_with_deadlines_all_goes_by_what_was_right_and_in_time(pair) -> None:
    assert [leading(one) for one in pair] == pytest.approx([0.5, 0.7])
    assert leading_name(pair) == "in-time accuracy"
    assert [one.allocator for one in winners(pair)] == ["prompt"]
    verdict, over_all, *_ = conclusion(pair)
    assert "prompt did best of 2 allocators, with 70.0 % of all requests right and in time, 20.0 points" in verdict
    assert "70.0 % were answered correctly; by that measure late-one did best (90.0 %)" in over_all
    table = html_table(pair, "curve", None, {("curve", one.allocator): n for n, one in enumerate(pair)})
    assert 'class="best" data-result="1"><th scope="row" data-value="prompt"' in table
    for figure in (accuracy_by_slot(pair), accuracy_cost_latency(pair)):
        assert figure.get_suptitle().startswith("prompt ")
        assert "70.0" in figure.get_suptitle()
    assert accuracy_cost_latency(pair).axes[0].get_ylabel() == "In-time accuracy over all requests (%)"


def test_without_deadlines_all_goes_by_what_was_right(pair) -> None:
    free = [
        replace(altered(one, one.allocator, late=0 * one.late, correct_in_time=one.correct), has_deadlines=False)
        for one in pair
    ]
    assert leading_name(free) == "mean accuracy"
    verdict, *others = conclusion(free)
    assert "late-one did best of 2 allocators, with 90.0 % of all requests answered correctly" in verdict
    assert not any("deadline" in sentence or "late answers" in sentence for sentence in others)


def test_budget_left_while_answers_come_late_is_warned_of(pair) -> None:
    budget = pair[0].budget_macs
    late, prompt = (
        altered(one, one.allocator, **{**one.columns, "inference_macs": 0.5 * budget, "retraining_macs": 0 * budget})
        for one in pair
    )
    (warning,) = idle_while_late([late])
    assert warning.startswith("Warning: under late-one 50 % of the budget is left unused while 40 % of all requests")
    assert "spare" in warning
    assert "headroom" in warning
    assert conclusion([late])[1] == warning
    # The best allocator is prompt, and only of the best is spoken.
    assert idle_while_late([late, prompt]) == []
    other = replace(late, allocator="other")
    assert "likewise under other" in idle_while_late([late, other])[0]
    busy = altered(late, "busy", **{**late.columns, "inference_macs": 0.9 * budget})
    assert idle_while_late([busy]) == []


def test_only_what_is_not_yet_set_is_advised(pair, small) -> None:
    budget = pair[0].budget_macs
    idle = {"inference_macs": 0.5 * budget, "retraining_macs": 0 * budget}
    late, prompt = (altered(one, one.allocator, **{**one.columns, **idle}) for one in pair)
    (warning,) = idle_while_late([late], ["headroom"])
    assert "Plan for more than the forecast (headroom), or give a deadline" in warning
    assert "spare" not in warning
    (warning,) = idle_while_late([late, replace(late, allocator="inference-only")], [])
    assert "late by service times (half of the answers take" in warning
    assert "as 40 % do under inference-only: a faster GPU" in warning
    none_right = replace(prompt, allocator="inference-only", columns={**prompt.columns, "correct_in_time": 0 * budget})
    (warning,) = idle_while_late([late, none_right], [])
    assert "what delays the others is retraining" in warning
    assert not any(word in warning for word in ("spare", "headroom", "sharing"))


def test_what_is_not_yet_set_is_told_of_the_scenario(small) -> None:
    sharing = {"sharing": {"model": "priority"}}
    assert untried(small(spare="inference", **sharing)) == []
    assert untried(small(spare="idle", **sharing)) == ["spare", "headroom"]
    assert untried(small(spare="idle", headroom=0.2, **sharing)) == ["spare"]
    assert untried(small(spare="inference", sharing={"model": "fluid"})) == ["sharing", "headroom"]


def test_the_last_severity_is_told_only_where_it_is_the_worst(small) -> None:
    def told(**drift: object) -> tuple[list[str], str]:
        one = orric.simulate(small(drift={"corruption": "fog", **drift}), orric.InferenceOnly(), seed=1)
        headline = " ".join(accuracy_by_slot([one]).get_suptitle().replace("\u00a0", " ").split())
        return [column.heading for column in columns_of([one.pooled()])], headline

    headings, headline = told(kind="steps", severities=[1, 3, 5])
    assert "accuracy, last severity (%)" in headings
    assert "at severity 5" in headline
    headings, headline = told(kind="periodic", low=1, high=5, period_slots=6)
    assert "mean accuracy (%)" in headings
    assert "accuracy, last severity (%)" not in headings
    assert "on average" in headline


def test_streams_that_are_pooled_keep_whether_they_end_at_their_worst(small) -> None:
    one = orric.simulate(small(), orric.InferenceOnly(), seed=1)
    two = {name: np.repeat(values, 2) for name, values in one.columns.items()}
    two["stream"] = np.tile(["a", "b"], len(one.slot))
    rising = np.arange(len(one.slot)) // 3
    for second, ends in ((rising + 1, True), (rising[::-1], False)):
        both = replace(one, columns={**two, "severity": np.stack([rising, second], axis=1).ravel()})
        assert both.pooled().ends_at_its_worst is both.ends_at_its_worst is ends


def test_where_nobody_was_answered_it_says_so_and_why(pair) -> None:
    nothing = np.zeros(len(pair[0].requests))
    shed = altered(
        pair[0], "orric", served=nothing, late=nothing, correct=nothing, correct_in_time=nothing,
        accuracy=np.full(len(nothing), np.nan), shed=pair[0].requests,
    )  # fmt: skip
    first, second = conclusion([replace(shed, columns={**shed.columns, "shed": pair[0].requests})])
    assert first == "No request was answered, so there is nothing to compare."
    assert "(100.0 % shed)" in second


def test_who_ties_by_chance_is_over_nobody(pair) -> None:
    """All three tied to within what may be chance, and the best was said to be points over another."""
    late, prompt = pair
    requests = late.requests / late.requests.sum() * 40.0  # so few that much may be chance
    lines = [
        altered(late, name, requests=requests, served=requests, late=0.0 * requests, correct=part * requests,
                correct_in_time=part * requests)
        for name, part in (("orric", 0.70), ("inference-only", 0.64), ("thief", 0.66))
    ]  # fmt: skip
    lines = [replace(one, accuracy_model="onnx") for one in lines]
    verdict, *others = conclusion(lines)
    assert "all 3 allocators tie" in verdict
    said = " ".join(others)
    assert "level with inference-only (64.0 %)" in said
    assert "points over" not in said
    assert winners([prompt, late]) == [prompt]
