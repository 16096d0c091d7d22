"""What was told wrongly once, with the right value: who waits for what, who is counted as what, what a device does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.scenario import Fault
from orric.simulation.discipline import Discipline
from orric.simulation.processor import tables
from orric.simulation.processor.device import Processor
from orric.simulation.processor.pool import Pool

from ..builders import ROOT, build_profile, build_scenario, write_profile

ALL = {"kind": "constant", "fraction": 1.0}
CLOUD = {
    "uplink_bytes_per_s": 1e6, "downlink_bytes_per_s": 1e6, "delay_s": 0.0, "macs_per_s": 1e12,
    "sample_bytes": 1.0, "weights_bytes": 1.0,
}  # fmt: skip
WEIGHTED, PRIORITY = {"model": "weighted"}, {"model": "priority"}


class Shared(orric.Allocator):
    """Give the same configurations and shares in every slot, or those of each slot."""

    name = "shared"

    def __init__(self, *pairs: tuple[str, str, float, float], cloud: bool = False) -> None:
        self.pairs, self.cloud = pairs, cloud

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        retraining, inference, learning, serving = self.pairs[min(slot.index, len(self.pairs)) - 1]
        given = {"inference_share": serving, "retraining_share": learning}
        if self.cloud and slot.index > 1:
            given = {"cloud": True}
        return orric.Allocation((orric.StreamAllocation(retraining, inference, **given),))


@pytest.fixture
def profile_path(tmp_path: Path) -> Path:
    """A millisecond of work at the whole GPU for each request, whatever the configuration; retraining takes 10 ms."""
    latencies = tuple({"inference": f"i{k}", "fixed_s": 0.0, "each_s": 0.001} for k in range(3))
    profile = build_profile(retraining=((0.0, 0.0), (0.5, 1e7)), batch_latency=latencies)
    return write_profile(profile, tmp_path / "profile.toml")


def built(path: Path, **changes: Any) -> orric.Scenario:
    """Return a scenario of a GPU that is all there."""
    return build_scenario(path, **{"budget": ALL, "slot_s": 20.0, "slots": 2, **changes})


def ends_of(result: orric.Result) -> np.ndarray:
    """Return when each request of the one stream ended, by its number."""
    (windows,) = result.request_times.values()
    numbers, times = (np.concatenate([getattr(one, name) for one in windows]) for name in ("numbers", "times_s"))
    return times[np.argsort(numbers[:, 0]), 2]


def test_the_unanswered_of_a_lost_gpu_are_told(tmp_path: Path) -> None:
    """Nine of ten slots without a GPU: its requests wait at the end, and the report says so."""
    path = tmp_path / "lost.toml"
    path.write_text(
        "\n".join((
            'format = 1\nname = "lost"\nslots = 10\nslot_s = 60.0\nallocators = ["inference-only"]',
            '[[gpu]]\nmacs_per_s = 1.0e9\nbudget = { kind = "constant", fraction = 0.9 }',
            f'[[stream]]\nname = "camera-1"\nprofile = "{ROOT}/traces/profiles/digits.toml"',
            'requests = { kind = "constant", per_slot = 1000 }\narrivals = "poisson"\ndeadline_s = 1.0',
            '[[fault]]\nkind = "gpu-loss"\ngpu = "gpu0"\nslots = [2]\nduration_s = 540.0',
        ))
    )  # fmt: skip
    result = orric.simulate(orric.load_scenario(path), orric.InferenceOnly(), seed=1)
    fates = result.fates
    assert sum(fates.values()) == 10_000
    assert fates["waiting"] == pytest.approx(9000, abs=2)
    assert result.in_time_accuracy <= 0.1
    assert result.overload is not None
    assert result.overload.overloaded


def test_a_crash_lends_its_share_at_once(profile_path: Path) -> None:
    """A second of work for requests at a share of 0.1, retraining at 0.9 crashes at 1 s: 0.1 s are done, 0.9 s left."""
    crash = Fault(kind="retraining-crash", stream="camera-1", slots=(1,), offset_s=1.0)
    given = {"requests": {"kind": "constant", "per_slot": 1000}, "spare": "inference", "fault": (crash,)}
    result = orric.simulate(built(profile_path, **given), Shared(("r1", "i0", 0.9, 0.1)), seed=1, record=True)
    assert ends_of(result)[:1000].max() == pytest.approx(1.9)


def test_an_overload_that_sheds_evenly_is_not_late(profile_path: Path) -> None:
    """At twice the load, whoever is let in evenly is served at once; whoever comes first waits for half of the slot."""
    found = {}
    for shed in ("even", "newest"):
        given = {"requests": {"kind": "constant", "per_slot": 4000}, "deadline_s": 1.0, "shed": shed}
        scenario = built(profile_path, arrivals="deterministic", budget={"kind": "constant", "fraction": 0.1}, **given)
        result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
        assert result.shed.sum() == 4000
        found[shed] = result.late.sum() / result.served.sum()
    assert found["even"] == 0
    assert found["newest"] > 0.7


def test_a_full_queue_does_not_keep_idle_workers_waiting(profile_path: Path) -> None:
    """Two go to the idle workers and three wait, as Ciw has it."""
    given = {"requests": {"kind": "constant", "per_slot": 50}, "workers": 2, "queue_limit": 3, "slots": 1}
    for sharing in ({"model": "fluid"}, WEIGHTED, PRIORITY):
        for shed in ("even", "oldest"):
            result = orric.simulate(built(profile_path, sharing=sharing, shed=shed, **given), orric.InferenceOnly())
            assert (result.served.sum(), result.shed.sum()) == (5, 45)


def test_a_lost_gpu_begins_anew(tmp_path: Path) -> None:
    """A request of 2 s, a loss after 1.5 s for 3 s, weights loaded for 1 s: done at 1.5 + 3 + 1 + 2 = 7.5 s."""
    latencies = tuple({"inference": f"i{k}", "fixed_s": 0.0, "each_s": 2.0} for k in range(3))
    path = write_profile(build_profile(batch_latency=latencies), tmp_path / "slow.toml")
    loss = Fault(kind="gpu-loss", gpu="gpu0", slots=(1,), offset_s=1.5, duration_s=3.0, reload_s=1.0)
    stall = Fault(kind="gpu-stall", gpu="gpu0", slots=(1,), offset_s=1.5, duration_s=3.0)
    for sharing in ({"model": "fluid"}, WEIGHTED, PRIORITY):
        for fault, end_s in ((loss, 7.5), (stall, 5.0)):
            given = {"requests": {"kind": "constant", "per_slot": 1}, "sharing": sharing, "fault": (fault,)}
            scenario = built(path, slots=1, **given)
            result = orric.simulate(scenario, Shared(("r0", "i0", 0.0, 1.0)), seed=1, record=True)
            assert ends_of(result).tolist() == [pytest.approx(end_s)]


@pytest.mark.parametrize("domain", ["separate", "shared"])
def test_a_client_that_dies_takes_others_along_where_faults_are_shared(profile_path: Path, domain: str) -> None:
    crash = Fault(kind="client-crash", stream="camera-1", slots=(1,), offset_s=1.0, reload_s=4.0)
    table = built(
        profile_path, requests={"kind": "constant", "per_slot": 1000}, arrivals="deterministic", fault=(crash,)
    )
    one, gpu = table.stream[0], table.gpu[0].model_copy(update={"fault_domain": domain})
    both = (one, one.model_copy(update={"name": "camera-2"}))
    scenario = table.model_copy(update={"stream": both, "gpu": (gpu,)})
    result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
    lost = {name: result.lost[result.stream == name].sum() for name in ("camera-1", "camera-2")}
    # 4 s of 50 requests a second, and who was there at 1 s.
    assert lost["camera-1"] == pytest.approx(200, abs=2)
    assert lost["camera-2"] == (lost["camera-1"] if domain == "shared" else 0)


def test_what_overruns_lets_the_next_one_wait_or_leaves_it_out(profile_path: Path) -> None:
    """Retraining of 10 s at a share of 0.4 takes 25 s of slots of 20 s; the next one begins then, or never."""
    told: dict[str, Any] = {}
    for overrun in ("abandon", "continue", "skip"):
        scenario = built(
            profile_path, slots=4, requests={"kind": "constant", "per_slot": 1000}, retraining={"overrun": overrun}
        )
        result = orric.simulate(scenario, Shared(("r1", "i0", 0.4, 0.5)), seed=1)
        told[overrun] = (
            result.gpu_columns["training"].tolist(),
            [event.what for event in result.events],
            result.retrained,
        )
    assert told["continue"][0] == pytest.approx([0.4, 0.4, 0.4, 0.4])
    assert "retraining of slot 2 waits for that of slot 1" in told["continue"][1]
    # Done at 25, 50 and 75 s.
    assert told["continue"][2].tolist() == [0, 1, 1, 1]
    assert told["skip"][0] == pytest.approx([0.4, 0.1, 0.4, 0.1])
    assert "retraining of slot 2 left out: that of slot 1 goes on" in told["skip"][1]
    assert told["abandon"][2].tolist() == [0, 0, 0, 0]


def test_a_free_configuration_in_the_cloud_gives_nothing_up(profile_path: Path) -> None:
    """What goes on here goes on, and nothing is told as retrained that was not."""
    given = {"requests": {"kind": "constant", "per_slot": 1000}, "retraining": {"overrun": "continue"}, "cloud": CLOUD}
    result = orric.simulate(
        built(profile_path, **given), Shared(("r1", "i0", 0.4, 0.5), ("r0", "i0", 0, 0), cloud=True)
    )
    assert result.retrained.tolist() == [0.0, 0.0]
    assert not any("given up" in event.what for event in result.events)


@pytest.mark.parametrize(("sharing", "done"), [({"model": "fluid"}, 0), (WEIGHTED, 5), (PRIORITY, 5)])
def test_retraining_gets_what_serving_leaves(profile_path: Path, sharing: dict[str, Any], done: int) -> None:
    """Shares of a half, serving that needs a fifth, retraining of 36 s in slots of 60 s: a device does each in 45 s."""
    given = {"requests": {"kind": "constant", "per_slot": 12_000}, "arrivals": "deterministic", "slot_s": 60.0}
    profile = orric.Profile.load(profile_path)
    dearer = tuple(one.model_copy(update={"cost_macs": 3e6 if one.cost_macs else 0.0}) for one in profile.retraining)
    path = write_profile(profile.model_copy(update={"retraining": dearer}), profile_path.with_name("dearer.toml"))
    scenario = built(path, slots=6, sharing=sharing, **given)
    result = orric.simulate(scenario, Shared(("r1", "i0", 0.5, 0.5)), seed=1)
    # The first slot has no samples yet.
    assert result.retrained.tolist() == [0.0] + [1.0 if done else 0.0] * 5
    if done:
        training_s = 60.0 * result.gpu_columns["training"][1:]
        assert training_s == pytest.approx(36.0)
        assert 60.0 * result.gpu_columns["serving"] == pytest.approx(12.0, rel=1e-3)


def test_a_skewed_clock_is_told_as_it_arrives(profile_path: Path, tmp_path: Path) -> None:
    requests = tmp_path / "requests.csv"
    requests.write_text("slot,requests,budget_macs\n1,10,1e9\n2,200,1e9\n3,10,1e9\n")
    skew = Fault(kind="clock-skew", stream="camera-1", slots=(1,), skew_s=16.0)
    given = {"requests": {"csv": str(requests)}, "arrivals": "deterministic", "forecast": "last", "fault": (skew,)}
    result = orric.simulate(built(profile_path, slots=3, **given), orric.InferenceOnly(), seed=1)
    assert result.requests.tolist() == [2, 48, 162]
    assert result.forecast.tolist() == [10, 2, 48]


def test_a_burst_rounds_to_the_nearest(profile_path: Path) -> None:
    burst = Fault(kind="burst", stream="camera-1", slots=(1,), factor=1.15)
    given = {"requests": {"kind": "constant", "per_slot": 100}, "arrivals": "deterministic", "fault": (burst,)}
    assert orric.simulate(built(profile_path, **given), orric.InferenceOnly(), seed=1).requests.tolist() == [115, 100]


def test_patience_ends_at_the_deadline(profile_path: Path) -> None:
    """A second of work at a tenth of the GPU: a deadline of 2 s lets 200 of 1,000 begin, and nobody is much late."""
    given = {"requests": {"kind": "constant", "per_slot": 1000}, "deadline_s": 2.0, "abandonment": {"kind": "deadline"}}
    for sharing in ({"model": "fluid"}, WEIGHTED):
        scenario = built(profile_path, slots=1, sharing=sharing, **given)
        result = orric.simulate(scenario, Shared(("r0", "i0", 0.0, 0.1)), seed=1)
        assert result.abandoned.sum() == pytest.approx(800, abs=1)
        assert result.late.sum() <= 1


def test_only_the_latest_waits(profile_path: Path) -> None:
    """Ten requests a second at one a second: the first is served, and then always the newest."""
    latencies = tuple({"inference": f"i{k}", "fixed_s": 0.0, "each_s": 1.0} for k in range(3))
    profile = orric.Profile.load(profile_path).model_copy(update={"batch_latency": ()})
    path = write_profile(build_profile(batch_latency=latencies, retraining=((0.0, 0.0), (0.5, 1e7))), profile_path)
    assert profile.name == "small"
    given = {"requests": {"kind": "constant", "per_slot": 201}, "arrivals": "deterministic", "shed": "keep-latest"}
    result = orric.simulate(built(path, slots=1, **given), Shared(("r0", "i0", 0.0, 1.0)), seed=1, record=True)
    assert result.served.sum() == 20
    # Whoever begins is at most a tenth of a second old.
    latencies_s = [
        one for windows in result.request_times.values() for w in windows for one in (w.times_s[:, 1] - w.times_s[:, 0])
    ]
    assert np.nanmax(latencies_s) <= 0.1


def test_a_closed_loop_never_has_more_than_its_clients_there(profile_path: Path) -> None:
    """20 clients that think for 5 s ask less than 4 times a second, and fewer are served the slower it goes."""
    served = []
    for share in (1.0, 0.002):
        given = {
            "requests": {"kind": "closed", "clients": 20, "thinking_s": 5.0},
            "arrivals": "closed",
            "forecast": "last",
        }
        result = orric.simulate(built(profile_path, slots=10, **given), Shared(("r0", "i0", 0.0, share)), seed=1)
        assert result.waiting.max() <= 20
        assert result.requests.sum() <= 20 * 10 * 20.0 / 5.0 * 1.2
        served.append(result.served.sum())
    # Machine repair: 20 machines that run for 5 s, one repairman who takes 0.5 s, is busy nearly always: 2 a second.
    assert served[1] == pytest.approx(10 * 20.0 * 2.0, rel=0.1)
    assert served[0] > 1.5 * served[1]


def test_who_is_not_forecast_still_gets_what_others_leave(profile_path: Path, tmp_path: Path) -> None:
    """A slot without requests makes `last` tell none for the next, whose request has an idle GPU to itself."""
    requests = tmp_path / "requests.csv"
    requests.write_text("slot,requests,budget_macs\n1,10,1e9\n2,0,1e9\n3,10,1e9\n")
    rare = built(
        profile_path, slots=3, sharing=WEIGHTED, requests={"csv": str(requests)}, forecast="last", arrivals="poisson"
    )
    busy = rare.stream[0].model_copy(update={"name": "busy", "requests": rare.stream[0].requests})
    steady = built(profile_path, requests={"kind": "constant", "per_slot": 100}, arrivals="poisson").stream[0]
    busy = steady.model_copy(update={"name": "busy"})
    for sharing in (WEIGHTED, PRIORITY):
        gpu = built(profile_path, sharing=sharing).gpu
        scenario = rare.model_copy(update={"stream": (*rare.stream, busy), "gpu": gpu, "spare": "inference"})
        result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
        mine = result.stream == "camera-1"
        assert result.forecast[mine].tolist() == [10, 10, 0]
        assert result.latency_p99_s[mine][2] < 0.05


def test_a_saturated_closed_loop_sheds_nobody(profile_path: Path) -> None:
    """Nobody knows how often clients ask: what they might ask if they were answered at once overloads no slot."""
    given = {
        "requests": {"kind": "closed", "clients": 20, "thinking_s": 0.01},
        "arrivals": "closed",
        "forecast": "last",
    }
    scenario = built(profile_path, budget={"kind": "constant", "fraction": 0.001}, slots=5, sharing=WEIGHTED, **given)
    result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
    assert result.shed.sum() == 0
    # One a millisecond at a thousandth of the GPU.
    assert result.served.sum() == pytest.approx(5 * 20, abs=2)
    assert result.waiting.max() <= 20


@pytest.mark.parametrize("kind", ["burst", "clock-skew"])
def test_faults_of_arrivals_are_refused_of_a_closed_loop(profile_path: Path, kind: str) -> None:
    more = {"factor": 2.0} if kind == "burst" else {"skew_s": 1.0}
    fault = Fault(kind=kind, stream="camera-1", slots=(1,), **more)
    given = {"requests": {"kind": "closed", "clients": 2, "thinking_s": 1.0}, "arrivals": "closed", "forecast": "last"}
    with pytest.raises(orric.ScenarioError, match="closed loop"):
        built(profile_path, fault=(fault,), **given).check("here")


def test_batches_of_any_size_fit_beside_a_closed_loop(profile_path: Path) -> None:
    """Rows of results and draws have room for what one event can end; this once went round for ever."""
    closed = {"requests": {"kind": "closed", "clients": 5, "thinking_s": 1.0}, "arrivals": "closed", "forecast": "last"}
    one = built(profile_path, **closed).stream[0]
    large = {"batch": {"most": 5000}, "requests": {"kind": "constant", "per_slot": 6000}, "workers": 4}
    other = (
        built(profile_path, shed="keep-latest", arrivals="upload", **large).stream[0].model_copy(update={"name": "b"})
    )
    scenario = built(profile_path, sharing=WEIGHTED).model_copy(update={"stream": (one, other)})
    result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
    assert result.requests[result.stream == "b"].tolist() == [6000, 6000]


@pytest.mark.parametrize("cloud", [False, True])
def test_a_process_that_is_not_there_does_not_retrain(profile_path: Path, cloud: bool) -> None:
    """Neither here, nor by what it sends to the cloud, though half of the first slot's samples came before."""
    crash = Fault(kind="client-crash", stream="camera-1", slots=(1,), offset_s=10.0, reload_s=1000.0)
    given = {
        "requests": {"kind": "constant", "per_slot": 100},
        "arrivals": "deterministic",
        "fault": (crash,),
        "slots": 4,
    }
    if cloud:
        given["cloud"] = CLOUD
    result = orric.simulate(built(profile_path, **given), Shared(("r1", "i0", 0.4, 0.5), cloud=cloud), seed=1)
    assert (result.served.sum(), result.lost.sum()) == (50, 350)
    assert result.retrained.sum() == 0


def test_by_chance_nobody_comes_to_one_of_two(profile_path: Path) -> None:
    busy = built(profile_path, arrivals="poisson", requests={"kind": "rate", "per_s": 5.0}).stream[0]
    rare = busy.model_copy(update={"name": "rare", "requests": busy.requests.model_copy(update={"per_s": 1e-6})})
    scenario = built(profile_path).model_copy(update={"stream": (busy, rare)})
    result = orric.simulate(scenario, orric.InferenceOnly(), seed=1)
    assert result.requests[result.stream == "rare"].sum() == 0
    with pytest.raises(orric.ScenarioError, match="no slot has any requests"):
        orric.simulate(scenario.model_copy(update={"stream": (rare,)}), orric.InferenceOnly(), seed=1)


def test_patience_of_the_served_takes_no_room() -> None:
    """Timers of requests that were served are forgotten, long before they would ring."""
    pool = Pool([Discipline(patience_s=1e9)])
    processor = Processor(pool, [0], tables.WEIGHTED)
    processor.set_weights(np.ones(1), np.zeros(1), 1.0)
    pool.stream[0, tables.EACH_S] = 1e-4
    for slot in range(100):
        times = slot + np.linspace(0.0, 0.9, 1000)
        arrivals, admitted = np.stack([times, np.ones(1000), np.ones(1000)], axis=1), np.zeros((1000, 2), np.int64)
        admitted[:, 1] = 1
        processor.load(arrivals, admitted)
        processor.run(slot + 1.0)
    assert pool.stream_n[0, tables.N_SERVED] == 100_000
    assert len(processor._timer) < 10_000


@pytest.mark.parametrize(("changes", "told"), [({"overload": "error"}, "overload"), ({"slots": 10_000_000}, "may ask")])
def test_closed_loops_that_cannot_be_run_are_refused(profile_path: Path, changes: dict[str, Any], told: str) -> None:
    given = {
        "requests": {"kind": "closed", "clients": 200, "thinking_s": 0.01},
        "arrivals": "closed",
        "forecast": "last",
    }
    with pytest.raises(orric.ScenarioError, match=told):
        built(profile_path, **given, **changes).check("here")
