"""Answers that count by their deadline: in the slot model, the optimum, its certificates, the bounds and the search."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators.base import StreamTask, Task
from orric.allocators.orric import exhaustive, profit_floor, slot_weights
from orric.configuration import undominated
from orric.exceptions import AllocatorError
from orric.objective import feasible

from ..builders import build_profile
from .instances import MEMORIES, plain_extents, random_instance

RETRAINING = ((0.0, 0.0), (0.4, 2.0), (1.0, 5.0))
INFERENCE = ((0.5, 1.0), (0.8, 3.0), (1.0, 6.0))


def parts_of(profile: orric.Profile, slots: int, seed: int) -> np.ndarray:
    """Draw in-time parts of which some are none, some all, and many equal."""
    rng = np.random.default_rng([seed, 7])
    size = (slots, len(undominated(profile.retraining)), len(undominated(profile.inference)))
    return rng.choice([0.0, 0.25, 0.5, 1.0, 1.0], size) if seed % 2 else np.clip(rng.uniform(-0.2, 1.2, size), 0, 1)


def small() -> tuple[orric.Profile, orric.Trace, np.ndarray]:
    """Return three slots in which everything fits but in the second, and parts that fall with the load."""
    profile = build_profile(RETRAINING, INFERENCE, slope_floor=0.05)
    trace = orric.Trace(requests=[10, 10, 20], budget_macs=[200, 60, 400])
    parts = np.ones((3, 3, 3))
    parts[:, 1:, 2], parts[:, 2, 1], parts[1] = 0.5, 0.8, 0.25
    return profile, trace, parts


def brute_force(profile: orric.Profile, trace: orric.Trace, parts: np.ndarray) -> float:
    """Return the most right answers in time over every sequence of pairs; all that does not fit is shed."""
    retraining, inference = undominated(profile.retraining), undominated(profile.inference)
    requests, choices = trace.requests.tolist(), []
    for slot, (count, budget) in enumerate(zip(requests, trace.budget_macs.tolist(), strict=True)):
        fitting = [
            (one.profit, other.profit * parts[slot, i, j] * count)
            for i, one in enumerate(retraining)
            for j, other in enumerate(inference)
            if count * (one.cost_macs + other.cost_macs) <= budget
        ]
        shed = min(budget // inference[0].cost_macs, parts[slot, 0, 0] * count)
        choices.append(fitting or [(0.0, inference[0].profit * shed)])
    curves = [profile.curve.at(slot) for slot in range(1, trace.slots + 1)]
    best = 0.0
    for path in itertools.product(*choices):
        extents = plain_extents(requests, [profit for profit, _ in path], profile.memory)
        value = sum(float(f(x)) * reward for f, x, (_, reward) in zip(curves, extents, path, strict=True))
        best = max(best, value)
    return best


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_optimum_is_the_best_of_everything_and_its_certificate_proves_it(memory: str) -> None:
    for seed in range(12):
        profile, trace = random_instance(seed, memory, compete=seed % 2 == 0, slots=4, choices=3)
        if seed % 3 == 0:
            scarce = np.random.default_rng(seed).choice([0.02, 1.0], trace.slots)
            trace = orric.Trace(requests=trace.requests, budget_macs=trace.budget_macs * scarce)
        parts = parts_of(profile, trace.slots, seed)
        value, allocations = orric.exact_optimum(profile, trace, overload="shed", in_time=parts)
        assert value == pytest.approx(brute_force(profile, trace, parts), rel=1e-12)
        best = orric.offline_optimum(profile, trace, 1e-6, overload="shed", in_time=parts)
        assert best.lower <= value <= best.upper
        assert best.gap <= 1e-6 or memory == "window"
        assert orric.verify(best.certificate).upper == best.upper
        for given in (allocations, best.allocations):
            replayed = orric.evaluate(profile, trace, Scripted(given), overload="shed", in_time=parts)
            assert replayed.columns["correct_in_time"].sum() == pytest.approx(value, rel=1e-5)
        ratio = orric.competitive_ratio(replayed, best)
        assert ratio.high == pytest.approx(1.0)
        assert ratio.losses == pytest.approx(np.zeros(trace.slots), abs=1e-9)


class Scripted(orric.Allocator):
    """Follow allocations given beforehand, and keep what is told afterwards."""

    name = "scripted"

    def __init__(self, allocations: list[dict[str, Any]]) -> None:
        self.allocations, self.observed, self.slots = allocations, [], []

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        self.slots.append(slot)
        chosen = self.allocations[slot.index - 1]
        return orric.Allocation((orric.StreamAllocation(chosen["retraining"], chosen["inference"]),))

    def observe(self, record: orric.Observation) -> None:
        self.observed.append(record)


def test_where_all_are_in_time_nothing_changes_but_what_orric_knows() -> None:
    for memory in MEMORIES:
        profile, trace = random_instance(3, memory)
        ones = np.ones_like(parts_of(profile, trace.slots, 0))
        assert orric.exact_optimum(profile, trace, in_time=ones) == orric.exact_optimum(profile, trace)
        plain = orric.evaluate(profile, trace, orric.InferenceOnly())
        timely = orric.evaluate(profile, trace, orric.InferenceOnly(), in_time=ones)
        for name, column in plain.columns.items():
            np.testing.assert_array_equal(column, timely.columns[name])
        # The floor is never below A^I_min, so no less is proved.
        assert orric.bounds(profile, trace, ones).theorem4 >= orric.bounds(profile, trace).theorem4


def test_late_answers_are_right_and_count_apart() -> None:
    profile, trace, parts = small()
    allocator = Scripted([{"retraining": "r2", "inference": "i1"}] * 3)
    allocator.allocations[1] = {"retraining": "r1", "inference": "i1"}
    result = orric.evaluate(profile, trace, allocator, in_time=parts)
    plain = orric.evaluate(profile, trace, Scripted(allocator.allocations))
    np.testing.assert_array_equal(result.columns["correct"], plain.columns["correct"])
    assert result.columns["late"].tolist() == pytest.approx([2.0, 7.5, 4.0])
    np.testing.assert_allclose(
        result.columns["correct_in_time"], plain.columns["correct"] * [0.8, 0.25, 0.8], rtol=1e-12
    )
    assert [one.late for one in allocator.observed] == pytest.approx([2.0, 7.5, 4.0])
    assert allocator.slots[0].in_time == (tuple(map(tuple, parts[0].tolist())),)
    assert result.value == plain.value
    assert plain.columns["late"].sum() == 0


@pytest.mark.parametrize("name", ["orric", "inference-only", "focus-shift"])
def test_deciding_at_once_is_deciding_slot_by_slot(name: str) -> None:
    for seed in range(30):
        profile, trace = random_instance(seed, "uniform")
        parts = parts_of(profile, trace.slots, seed)
        one, other = orric.make_allocator(name), orric.make_allocator(name)
        task = Task(trace.slots, (StreamTask.of(profile, 1, 50),))
        for allocator in (one, other):
            allocator.reset(task, np.random.default_rng(1))
        at_once = one.decide_all(trace.requests, trace.budget_macs, parts)
        each = [
            other.decide(
                orric.Slot(t + 1, (float(budget),), (float(count),), in_time=(tuple(map(tuple, parts[t].tolist())),))
            ).streams
            for t, (count, budget) in enumerate(zip(trace.requests, trace.budget_macs, strict=True))
        ]
        assert [answer.streams for answer in at_once] == each


def test_orric_takes_the_best_pair_of_all() -> None:
    for seed in range(60):
        profile, trace = random_instance(seed, "uniform")
        parts, stream = parts_of(profile, trace.slots, seed), StreamTask.of(profile, 1, 50)
        allocator = orric.Orric()
        allocator.reset(Task(trace.slots, (stream,)), np.random.default_rng(1))
        i, j = allocator.choose_in_time(np.arange(1, trace.slots + 1), trace.requests, trace.budget_macs, parts)
        for t in range(trace.slots):
            fits = {
                (a, b): bool(feasible(trace.requests[t], one.cost_macs, other.cost_macs, trace.budget_macs[t]))
                for a, one in enumerate(stream.retraining)
                for b, other in enumerate(stream.inference)
            }
            scores = {
                (a, b): allocator.retraining_weights[t] * stream.retraining[a].profit
                + allocator.inference_weights[t] * stream.inference[b].profit * parts[t, a, b]
                for (a, b), fit in fits.items()
                if fit
            }
            assert scores[i[t], j[t]] == max(scores.values())
            assert (i[t], -j[t]) == min((a, -b) for (a, b), score in scores.items() if score == max(scores.values()))
            if (parts[t] == 1).all():
                profits = [one.profit for one in stream.retraining], [one.profit for one in stream.inference]
                weights = allocator.retraining_weights[t], allocator.inference_weights[t]
                assert (i[t], j[t]) == exhaustive(*profits, *weights, lambda a, b, fits=fits: fits[a, b])


def test_a_slot_in_which_nothing_fits_gets_the_cheapest_pair() -> None:
    for allocator in (orric.Orric(), orric.InferenceOnly()):
        stream = StreamTask.of(build_profile(RETRAINING, INFERENCE), 1, 50)
        allocator.reset(Task(1, (stream,)), np.random.default_rng(1))
        found = allocator.choose_in_time(np.array([1]), np.array([50.0]), np.array([1.0]), np.full((1, 3, 3), 0.5))
        assert [index.tolist() for index in found] == [[0], [0]]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (np.ones((2, 3, 3)), r"^in_time: has the shape \(2, 3, 3\); give the shape \(3, 3, 3\)"),
        (np.full((3, 3, 3), np.nan), r"^in_time, slot 1, pair \(0, 0\): found nan; .* from 0 to 1$"),
        (np.ones((3, 3, 3)) + np.eye(3) * 0.1, r"^in_time, slot 1, pair \(0, 0\): found 1.1"),
        (-np.ones((3, 3, 3)), "found -1"),
        ("soon", "^in_time: is no array of numbers"),
        ([[1.0], [1.0, 1.0]], "^in_time: is no array of numbers"),
    ],
    ids=["shape", "nan", "above", "below", "text", "ragged"],
)
def test_parts_that_are_none_are_refused(parts: Any, message: str) -> None:
    profile, trace, _ = small()
    for ask in (
        lambda: orric.evaluate(profile, trace, orric.Orric(), in_time=parts),
        lambda: orric.offline_optimum(profile, trace, in_time=parts),
        lambda: orric.exact_optimum(profile, trace, in_time=parts),
        lambda: orric.bounds(profile, trace, parts),
    ):
        with pytest.raises(orric.ScenarioError, match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_the_given_parts_stay_as_they_are_and_are_nobodys_to_write() -> None:
    profile, trace, parts = small()

    class Meddling(orric.Orric):
        def choose_in_time(self, slots, requests, budgets_macs, in_time):
            in_time[:] = 1
            return super().choose_in_time(slots, requests, budgets_macs, in_time)

    with pytest.raises(AllocatorError, match="read-only"):
        orric.evaluate(profile, trace, Meddling(), in_time=parts)
    assert parts.flags.writeable


def test_dominated_configurations_have_no_part() -> None:
    profile, trace, parts = small()
    profile = build_profile((*RETRAINING, (0.3, 4.0)), INFERENCE)
    chosen = [{"retraining": "r0", "inference": "i0"}] * 2 + [{"retraining": "r3", "inference": "i0"}]
    with pytest.raises(AllocatorError, match=r"slot 3: chooses 'r3' beside 'i0', of which one is dominated"):
        orric.evaluate(profile, trace, Scripted(chosen), in_time=parts)


def test_a_ratio_of_other_parts_is_refused() -> None:
    profile, trace, parts = small()
    best = orric.offline_optimum(profile, trace, in_time=parts)
    for other in (None, parts * 0.9):
        with pytest.raises(orric.ScenarioError, match="different in-time parts"):
            orric.competitive_ratio(orric.evaluate(profile, trace, orric.Orric(), in_time=other), best)


def test_where_nothing_is_in_time_nobody_loses() -> None:
    profile, trace, parts = small()
    never = 0 * parts
    best = orric.offline_optimum(profile, trace, in_time=never)
    result = orric.evaluate(profile, trace, orric.Orric(), in_time=never)
    assert (best.lower, best.upper, best.gap) == (0, 0, 0)
    orric.verify(best.certificate)
    assert orric.competitive_ratio(result, best).low == orric.competitive_ratio(result, best).high == 1
    proved = orric.bounds(profile, trace, never)
    assert proved.alpha == 0
    assert proved.theorem4 == proved.theorem2


def test_the_floor_is_that_of_the_best_pairs() -> None:
    """One pair that is always late does not undo the bound, if another is nearly always in time."""
    profile, trace, parts = small()
    parts[:, 2, :] = 0.0
    stream = StreamTask.of(profile, 10, 20)
    offered = np.array([1.0, 0.8, 0.5][::-1]) * parts
    offered[1][np.add.outer([0, 2, 5], [1, 3, 6]) > 6] = -np.inf
    weights, serving = slot_weights(stream, 3)
    # V_t for b = 1, and what it may weigh at the most.
    lowered = 1 + weights / stream.inference[0].profit * 1.0 / serving
    best = np.array([1.0, 0.25, 1.0])
    beside_dearest = np.array([0.0, 0.0, 0.0])
    floor = profit_floor(stream, offered)
    assert floor == pytest.approx(np.maximum(beside_dearest, best / lowered).min())
    assert floor > 0.2
    assert orric.bounds(profile, trace, parts).least_inference_profit == floor
    assert orric.bounds(profile, trace, parts).least_shared_profit == 0
    assert profit_floor(stream, offered, 0.05) == pytest.approx(((best - 0.05) / lowered).min())


def test_what_errors_of_the_parts_cost() -> None:
    profile, trace, parts = small()
    exact, off = orric.bounds(profile, trace, parts), orric.bounds(profile, trace, parts, 0.01)
    assert off.lost == pytest.approx(2 * 0.01 / (0.25 - 0.01))
    assert off.theorem2 == pytest.approx((1 - off.lost) * exact.theorem2)
    assert off.theorem4 == pytest.approx((1 - off.lost) * (1 + off.alpha) * exact.theorem2)
    assert off.theorem4_published <= off.theorem4
    assert orric.bounds(profile, trace, parts, 0.9).theorem4 == 0
    assert orric.joint_bound([off]) < orric.joint_bound([exact])
    for error in (-0.1, 1.0, float("nan")):
        with pytest.raises(orric.ScenarioError, match=r"bounds: error"):
            orric.bounds(profile, trace, parts, error)
    with pytest.raises(orric.ScenarioError, match="without in-time parts"):
        orric.bounds(profile, trace, error=0.1)


def test_doubts_where_more_is_in_time_beside_retraining() -> None:
    profile, trace, parts = small()
    assert not any(doubt.startswith("Theorem 2") for doubt in orric.bounds(profile, trace, parts).doubts)
    parts[2, 0] = 0.1
    assert any("in slot 3 more is in time" in doubt for doubt in orric.bounds(profile, trace, parts).doubts)


def test_overload_is_doubted_and_in_time_parts_count_it() -> None:
    profile, _, parts = small()
    trace = orric.Trace(requests=[10, 10, 20], budget_macs=[200, 9, 15])
    proved = orric.bounds(profile, trace)
    # Slot 3 serves 15, no fewer than D_min; slot 2 serves 9.
    (doubt,) = [doubt for doubt in proved.doubts if "cannot serve" in doubt]
    assert "slot 2 cannot serve D_min = 10 requests" in doubt
    counted = orric.bounds(profile, trace, np.ones_like(parts))
    assert not any("cannot serve" in doubt for doubt in counted.doubts)
    assert counted.least_inference_profit <= 0.5 * 15 / 20


def changed(certificate: orric.Certificate, change: Any) -> orric.Certificate:
    """Return a certificate with its in-time parts changed."""
    claim = copy.deepcopy(certificate.claim)
    change(claim)
    return orric.Certificate(claim, certificate.evidence)


TAMPERED = {
    "a part raised": (lambda claim: claim["in_time"]["parts"][0][2].__setitem__(2, 1.0), "lower: claimed|too low"),
    "all parts raised": (lambda claim: claim["in_time"].update(parts=np.ones((3, 3, 3)).tolist()), "lower: claimed"),
    "a slot missing": (lambda claim: claim["in_time"]["parts"].pop(), "in_time: it is not one part"),
    "ragged": (lambda claim: claim["in_time"]["parts"][1].pop(), "in_time: it is not one part"),
    "above one": (lambda claim: claim["in_time"]["parts"][1][1].__setitem__(1, 1.5), "in_time: it is not one part"),
    "not a number": (lambda claim: claim["in_time"]["parts"][1][1].__setitem__(1, float("nan")), "in_time: it is not"),
    "no array": (lambda claim: claim["in_time"].update(parts="all"), "in_time: found 'all'"),
    "names missing": (lambda claim: claim["in_time"].pop("inference"), "malformed"),
    "fewer configurations": (
        lambda claim: claim["in_time"].update(
            retraining=["r0", "r1"], parts=np.array(claim["in_time"]["parts"])[:, :2].tolist()
        ),
        "are not the undominated ones",
    ),
    "parts left out": (lambda claim: claim.pop("in_time"), "lower: claimed"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_with_the_parts_is_found(case: str, tmp_path: Any) -> None:
    (change, message), (profile, trace, parts) = TAMPERED[case], small()
    best = orric.offline_optimum(profile, trace, 1e-6, in_time=parts)
    best.certificate.save(tmp_path / "good.npz")
    assert orric.verify(tmp_path / "good.npz").upper == best.upper
    changed(best.certificate, change).save(tmp_path / "bad.npz")
    with pytest.raises(orric.CertificateError, match=message) as caught:
        orric.verify(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_certificate_that_unpacks_to_too_much_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    profile, trace, parts = small()
    orric.offline_optimum(profile, trace, in_time=parts).certificate.save(tmp_path / "good.npz")
    monkeypatch.setattr("orric.competitive.archive.MOST_TEXT", 100)
    monkeypatch.setattr("orric.competitive.archive.TEXT_PER_BYTE", 0)
    with pytest.raises(orric.CertificateError, match=r"unpacks to [\d,]+ bytes"):
        orric.Certificate.load(tmp_path / "good.npz")


def falling(requests: np.ndarray, budgets_macs: np.ndarray) -> np.ndarray:
    """Return parts that fall with the work that a pair makes of a budget."""
    costs = np.add.outer([0.0, 2.0, 5.0], [1.0, 3.0, 6.0])
    return np.clip(1.5 - requests[:, None, None] * costs / budgets_macs[:, None, None], 0, 1)


def test_the_search_counts_right_answers_in_time() -> None:
    profile = build_profile(RETRAINING, INFERENCE, slope_floor=0.05)
    ranges = orric.TraceRange(3, (10, 20), (20.0, 220.0))
    search = orric.Search(profile, ranges, "orric", restarts=1, evaluations=120, in_time=falling)
    worst = orric.search_worst_case(search, jobs=1)
    parts = search.parts(worst.trace)
    assert parts is not None
    result = orric.evaluate(profile, worst.trace, orric.Orric(), in_time=parts)
    best = orric.offline_optimum(profile, worst.trace, 1e-9, in_time=parts)
    measured = orric.competitive_ratio(result, best)
    assert measured.low - 1e-9 <= worst.ratio <= measured.high + 1e-9
    assert worst.ratio >= orric.bounds(profile, worst.trace, parts).theorem4
    plain = orric.Search(profile, ranges, "orric", restarts=1, evaluations=120)
    assert orric.search_worst_case(plain, jobs=1).ratio != worst.ratio
