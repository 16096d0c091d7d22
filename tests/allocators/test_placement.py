"""Streams that move between GPUs: what the allocator decides, and what the simulator makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import orric
from orric.configuration import Allocation, StreamAllocation
from orric.objective import feasible_together

from ..builders import build_profile, write_profile
from .instances import brute_force, costs_of, random_slot, random_task, two_gpus, value_of


@pytest.fixture
def profile_path(tmp_path):
    return write_profile(build_profile(slope_floor=0.1, swap={"pause_s": 0.5}), tmp_path / "small.toml")


class Shuttle(orric.Allocator):
    """Serve and retrain as cheaply as possible, every stream on the other GPU in every second slot."""

    name = "shuttle"

    def decide(self, slot):
        away = slot.index % 2 == 0
        return Allocation(
            tuple(
                StreamAllocation("r1", stream.inference[0].name, gpu="gpu1" if away else None)
                for stream in self.task.streams
            )
        )


def test_streams_share_out_over_gpus_when_home_is_crowded(tmp_path, profile_path):
    scenario = two_gpus(tmp_path, [profile_path] * 6, low=0.3, high=0.5, requests=(300, 500))
    at_home = orric.simulate(scenario, orric.JointOrric(), 1)
    placed = orric.simulate(scenario, orric.PlacingOrric(), 1)
    assert set(at_home.columns["gpu"]) == {"gpu0"}
    assert set(placed.columns["gpu"]) == {"gpu0", "gpu1"}
    assert placed.mean_accuracy > at_home.mean_accuracy + 0.02
    assert any(event.what == "moved to gpu1" for event in placed.events)
    for gpu in (0, 1):
        rows = placed.columns["gpu"] == f"gpu{gpu}"
        for slot in range(1, 13):
            there = rows & (placed.columns["slot"] == slot)
            if there.any():
                spent = placed.columns["retraining_macs"][there] + placed.columns["inference_macs"][there]
                assert spent.sum() <= placed.columns["budget_macs"][there][0] * (1 + 1e-9)


@pytest.mark.parametrize("worth", [-0.1, 1.0, float("nan")])
def test_a_worth_that_is_no_part_is_refused(worth):
    with pytest.raises(orric.ScenarioError, match=r"allocator 'orric-placing': worth: .*give a worth in \[0, 1\)"):
        orric.PlacingOrric(worth=worth)


def test_an_idle_gpu_four_times_as_fast_is_used(tmp_path):
    """By ORRIC's own weights retraining hardly counts, and whoever is served well at home would stay there."""
    path = write_profile(build_profile(slope_floor=1e-3, swap={"pause_s": 0.5}), tmp_path / "flat.toml")
    scenario = two_gpus(tmp_path, [path], low=0.5, high=1.0, capacities=(1e9, 4e9), requests=(500, 700), slots=40)
    there = scenario.model_copy(update={"stream": (scenario.stream[0].model_copy(update={"gpu": "gpu1"}),)})
    for seed in range(1, 6):
        slow, fast = (orric.simulate(one, orric.JointOrric(), seed).mean_accuracy for one in (scenario, there))
        placed = orric.simulate(scenario, orric.PlacingOrric(), seed)
        assert fast > slow + 0.05
        assert placed.mean_accuracy > fast - 0.01
        assert sum("moved" in event.what for event in placed.events) < 12


def test_who_fits_at_home_and_is_late_there_moves(tmp_path):
    """Everything fits on either GPU, in 4 ms on the slow one, where one in twelve waits for more than 2 ms."""
    path = write_profile(build_profile(), tmp_path / "still.toml")
    stream = {"arrivals": "poisson", "forecast": "last", "deadline_s": 0.006}
    scenario = two_gpus(
        tmp_path, [path], low=1.0, high=1.0, capacities=(1e9, 4e9), requests=(300, 300), slots=20,
        stream=stream, sharing={"model": "priority"},
    )  # fmt: skip
    at_home, placed = (orric.simulate(scenario, one(), 1) for one in (orric.JointOrric, orric.PlacingOrric))
    assert at_home.late.sum() > 0.06 * at_home.requests.sum()
    assert set(placed.columns["gpu"]) == {"gpu1"}
    assert placed.late.sum() == 0


def test_nobody_moves_where_home_is_roomy(tmp_path, profile_path):
    scenario = two_gpus(tmp_path, [profile_path] * 2, low=0.9, high=1.0, requests=(50, 60))
    placed = orric.simulate(scenario, orric.PlacingOrric(), 1)
    assert set(placed.columns["gpu"]) == {"gpu0"}
    assert not placed.events


def test_placement_heeds_memory(tmp_path, profile_path):
    crowded = {"low": 0.3, "high": 0.5, "requests": (300, 500), "stream": {"memory_bytes": 1.0}}
    scenario = two_gpus(tmp_path, [profile_path] * 6, memory_bytes=6.0, **crowded)
    assert "gpu1" in set(orric.simulate(scenario, orric.PlacingOrric(), 1).columns["gpu"])
    gpus = (scenario.gpu[0], scenario.gpu[1].model_copy(update={"memory_bytes": 2.0}))
    placed = orric.simulate(scenario.model_copy(update={"gpu": gpus}), orric.PlacingOrric(), 1)
    assert (placed.columns["gpu"].reshape(-1, 6) == "gpu1").sum(axis=1).max() == 2
    roomy = {"memory_bytes": 2.0, "low": 0.9, "high": 1.0, "requests": (50, 60)}
    scenario = two_gpus(tmp_path, [profile_path] * 3, **{**roomy, "stream": {"memory_bytes": 1.0}})
    gpus = (scenario.gpu[0].model_copy(update={"memory_bytes": 3.0}), scenario.gpu[1])
    with pytest.raises(orric.AllocatorError, match="moves models of 3 bytes to GPU 'gpu1', which has room for 2"):
        orric.simulate(scenario.model_copy(update={"gpu": gpus}), Shuttle(), 1)


@pytest.mark.parametrize("overrun", ["abandon", "continue"])
def test_moves_are_followed_request_by_request(tmp_path, profile_path, overrun):
    """GPUs of two speeds: work in progress goes on at the other's, requests are conserved, and the pause is kept."""
    stream = {"arrivals": "poisson", "retraining": {"overrun": overrun}}
    scenario = two_gpus(
        tmp_path, [profile_path] * 2, low=0.9, high=1.0, capacities=(5e9, 2.5e9), stream=stream, slots=8
    )
    result = orric.simulate(scenario, Shuttle(), 1, record=True)
    assert [str(x) for x in result.columns["gpu"][::2]] == ["gpu0", "gpu1"] * 4
    assert result.columns["budget_macs"][::2] == pytest.approx(
        [scenario.budgets_macs(1, slot % 2)[slot] for slot in range(8)], rel=1e-12
    )
    requests, served = result.columns["requests"].sum(), result.columns["served"].sum()
    assert requests == served + result.columns["waiting"][-2:].sum() + result.columns["shed"].sum()
    moves = [event for event in result.events if "moved" in event.what]
    assert len(moves) == 14
    busy = result.gpu_columns["serving"].reshape(-1, 2)
    assert (busy[0::2, 0] > 0).all()
    assert (busy[0::2, 1] == 0).all()
    assert (busy[1::2, 1] > 0).all()
    # Nothing is served while the weights are loaded.
    for windows in result.request_times.values():
        starts = np.concatenate([window.times_s[:, 1] for window in windows])
        for slot in range(1, 8):
            begin = slot * 8.0
            assert not ((starts > begin + 1e-9) & (starts < begin + 0.5 - 1e-9)).any()


def test_work_in_progress_takes_longer_on_a_slower_gpu(tmp_path):
    """Half of a job that needs 1.5 slots of one GPU is left after a move to one of half the speed: one more slot."""
    path = write_profile(build_profile(((0.0, 0.0), (1.0, 3e6)), ((1.0, 1e6),)), tmp_path / "one.toml")
    scenario = two_gpus(
        tmp_path, [path], low=1.0, high=1.0, capacities=(2e9, 1e9), requests=(1000, 1000), slots=4,
        stream={"retraining": {"overrun": "continue"}},
    )  # fmt: skip

    class Once(orric.Allocator):
        name = "once"

        def decide(self, slot):
            first = slot.index == 1
            share = 3e9 * 2 / 3 / 16e9 if first else 0.25
            return Allocation(
                (
                    StreamAllocation(
                        "r1" if first else "r0", "i0", inference_share=0.5, retraining_share=share,
                        gpu=None if first else "gpu1",
                    ),
                )
            )  # fmt: skip

    result = orric.simulate(scenario, Once(), 1)
    # 1e9 MACs are left: at a quarter of 1e9 MACs per second that is 4 s.
    assert result.columns["retraining_macs"].tolist() == pytest.approx([2e9, 1e9, 0, 0], rel=1e-9)
    assert result.gpu_columns["training"].reshape(-1, 2)[1, 1] == pytest.approx(4.0 * 0.25 / 8.0, rel=1e-9)


def test_unknown_gpu_is_refused(tmp_path, profile_path):
    class Lost(Shuttle):
        def decide(self, slot):
            one = super().decide(slot).streams[0]
            return Allocation((StreamAllocation(one.retraining, one.inference, gpu="gpu7"),) * len(self.task.streams))

    with pytest.raises(orric.AllocatorError, match="unknown GPU 'gpu7'"):
        orric.simulate(two_gpus(tmp_path, [profile_path]), Lost(), 1)


def test_moving_to_where_it_does_not_fit_exceeds_the_budget(tmp_path, profile_path):
    scenario = two_gpus(tmp_path, [profile_path] * 2, capacities=(1e9, 1e7), low=0.9, high=1.0)
    with pytest.raises(orric.AllocatorError, match=r"exceeds the budget of .* of GPU 'gpu1'"):
        orric.simulate(scenario, Shuttle(), 1)


@pytest.mark.parametrize("seed", range(5))
def test_placing_never_exceeds_a_budget_and_tells_an_honest_gap(seed):
    """Against the best over all placements and all pairs, by trying everything."""
    rng = np.random.default_rng(seed)
    moved = 0
    for _ in range(15):
        task = random_task(rng, 3, gpus=2)
        placing = orric.PlacingOrric()
        placing.reset(task, np.random.default_rng(1))
        for index in range(1, 4):
            slot = random_slot(rng, task, index)
            if min(slot.budgets_macs) <= 0:
                slot = orric.Slot(index, (max(slot.budgets_macs) * 0.7,) * 2, slot.requests)
            decided = placing.decide(slot).streams
            best = 0.0
            for code in range(8):
                places = [code >> k & 1 for k in range(3)]
                value = 0.0
                for gpu in (0, 1):
                    mine = [k for k in range(3) if places[k] == gpu]
                    streams = tuple(task.streams[k] for k in mine)
                    alone = orric.Task(task.horizon, tuple(_at_home(one) for one in streams))
                    told = orric.Slot(index, (slot.budgets_macs[gpu],), tuple(slot.requests[k] for k in mine))
                    least = sum(d * s.cheapest_macs for s, d in zip(streams, told.requests, strict=True))
                    value += brute_force(alone, told) if least <= told.budgets_macs[0] else -np.inf
                best = max(best, value)
            reached = 0.0
            for gpu, name in enumerate(task.gpus):
                mine = [k for k in range(3) if (decided[k].gpu or task.streams[k].gpu) == name]
                alone = orric.Task(task.horizon, tuple(task.streams[k] for k in mine))
                told = orric.Slot(index, (slot.budgets_macs[gpu],), tuple(slot.requests[k] for k in mine))
                own = tuple(decided[k] for k in mine)
                fits = feasible_together(np.array(told.requests), *costs_of(alone, own), told.budgets_macs[0])
                cheapest = all(
                    one.retraining == s.retraining[0].name and one.inference == s.inference[0].name
                    for one, s in zip(own, alone.streams, strict=True)
                )
                assert fits or cheapest
                reached += value_of(alone, told, own) if fits else 0.0
            moved += any(one.gpu != s.gpu for one, s in zip(decided, task.streams, strict=True))
            assert reached <= best * (1 + 1e-9) or best == 0
            assert reached >= best * (1 - placing.gaps[0]) * (1 - 1e-9) or np.isnan(placing.gaps[0])
    assert moved > 2


def _at_home(stream):
    return replace(stream, gpu="gpu0")


def test_budgets_of_gpus_that_streams_left_still_count(tmp_path, profile_path):
    scenario = two_gpus(tmp_path, [profile_path] * 2, capacities=(5e9, 2.5e9), low=0.9, high=1.0)
    both = scenario.budgets_macs(1, 0) + scenario.budgets_macs(1, 1)
    for allocator in (Shuttle(), orric.JointOrric()):
        result = orric.simulate(scenario, allocator, 1)
        assert result.budgets_macs == pytest.approx(both, rel=1e-12)
        assert result.pooled().budgets_macs == pytest.approx(both, rel=1e-12)
