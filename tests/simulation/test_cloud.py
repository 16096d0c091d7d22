"""Retraining in the cloud: transfers take their time and their turn, and the GPU is left alone."""

from __future__ import annotations

import numpy as np
import pytest

import orric
from orric.allocators import make_allocator
from orric.configuration import Allocation, StreamAllocation
from orric.scenario import Cloud

from ..allocators.instances import two_gpus
from ..builders import build_profile, write_profile

# 100 samples of 10 bytes go up in 1 s, weights of 50 bytes come down in 0.25 s, each way takes 0.5 s more, and
# labelling and training 100 x 1e7 MACs takes 2 s.
CLOUD = Cloud(
    uplink_bytes_per_s=1e3, downlink_bytes_per_s=200.0, delay_s=0.5, macs_per_s=5e8, sample_bytes=10.0,
    weights_bytes=50.0,
)  # fmt: skip
WHOLE_S = 1.0 + 0.5 + 2.0 + 0.25 + 0.5


def build(folder, streams=1, cloud=CLOUD, slots=4, **more):
    path = write_profile(build_profile(), folder / "small.toml")
    scenario = two_gpus(folder, [path] * streams, gpus=1, low=1.0, high=1.0, requests=(100, 100), slots=slots, **more)
    return scenario.model_copy(update={"cloud": cloud})


def test_weights_are_back_when_transfers_and_work_are_done(tmp_path):
    """The first slot's weights are there after 4.25 s: 3.75 of the slot's 8 s are served by them."""
    stream = {"arrivals": "deterministic", "retraining": {"takeover": "completion"}}
    result = orric.simulate(build(tmp_path, stream=stream), make_allocator("cloud-retraining"), 1, record=True)
    # There is nothing to send before the first samples are in: retraining begins with the second slot.
    times = np.concatenate([window.times_s[:, 1] for window in result.request_times["camera-0"]])
    versions = np.concatenate([window.numbers[:, 1] for window in result.request_times["camera-0"]])
    first = times[versions == versions.min() + 2].min()
    assert times[versions > versions[times < 8.0].max()].min() >= 8.0
    assert first == pytest.approx(8.0 + WHOLE_S, abs=0.09)
    assert result.columns["extent"][0] == 0
    assert result.columns["retraining_macs"].tolist() == [0.0] * 4
    assert result.gpu_columns["training"].tolist() == [0.0] * 4
    assert result.columns["retrained"].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert not np.isnan(result.columns["agreement"][1:]).any()


@pytest.mark.parametrize(("streams", "slots_late"), [(1, 0), (4, 0), (5, 1)])
def test_transfers_take_turns(tmp_path, streams, slots_late):
    """Uploads of 1 s each: the fifth stream's ends at 5 s and its weights come at 8.25 s, in the next slot."""
    result = orric.simulate(build(tmp_path, streams), make_allocator("cloud-retraining"), 1)
    last = result.columns["retrained"].reshape(-1, streams)[:, -1]
    assert last[0] == (1.0 if not slots_late else 0.0)
    assert last[1] == 1.0
    late = [event for event in result.events if "done in slot" in event.what]
    assert {event.subject for event in late} == ({"camera-4"} if slots_late else set())
    if slots_late:
        assert late[0].time_s == pytest.approx(5.0 + 0.5 + 2.0 + 0.25 + 0.5, rel=1e-12)


def test_the_whole_budget_serves(tmp_path):
    scenario = build(tmp_path, 2)
    cloud = orric.simulate(scenario, make_allocator("cloud-retraining"), 1)
    frozen = orric.simulate(scenario, orric.InferenceOnly(), 1)
    assert cloud.columns["inference"].tolist() == frozen.columns["inference"].tolist()
    assert cloud.columns["inference_macs"].tolist() == frozen.columns["inference_macs"].tolist()
    assert cloud.mean_accuracy > frozen.mean_accuracy + 0.02


def test_slower_links_cost_accuracy(tmp_path):
    found = []
    for rate in (1e4, 1e2, 3e1):
        scenario = build(tmp_path, 3, CLOUD.model_copy(update={"uplink_bytes_per_s": rate}), slots=20)
        found.append(orric.simulate(scenario, make_allocator("cloud-retraining"), 1).mean_accuracy)
    assert found[0] > found[1] > found[2]


def test_a_crash_loses_it_and_a_lost_gpu_does_not(tmp_path):
    scenario = build(tmp_path)
    for kind, owner, retrained in (
        ("retraining-crash", {"stream": "camera-0"}, 0.0),
        ("gpu-loss", {"gpu": "gpu0", "duration_s": 1.0}, 1.0),
    ):
        fault = orric.scenario.Fault(kind=kind, slots=(2,), offset_s=1.0, **owner)
        result = orric.simulate(scenario.model_copy(update={"fault": (fault,)}), make_allocator("cloud-retraining"), 1)
        assert result.columns["retrained"].tolist() == [1.0, retrained, 1.0, 1.0]


def test_without_a_cloud_it_only_serves(tmp_path):
    scenario = build(tmp_path, 2, cloud=None)
    result = orric.simulate(scenario, make_allocator("cloud-retraining"), 1)
    assert set(result.columns["retraining"]) == {"r0"}
    assert set(result.columns["reason"]) == {"there is no cloud"}

    class Dreamer(orric.Allocator):
        name = "dreamer"

        def decide(self, slot):
            return Allocation((StreamAllocation("r1", "i0", cloud=True),) * 2)

    with pytest.raises(orric.AllocatorError, match="retrains in the cloud, and there is none"):
        orric.simulate(scenario, Dreamer(), 1)
    result = orric.simulate(build(tmp_path, 2), Dreamer(), 1)
    assert set(result.columns["retraining"]) == {"r1"}


def test_cloud_is_written_with_the_scenario(tmp_path):
    scenario = build(tmp_path)
    table = scenario.resolved(tmp_path, 1, "curve")
    assert table["cloud"]["delay_s"] == 0.5
    assert "cloud" not in build(tmp_path, cloud=None).resolved(tmp_path, 1, "curve")


class Changing(orric.Allocator):
    """Retrain at a third of the share that a slot would need for two slots, then in the cloud."""

    name = "changing"

    def decide(self, slot):
        cloud = slot.index > 2
        share = None if cloud else 0.02
        return Allocation((StreamAllocation("r3", "i0", retraining_share=share, cloud=cloud),))


def test_retraining_under_way_makes_room_for_the_cloud(tmp_path):
    scenario = build(tmp_path, slots=6, stream={"retraining": {"overrun": "continue"}})
    result = orric.simulate(scenario, Changing(), 1)
    assert result.columns["retrained"].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert [event.what for event in result.events if "cloud" in event.what] == [
        "retraining of slot 1 given up for the cloud in stage train"
    ]


@pytest.mark.parametrize("delay_s", [3.99, 4.0])
def test_weights_that_come_with_the_slots_end_are_in_time(tmp_path, delay_s):
    fast = {"uplink_bytes_per_s": 1e15, "downlink_bytes_per_s": 1e15, "macs_per_s": 1e18, "delay_s": delay_s}
    result = orric.simulate(build(tmp_path, 1, CLOUD.model_copy(update=fast)), make_allocator("cloud-retraining"), 1)
    assert result.columns["retrained"].tolist() == [1.0] * 4
    assert not result.events
