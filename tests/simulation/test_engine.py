"""The event simulator: conservation, reproducibility, agreement with the slot model, overload, retraining."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import simpy

import orric
from orric.latency import RELATIVE_ERROR
from orric.processes import Chain
from orric.simulation import arrivals as spread
from orric.simulation.stream import EWMA_WEIGHT

from ..builders import CIFAR, build_profile, build_scenario, write_profile

NAMES = sorted(orric.ALLOCATORS)
ARRIVALS = ("upload", "deterministic", "poisson", "bursty")
every_allocator = pytest.mark.parametrize("name", NAMES)
every_arrival = pytest.mark.parametrize("arrivals", ARRIVALS)


class Fixed(orric.Allocator):
    """Answer the same allocation in every slot, and remember what was told."""

    name = "fixed"

    def __init__(self, retraining: str = "r0", inference: str = "i0", **shares: float | None) -> None:
        self.decided = orric.StreamAllocation(retraining, inference, **shares)
        self.slots: list[orric.Slot] = []
        self.seen: list[orric.Observation] = []

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        self.slots.append(slot)
        return orric.Allocation((self.decided,), "because")

    def observe(self, record: orric.Observation) -> None:
        self.seen.append(record)


class Repeated(orric.Allocator):
    """Decide as in a result."""

    name = "repeated"

    def __init__(self, result: orric.Result) -> None:
        self.pairs = [(one["retraining"], one["inference"]) for one in result.allocations]

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        return orric.Allocation((orric.StreamAllocation(*self.pairs[slot.index - 1]),))


def for_the_slot_model(name: str, simulated: orric.Result) -> orric.Allocator:
    """Return the allocator, or who decides as it did in the simulator where only there it can try things out.

    AdaInf turns by small differences between agreements, which the simulator draws and the slot model expects.
    """
    allocator = orric.make_allocator(name)
    return Repeated(simulated) if isinstance(allocator, orric.MicroProfiled | orric.AdaInf) else allocator


def latencies_of(result: orric.Result) -> np.ndarray:
    """Return the exact latencies of the served requests of one stream, in order of arrival."""
    (windows,) = result.request_times.values()
    times = np.concatenate([window.times_s for window in windows])
    numbers = np.concatenate([window.numbers[:, 0] for window in windows])
    times = times[np.argsort(numbers)]
    return (times[:, 2] - times[:, 0])[~np.isnan(times[:, 2])]


def check_conservation(result: orric.Result) -> None:
    """Assert arrived = served + shed + waiting, slot by slot and in all."""
    before = np.concatenate([[0.0], result.waiting[:-1]])
    np.testing.assert_array_equal(before + result.requests, result.served + result.shed + result.waiting)
    assert len(result.latency) == result.served.sum()
    assert (result.late <= result.served).all()
    assert (result.correct <= result.served).all()


@every_arrival
@every_allocator
def test_arrived_is_served_and_shed_and_waiting(profile_path: Path, arrivals: str, name: str) -> None:
    scenario = build_scenario(
        profile_path,
        arrivals=arrivals,
        budget={"kind": "uniform", "low": 0.0, "high": 0.25},
        requests={"kind": "uniform", "low": 0, "high": 900},
        deadline_s=2.0,
    )
    result = orric.simulate(scenario, orric.make_allocator(name), seed=3)
    check_conservation(result)
    assert result.shed.sum() > 0
    assert result.served.sum() > 0
    # Even arrivals finish with the slot, but for the last of those let in by an overloaded one; random ones do not.
    assert result.waiting.max() <= 1 or arrivals in ("poisson", "bursty")
    assert result.waiting.sum() > 0 or arrivals in ("upload", "deterministic")


def parquet(result: orric.Result) -> bytes:
    """Return the result as the bytes of a parquet file."""
    pytest.importorskip("pyarrow", reason="needs orric[sim]")
    buffer = io.BytesIO()
    result.to_frame().to_parquet(buffer)
    return buffer.getvalue()


@every_arrival
def test_same_seed_same_bytes(profile_path: Path, arrivals: str) -> None:
    scenario = build_scenario(profile_path, arrivals=arrivals, requests={"kind": "uniform", "low": 1, "high": 900})
    first, again, other = (orric.simulate(scenario, orric.Orric(), seed=seed) for seed in (5, 5, 6))
    assert first.to_frame().equals(again.to_frame())
    assert first.latency.counts.tobytes() == again.latency.counts.tobytes()
    assert parquet(first) == parquet(again) != parquet(other)
    assert first.budget_macs.tolist() != other.budget_macs.tolist()


def test_seed_left_out_is_the_scenarios(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, seed=9)
    assert parquet(orric.simulate(scenario, orric.Orric())) == parquet(orric.simulate(scenario, orric.Orric(), seed=9))


MEMORIES = [{}, {"kind": "window", "slots": 3}, {"kind": "decay", "factor": 0.8}]


@every_allocator
@pytest.mark.parametrize("memory", MEMORIES, ids=["uniform", "window", "decay"])
def test_uploads_under_the_curve_score_as_in_the_slot_model(name: str, memory: dict[str, Any], tmp_path: Path) -> None:
    profile = build_profile(memory=orric.LearningExtent(**memory))
    scenario = build_scenario(
        write_profile(profile, tmp_path / "profile.toml"),
        slots=25,
        requests={"kind": "uniform", "low": 200, "high": 600},
        budget={"kind": "uniform", "low": 0.1, "high": 1.0},
    )
    simulated = orric.simulate(scenario, orric.make_allocator(name), seed=7)
    modelled = orric.evaluate(profile, scenario.trace(7), for_the_slot_model(name, simulated), seed=7)
    assert simulated.allocations == modelled.allocations
    np.testing.assert_array_equal(simulated.served, modelled.served)
    np.testing.assert_allclose(simulated.extent, modelled.extent, rtol=1e-12)
    np.testing.assert_allclose(simulated.correct, modelled.correct, rtol=1e-12)
    assert simulated.mean_accuracy == pytest.approx(modelled.mean_accuracy, rel=1e-12)


@every_allocator
def test_overloaded_uploads_score_as_in_the_slot_model(name: str, profile_path: Path) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "uniform", "low": 0.0, "high": 0.2})
    simulated = orric.simulate(scenario, orric.make_allocator(name), seed=7)
    modelled = orric.evaluate(
        scenario.profile, scenario.trace(7), for_the_slot_model(name, simulated), overload="shed", seed=7
    )
    assert simulated.shed.sum() > 0
    np.testing.assert_array_equal(simulated.shed, modelled.shed)
    np.testing.assert_allclose(simulated.correct, modelled.correct, rtol=1e-12)


def test_budget_below_the_cheapest_pair_sheds_the_rest(profile_path: Path) -> None:
    # 500 requests at 1e6 MACs cost 5e8 of 8e9 MACs; a fraction of 0.05 is 4e8.
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 0.05}, overload="shed")
    result = orric.simulate(scenario, orric.Orric())
    assert result.shed.tolist() == [100.0] * 12
    assert result.served.tolist() == [400.0] * 12
    assert set(result.retraining) == {"r0"}
    assert set(result.inference) == {"i0"}
    assert result.mean_accuracy == pytest.approx(0.8 * 0.6 * 0.5)
    # Those served take all of the budget's time: an overload makes nothing faster.
    assert result.latency.quantile(1.0) == pytest.approx(8.0, rel=RELATIVE_ERROR)


def test_budget_below_the_cheapest_pair_is_an_error_when_asked_for(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 0.05}, overload="error")
    with pytest.raises(orric.BudgetError, match="slot 1") as caught:
        orric.simulate(scenario, orric.Orric())
    assert caught.value.args == (1, pytest.approx(4e8), 5e8)


@pytest.mark.parametrize("forecast", ["oracle", "last", "ewma"])
def test_forecasts(profile_path: Path, forecast: str) -> None:
    scenario = build_scenario(
        profile_path, arrivals="poisson", forecast=forecast, requests={"kind": "uniform", "low": 100, "high": 400}
    )
    allocator = Fixed()
    result = orric.simulate(scenario, allocator, seed=2)
    truth = result.requests.tolist()
    expected = [truth[0]]
    for t in range(1, len(truth)):
        mean = EWMA_WEIGHT * truth[t - 1] + (1 - EWMA_WEIGHT) * expected[t - 1]
        expected.append({"oracle": truth[t], "last": truth[t - 1], "ewma": mean}[forecast])
    np.testing.assert_allclose(result.forecast, expected)
    np.testing.assert_allclose([slot.requests[0] for slot in allocator.slots], expected)
    assert [one.requests for one in allocator.seen] == truth
    check_conservation(result)


@pytest.mark.parametrize("count", [0, 1, 250, 100_000])
@every_arrival
def test_arrivals_lie_in_their_slot_and_ascend(arrivals: str, count: int) -> None:
    rng = [np.random.default_rng(1)] if arrivals in ("poisson", "bursty") else []
    chains = [Chain(np.random.default_rng(2), 10.0, 0.5, 2.0) for _ in range(2)] if arrivals == "bursty" else []
    for chain in chains:
        chain.weigh(16.0)
    windows = list(getattr(spread, arrivals)(count, 16.0, 24.0, *rng, *chains))
    times, begin_s = np.concatenate([times for _, times in windows]), 16.0
    assert len(times) == count
    assert (np.diff(times) >= 0).all()
    for end_s, inside in windows:
        assert end_s >= begin_s
        assert ((inside >= begin_s) & (inside < max(end_s, np.nextafter(begin_s, 24)))).all()
        begin_s = end_s
    assert begin_s == 24.0


def test_retraining_pays_once_its_share_is_enough(profile_path: Path) -> None:
    # 500 requests at 3e6 MACs in 8 s of 1e9 MACs/s need a share of 0.1875.
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 1.0})
    enough = orric.simulate(scenario, Fixed("r2", "i0", retraining_share=0.1876))
    assert enough.retrained.tolist() == [1.0] * 12
    assert enough.extent[-1] == pytest.approx(0.3)
    short = Fixed("r2", "i0", retraining_share=0.187)
    result = orric.simulate(scenario, short)
    assert result.retrained.tolist() == [0.0] * 12
    assert result.extent.tolist() == [0.0] * 12
    # Work that is abandoned was done all the same: the share of 1e9 MACs/s for 8 s.
    assert result.retraining_macs == pytest.approx(0.187 * 8e9)
    assert [one.retrained for one in short.seen] == [0.0] * 12
    nothing = orric.simulate(scenario, Fixed("r2", "i0", retraining_share=0.0))
    assert nothing.extent.tolist() == [0.0] * 12


def test_inference_share_sets_the_speed(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, slots=1, budget={"kind": "constant", "fraction": 1.0})
    result = orric.simulate(scenario, Fixed("r0", "i1", inference_share=0.5), record=True)
    # 2e6 MACs at half of 1e9 MACs/s: 4 ms each.
    np.testing.assert_allclose(latencies_of(result), 0.004 * np.arange(1, 501))


def test_share_too_small_leaves_requests_waiting(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, slots=2, budget={"kind": "constant", "fraction": 1.0})
    result = orric.simulate(scenario, Fixed("r0", "i1", inference_share=0.0625))
    assert result.served.tolist() == [250.0, 250.0]
    assert result.waiting.tolist() == [250.0, 500.0]
    check_conservation(result)


@pytest.mark.parametrize(
    "shares",
    [
        {"inference_share": 0.8},
        {"inference_share": 0.3, "retraining_share": 0.3},
        {"retraining_share": 0.6},
        {"inference_share": 7.0},
        {"inference_share": -0.1},
        {"retraining_share": float("nan")},
    ],
)
def test_shares_beyond_the_budget_are_refused(profile_path: Path, shares: dict[str, float]) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 0.5})
    with pytest.raises(orric.AllocatorError, match="slot 1"):
        orric.simulate(scenario, Fixed("r1", "i0", **shares))


def test_allocator_that_exceeds_the_budget_is_refused(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 0.5})
    with pytest.raises(orric.AllocatorError, match="allocator 'fixed', slot 1: exceeds the budget"):
        orric.simulate(scenario, Fixed("r3", "i2"))


@pytest.mark.parametrize(("pair", "near"), [(("r11", "i0"), "r1"), (("r0", "i22"), "i2")])
def test_allocator_that_names_an_unknown_configuration_is_refused(
    profile_path: Path, pair: tuple[str, str], near: str
) -> None:
    with pytest.raises(orric.AllocatorError, match=f"did you mean '{near}'") as caught:
        orric.simulate(build_scenario(profile_path), Fixed(*pair))
    assert "slot 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_retraining_uses_what_was_collected_by_the_slots_start(profile_path: Path) -> None:
    """Uploads are there in time; what trickles in during slot 1 serves retraining from slot 2 on."""
    changes: dict[str, Any] = {"slots": 3, "budget": {"kind": "constant", "fraction": 1.0}}
    uploaded = orric.simulate(build_scenario(profile_path, **changes), Fixed("r2"))
    trickled = orric.simulate(build_scenario(profile_path, arrivals="poisson", **changes), Fixed("r2"))
    assert uploaded.retrained.tolist() == [1.0, 1.0, 1.0]
    assert trickled.retrained.tolist() == [0.0, 1.0, 1.0]
    assert trickled.extent.tolist()[:2] == [0.0, 0.0]


@pytest.mark.parametrize(
    "sharing",
    [{"model": "fluid"}, {"model": "weighted"}, {"model": "priority", "grain_s": 0.05, "slowdown": 1.2}],
    ids=lambda one: one["model"],
)
def test_number_of_events_does_not_grow_with_the_requests(
    profile_path: Path, monkeypatch: pytest.MonkeyPatch, sharing: dict[str, Any]
) -> None:
    steps = 0
    step = simpy.Environment.step

    def counted(environment: Any) -> None:
        nonlocal steps
        steps += 1
        step(environment)

    monkeypatch.setattr(simpy.Environment, "step", counted)
    counts = []
    for per_slot, slots in ((10, 12), (5_000, 12), (10, 24)):
        scenario = build_scenario(
            profile_path, slots=slots, macs_per_s=1e11, requests={"kind": "constant", "per_slot": per_slot},
            arrivals="poisson", sharing=sharing,
        )  # fmt: skip
        steps = 0
        orric.simulate(scenario, Fixed("r1", "i0"))
        counts.append(steps)
    assert counts[0] == counts[1] > 0
    assert counts[2] - counts[0] == pytest.approx(counts[0], abs=5)


def test_late_requests_are_counted_by_hand(profile_path: Path) -> None:
    # One request takes 4e6 / 1e9 / share seconds; 500 of them fill the 8 s slot: 16 ms each.
    scenario = build_scenario(
        profile_path, slots=2, budget={"kind": "constant", "fraction": 0.25}, deadline_s=4.008, spare="idle"
    )
    result = orric.simulate(scenario, Fixed("r0", "i2"))
    assert result.late.tolist() == [250.0, 250.0]
    np.testing.assert_allclose(result.latency_p50_s, 4.0, rtol=RELATIVE_ERROR)
    assert orric.simulate(build_scenario(profile_path), Fixed()).late.sum() == 0


@pytest.mark.parametrize("per_slot", [1, 3, 7, 49, 500, 1234])
def test_serving_that_ends_with_the_slot_leaves_nobody_waiting_or_late(profile_path: Path, per_slot: int) -> None:
    scenario = build_scenario(
        profile_path,
        spare="idle",
        slot_s=60.0,
        deadline_s=60.0,
        requests={"kind": "constant", "per_slot": per_slot},
        macs_per_s=1e8,
    )
    result = orric.simulate(scenario, orric.Orric())
    assert result.waiting.tolist() == [0.0] * 12
    assert result.late.tolist() == [0.0] * 12


@every_allocator
def test_spare_budget_makes_serving_faster_and_no_more_accurate(profile_path: Path, name: str) -> None:
    idle, faster = (
        orric.simulate(build_scenario(profile_path, spare=spare), orric.make_allocator(name))
        for spare in ("idle", "inference")
    )
    assert faster.latency.mean_s < idle.latency.mean_s
    assert faster.mean_accuracy == pytest.approx(idle.mean_accuracy, rel=1e-12)


def test_budget_used_is_never_more_than_the_budget(profile_path: Path) -> None:
    for name in NAMES:
        result = orric.simulate(build_scenario(profile_path), orric.make_allocator(name))
        assert (result.retraining_macs + result.inference_macs <= result.budget_macs).all()


def test_measured_latency_sets_the_service_time(tmp_path: Path) -> None:
    measured = orric.InferenceConfiguration(name="i0", profit=1.0, cost_macs=1e6, latency_s=0.003)
    profile = build_profile(device={"macs_per_s": 2e9}).model_copy(update={"inference": (measured,)})
    scenario = build_scenario(
        write_profile(profile, tmp_path / "profile.toml"),
        slots=1,
        budget={"kind": "constant", "fraction": 1.0},
        requests={"kind": "constant", "per_slot": 3},
    )
    result = orric.simulate(scenario, Fixed("r0", "i0", inference_share=0.5), record=True)
    # 3 ms on the measured device, twice that on this one of half its speed, twice again at half of it.
    np.testing.assert_allclose(latencies_of(result), [0.012, 0.024, 0.036])


def test_configuration_that_costs_nothing_serves_everyone(tmp_path: Path) -> None:
    profile = build_profile(inference=((0.5, 0.0), (1.0, 4e6)))
    scenario = build_scenario(write_profile(profile, tmp_path / "profile.toml"), slots=3)
    result = orric.simulate(scenario, Fixed("r0", "i0"))
    assert result.served.tolist() == [500.0] * 3


def test_part_of_a_request_is_refused(tmp_path: Path, profile_path: Path) -> None:
    path = tmp_path / "trace.csv"
    orric.Trace(requests=[10.5, 3.25], budget_macs=[8e9, 8e9]).save(path)
    scenario = build_scenario(profile_path, slots=2, requests={"csv": str(path)}, budget={"csv": str(path)})
    with pytest.raises((orric.ScenarioError, orric.TraceError), match=r"10\.5"):
        orric.simulate(scenario, Fixed())


def test_slot_without_requests(tmp_path: Path, profile_path: Path) -> None:
    path = tmp_path / "trace.csv"
    orric.Trace(requests=[0, 20, 0, 5], budget_macs=[0, 8e9, 8e9, 8e9]).save(path)
    scenario = build_scenario(profile_path, slots=4, requests={"csv": str(path)}, budget={"csv": str(path)})
    for name in NAMES:
        result = orric.simulate(scenario, orric.make_allocator(name))
        assert result.served.tolist() == [0.0, 20.0, 0.0, 5.0]
        assert np.isnan(result.accuracy[0])
        assert np.isnan(result.latency_p99_s[2])


def test_nothing_told_is_nothing_learned(tmp_path: Path, profile_path: Path) -> None:
    """A forecast of no requests allocates no work to retraining, so the learning extent must not grow by it."""
    path = tmp_path / "trace.csv"
    orric.Trace(requests=[100, 0, 100, 100], budget_macs=[8e9] * 4).save(path)
    scenario = build_scenario(
        profile_path,
        slots=4,
        arrivals="poisson",
        forecast="last",
        requests={"csv": str(path)},
        budget={"csv": str(path)},
    )
    result = orric.simulate(scenario, Fixed("r3", "i0"))
    # Slot 3 is told of none and has samples of none: slot 2 brought nobody.
    assert result.retraining_macs[2] == 0.0
    assert result.extent[3] == result.extent[2]


@pytest.mark.parametrize("spare", ["idle", "inference"])
def test_published_profiles_run(spare: str) -> None:
    for path in CIFAR[:3]:
        scenario = build_scenario(
            path,
            slots=10,
            spare=spare,
            slot_s=60.0,
            macs_per_s=1.4395e9,
            requests={"kind": "constant", "per_slot": 1000},
            budget={"kind": "uniform", "low": 0.0919301, "high": 1.0},
        )
        check_conservation(orric.simulate(scenario, orric.Orric()))


def test_accuracy_model_is_asked_in_the_order_of_time(profile_path: Path) -> None:
    from orric.simulation import engine

    calls: list[tuple[Any, ...]] = []

    class Recorder:
        """Note every call, get nothing right."""

        name, labels = "recorder", 0

        def __getattr__(self, call: str) -> Callable[..., Any]:
            if call in ("right", "forget"):
                raise AttributeError("it has no samples")
            return lambda *given: (calls.append((call, *given)), 0.0)[1]

    scenario = build_scenario(profile_path, slots=2, budget={"kind": "constant", "fraction": 1.0})
    engine.simulate(scenario, Fixed("r1", "i0"), [Recorder()], 1)
    retrained = [("arrive", 1, 500), ("collect", 1), ("retrain", 1, "r1", 0.0), ("attention",)]
    slot = [*retrained, ("serve", 1, 0.0, "i0", 500), ("swap",)]
    assert calls[:6] == slot
    assert [call[0] for call in calls[6:]] == [call[0] for call in slot]
