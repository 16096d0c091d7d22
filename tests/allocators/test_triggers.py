"""Triggers by hand: who waits, who is probed, where the saved budget goes, and how names compose."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators import TRIGGERS, check_name
from orric.allocators.detectors import Adwin, Detector, Kswin, PageHinkley
from orric.allocators.orric import future_weights
from orric.allocators.triggers import DriftTriggered, GainTriggered

from ..builders import build_profile, build_scenario, build_task

NEEDED = 3
AMPLE = 100 * 14e6  # 100 requests at the dearest pair


class Below(Detector):
    """Fires at every value below a half."""

    name = "below"
    needed = NEEDED

    def drops(self, agreement: float) -> bool:
        return agreement < 0.5


class Shared(orric.Allocator):
    """One pair for every stream in every slot, with shares."""

    name = "shared"

    def __init__(self, retraining: str = "r3", inference: str = "i0", **shares: Any) -> None:
        self.one = orric.StreamAllocation(retraining, inference, **shares)

    def decide(self, slot: orric.Slot) -> Any:
        return orric.Allocation((self.one,) * len(self.task.streams), "as ever")


def begun(allocator: orric.Allocator, horizon: int = 100) -> orric.Allocator:
    allocator.reset(build_task(horizon), np.random.default_rng(1))
    return allocator


def slot(index: int, budget_macs: float = AMPLE) -> orric.Slot:
    return orric.Slot(index, (budget_macs,), (100.0,))


def tell(allocator: orric.Allocator, index: int, agreement: float | None) -> None:
    allocator.observe(orric.Observation(index, "stream-1", 100.0, 100.0, 0.0, 0.0, 1.0, agreement))


def play(
    allocator: orric.Allocator, slots: int, agreement: Callable[[int], float], budget_macs: float = AMPLE
) -> list[str]:
    """Return the retraining of each slot, where those that retrain report an agreement."""
    chosen = []
    for index in range(1, slots + 1):
        chosen.append(allocator.decide(slot(index, budget_macs)).streams[0].retraining)
        tell(allocator, index, None if chosen[-1] == "r0" else agreement(index))
    return chosen


def test_a_stream_is_probed_while_calm_and_retrains_for_a_while_after_a_drop() -> None:
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below, probe_slots=3, hold_slots=4))
    chosen = play(allocator, 24, lambda index: 0.4 if index == 9 else 0.9)
    # Three to know the level, then every third slot a probe; what the one of slot 9 tells holds for four slots, and
    # that the stream has recovered is looked at till the mean since the drop believes it.
    assert chosen[:9] == ["r3"] * 3 + ["r0", "r0", "r1"] * 2
    assert chosen[9:13] == ["r3"] * 4
    assert chosen[13:] == ["r1"] * 5 + ["r0", "r0", "r1"] * 2


def test_a_drop_that_is_told_again_prolongs_the_retraining() -> None:
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below, probe_slots=3, hold_slots=2))
    chosen = play(allocator, 14, lambda index: 0.4 if index in (6, 8) else 0.9)
    assert chosen[6:10] == ["r3"] * 4
    assert "r3" not in chosen[10:]


@pytest.mark.parametrize("odd", [0.84, 0.96])
def test_an_odd_agreement_is_looked_at_again_at_once(odd: float) -> None:
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below, probe_slots=5))
    chosen = play(allocator, 20, lambda index: odd if index == 8 else 0.9)
    assert [index for index, name in enumerate(chosen, start=1) if name == "r1"] == [8, 9, 14, 19]


def test_whether_a_held_stream_has_recovered_is_looked_at_at_once() -> None:
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below, probe_slots=3, hold_slots=1))
    chosen = play(allocator, 20, lambda index: 0.48 if index == 9 else 0.5)
    assert chosen[8:] == ["r1", "r3"] + ["r1"] * 3 + ["r0", "r0", "r1"] * 2 + ["r0"]


@pytest.mark.parametrize("kind", [Adwin, PageHinkley, Kswin])
@pytest.mark.parametrize("gap", [5, 8, 10, 20, 30, 40, 80])
@pytest.mark.parametrize("low_gaps", [0, 1])
def test_a_second_drop_is_found_though_a_calm_stream_is_only_probed(
    kind: type[Detector], gap: int, low_gaps: int
) -> None:
    pytest.importorskip("river", reason="needs orric[sim]")
    delays = np.array([delay_of_second_drop(kind, seed, low_gaps * gap, gap) for seed in range(60)])
    assert np.mean(delays < 99) >= 0.95
    assert np.median(delays) <= 8


def delay_of_second_drop(kind: type[Detector], seed: int, low: int, gap: int) -> int:
    """Return how many slots of a second drop pass before the stream retrains again; 99 for none of 30."""
    rng, level = np.random.default_rng(seed), (0.95, 0.8, 0.6)[seed % 3]
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), kind), horizon=400)
    indices = iter(range(1, 401))

    def retrains(at: float) -> bool:
        index = next(indices)
        chosen = allocator.decide(slot(index)).streams[0].retraining
        tell(allocator, index, None if chosen == "r0" else rng.binomial(100, at) / 100)
        return chosen == "r3"

    for _ in range(60):
        retrains(level)
    while not retrains(level - 0.15):
        pass
    # That slot is the first after the detector has fired.
    for _ in range(low - 1):
        retrains(level - 0.15)
    for _ in range(gap):
        retrains(level)
    told = [retrains(level - 0.15) for _ in range(31)]
    return told.index(True) if any(told) else 99


def test_a_stream_whose_probes_tell_nothing_is_probed_on() -> None:
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below))
    for index in range(1, 4):
        tell(allocator, index, 0.9)
    for index in range(6, 10):
        assert allocator.decide(slot(index)).streams[0].retraining == "r1"
        tell(allocator, index, None)


def test_where_the_inner_allocator_does_not_retrain_nothing_is_probed() -> None:
    allocator, alone = begun(DriftTriggered(orric.InferenceOnly(), Below)), begun(orric.InferenceOnly())
    for index in range(1, 5):
        tell(allocator, index, 0.9)
    for index in range(5, 20):
        assert allocator.decide(slot(index)) == alone.decide(slot(index))


def test_what_is_saved_goes_to_inference_as_far_as_the_inner_pair_reaches() -> None:
    # 12e6 per request: the inner pair is r3 and i1. A probe leaves 11e6 for inference, waiting 12e6.
    allocator = begun(DriftTriggered(orric.RetrainingGreedy(), Below))
    assert allocator.decide(slot(1, 100 * 12e6)).streams[0] == orric.StreamAllocation("r3", "i1")
    for index in range(1, 4):
        tell(allocator, index, 0.9)
    waiting, probed = (allocator.decide(slot(index, 100 * 12e6)) for index in (4, 6))
    assert waiting.streams[0] == orric.StreamAllocation("r0", "i2")
    assert probed.streams[0] == orric.StreamAllocation("r1", "i2")
    assert waiting.reason.endswith("; below: 1 waiting, of which 0 probed")
    assert probed.reason.endswith("; below: 1 waiting, of which 1 probed")
    # r2 and i0 cost 4e6 in all: beside a probe, 3e6 are left, which i1 fits and i2 does not.
    tight = begun(DriftTriggered(Shared("r2", "i0"), Below))
    for index in range(1, 4):
        tell(tight, index, 0.9)
    assert tight.decide(slot(6)).streams[0] == orric.StreamAllocation("r1", "i1")
    assert tight.decide(slot(5)).streams[0] == orric.StreamAllocation("r0", "i2")


@pytest.mark.parametrize(
    ("inner", "waiting", "probed"),
    [
        # Inference may cost as much more as its share grows: from 1e6 to 4e6 it must be fourfold, which 0.74 is not.
        ((0.2, 0.6), ("i2", 0.8, 0.0), ("i1", 0.74, 0.06)),
        ((0.4, 0.4), ("i1", 0.8, 0.0), ("i0", 0.76, 0.04)),
        ((0.0, 0.5), ("i0", 0.5, 0.0), ("i0", 0.45, 0.05)),
        # Of one share alone nobody can say what it is worth beside the other.
        ((0.2, None), ("i0", 0.2, None), ("i0", 0.2, None)),
        ((None, 0.6), ("i0", None, 0.0), ("i0", None, 0.06)),
    ],
)
def test_shares_are_carried_over(inner: Any, waiting: Any, probed: Any) -> None:
    given = Shared("r3", "i0", inference_share=inner[0], retraining_share=inner[1], gpu="gpu0")
    allocator = begun(DriftTriggered(given, Below))
    for index in range(1, 4):
        tell(allocator, index, 0.9)
    for index, name, (inference, serving, retraining) in ((4, "r0", waiting), (6, "r1", probed)):
        one = allocator.decide(slot(index)).streams[0]
        assert (one.retraining, one.inference, one.gpu) == (name, inference, "gpu0")
        assert one.inference_share == (None if serving is None else pytest.approx(serving))
        assert one.retraining_share == (None if retraining is None else pytest.approx(retraining))


@pytest.mark.parametrize("answer", [None, orric.Allocation(()), orric.Allocation(("r0",))])
def test_what_the_inner_allocator_does_wrong_is_told_as_without_the_trigger(answer: Any) -> None:
    class Wrong(orric.Allocator):
        name = "wrong"

        def decide(self, slot: orric.Slot) -> Any:
            return answer

    trace = orric.Trace(requests=[10], budget_macs=[2e8])
    told = []
    for allocator in (Wrong(), GainTriggered(Wrong())):
        with pytest.raises(orric.AllocatorError) as caught:
            orric.evaluate(build_profile(), trace, allocator)
        told.append(caught.value.args[1:])
    assert told[0] == told[1]


def test_a_configuration_that_the_task_does_not_list_is_left_alone() -> None:
    allocator = begun(GainTriggered(Shared("r9", "i0")))
    tell(allocator, 1, 0.9)
    assert allocator.decide(slot(2)).streams[0] == orric.StreamAllocation("r9", "i0")


@pytest.mark.parametrize("times", [0.99, 1.01])
def test_gain_is_weighed_as_the_formula_says(times: float) -> None:
    horizon, index, agreement = 50, 7, 0.6
    weight = future_weights(horizon, orric.LearningExtent())[index - 1]
    # F = 0.9 and A^T_max = 1; r3 gains 1 for 1e7 MACs, i2 serves with profit 1 for 4e6.
    ratio = ((0.9 - agreement) * 1.0 * weight / 1e7) / (0.9 * 1.0 / 4e6)
    allocator = begun(GainTriggered(orric.RetrainingGreedy(), threshold=times * ratio), horizon)
    tell(allocator, index - 1, agreement)
    assert allocator.decide(slot(index)).streams[0].retraining == ("r3" if times < 1 else "r0")


def test_gain_unknown_retrains_and_gain_stale_is_probed() -> None:
    allocator = begun(GainTriggered(orric.RetrainingGreedy(), threshold=1e6))
    assert play(allocator, 8, lambda index: 0.8) == ["r3", "r0", "r0", "r1", "r0", "r0", "r1", "r0"]


def test_no_gap_and_no_future_are_no_gain() -> None:
    allocator = begun(GainTriggered(orric.RetrainingGreedy(), threshold=0.0), horizon=9)
    tell(allocator, 1, 0.95)
    assert allocator.decide(slot(2)).streams[0].retraining == "r0"
    tell(allocator, 7, 0.5)
    assert allocator.decide(slot(8)).streams[0].retraining == "r3"
    assert allocator.decide(slot(9)).streams[0].retraining == "r0"


def test_each_stream_has_a_state_of_its_own() -> None:
    task = build_task(50)
    both = orric.Task(50, (task.streams[0], replace(task.streams[0], name="stream-2")))
    allocator = GainTriggered(orric.RetrainingGreedy(), threshold=1e6)
    allocator.reset(both, np.random.default_rng(1))
    tell(allocator, 1, 0.8)
    decided = allocator.decide(orric.Slot(2, (2 * AMPLE,), (100.0, 100.0)))
    assert [one.retraining for one in decided.streams] == ["r0", "r3"]


def test_the_inner_allocator_is_told_everything() -> None:
    class Listening(Shared):
        name = "listening"

        def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
            super().reset(task, rng)
            self.heard: list[float | None] = []

        def observe(self, record: orric.Observation) -> None:
            self.heard.append(record.agreement)

    inner = Listening()
    allocator = begun(GainTriggered(DriftTriggered(inner, Below)))
    for index, agreement in enumerate((0.9, None, 0.4), start=1):
        tell(allocator, index, agreement)
    assert inner.heard == [0.9, None, 0.4]


@pytest.mark.parametrize(
    "name", [*(f"{key}+orric" for key in TRIGGERS), "gain+adwin+orric", "adwin+round-robin", "kswin+no-retraining"]
)
def test_names_compose(name: str, profile_path: Path) -> None:
    check_name(name)
    allocator = orric.make_allocator(name)
    assert allocator.name == name.replace("no-retraining", "inference-only")
    assert pickle.loads(pickle.dumps(allocator)).name == allocator.name
    scenario = build_scenario(profile_path, allocators=(name,))
    pytest.importorskip("simpy", reason="needs orric[sim]")
    assert orric.simulate(scenario, allocator).allocator == allocator.name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adwim+orric", "'adwim' in 'adwim+orric' is no trigger; did you mean 'adwin'?"),
        ("gain+adwim+orric", "'adwim' in 'gain+adwim+orric' is no trigger; did you mean 'adwin'?"),
        ("orric+adwin", "'orric' in 'orric+adwin' is no trigger; known: adwin, page-hinkley, kswin, attention, gain"),
        ("adwin+oric", "'oric' in 'adwin+oric' is unknown; did you mean 'orric'?"),
        ("adwin+", "'' in 'adwin+' is unknown; known: "),
        ("+orric", "'' in '+orric' is no trigger; known: adwin"),
        ("adwin", "'adwin' is a trigger, which is put before an allocator; write for instance 'adwin+orric'"),
        ("gain+adwin", "'adwin' in 'gain+adwin' is a trigger"),
        ("adwin+teacher-only", "'teacher-only' in 'adwin+teacher-only' is a reference line, not an allocator"),
    ],
)
def test_wrong_names_are_told_part_by_part(name: str, message: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        orric.make_allocator(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: DriftTriggered(orric.Orric(), Below, probe_slots=0), "trigger 'below': probe_slots is 0"),
        (lambda: DriftTriggered(orric.Orric(), Below, hold_slots=1.5), "trigger 'below': hold_slots is 1.5"),
        (lambda: GainTriggered(orric.Orric(), float("nan")), "trigger 'gain': threshold is nan"),
    ],
)
def test_wrong_options_are_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(orric.ScenarioError, match=message):
        made()


@pytest.mark.parametrize("name", ["adwin+orric", "gain+orric"])
def test_in_the_slot_model_agreement_decides(name: str) -> None:
    pytest.importorskip("river", reason="needs orric[sim]")
    trace = orric.Trace(requests=[100] * 60, budget_macs=[AMPLE] * 60)
    alone = orric.evaluate(build_profile(), trace, orric.Orric())
    wrapped = orric.evaluate(build_profile(), trace, orric.make_allocator(name))
    trained = [(one.retraining != "r0").sum() for one in (alone, wrapped)]
    assert 0 < trained[1] < trained[0]


def test_a_trigger_may_go_by_attention_alone() -> None:
    """What is told of predictions does not count, and nobody is told of attention where nobody watches."""
    allocator = begun(DriftTriggered(Shared(), Below, probe_slots=2, signal="attention"))
    assert allocator.name == "attention+shared"
    for index in range(1, 7):
        assert allocator.decide(slot(index)).streams[0].retraining == "r3", "the inner allocator decides"
        tell(allocator, index, 0.9)
    for index in range(7, 7 + NEEDED):
        assert allocator.decide(slot(index)).streams[0].retraining == "r3"
        allocator.observe(replace(orric.Observation(index, "stream-1", 1.0, 1.0, 0.0, 0.0, 1.0, 0.1), attention=0.9))
    assert allocator.decide(slot(10)).streams[0].retraining == "r0", "students look where teachers look"
    allocator.observe(replace(orric.Observation(10, "stream-1", 1.0, 1.0, 0.0, 0.0, 1.0, 0.9), attention=0.3))
    assert allocator.decide(slot(11)).streams[0].retraining == "r3"
    assert "attention" in TRIGGERS
