"""Figures of a server, on a real simulation of several streams and GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="needs orric[sim]")

import orric
from orric.latency import LatencyHistogram
from orric.report.server import gpu_use, latency_by_phase, server_figures

from ..builders import ROOT


@pytest.fixture(scope="module")
def results():
    scenario = orric.load_scenario(ROOT / "simulations/edge-server.toml")
    return [orric.simulate(scenario, orric.make_allocator(name)) for name in ("orric", "inference-only")]


def test_titles_say_what_retraining_costs(results):
    figure = latency_by_phase(*results)
    tails = {}
    for name in results[0].streams:
        tails[name] = results[0].latencies[name][1].quantile(0.99)
    middle = sorted(tails.values())[1:3]
    assert f"{sum(middle) / 2:.2g} s during retraining" in figure.get_suptitle()
    assert figure.get_suptitle().startswith("ORRIC: ")
    assert "without it" in figure.get_suptitle()
    assert "before it" in latency_by_phase(results[0]).get_suptitle()


def test_use_of_the_gpus_is_told_with_their_energy(results):
    figure = gpu_use(results[0])
    columns = results[0].gpu_columns
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == ["gpu0", "gpu1"]
    energy = columns["energy_j"][columns["gpu"] == "gpu0"].sum() / 3600
    assert f"{energy:.3g} Wh" in figure.axes[0].get_title(loc="left")
    serving = columns["serving"].mean()
    assert f"{100 * serving:.0f}\u00a0% of their time on serving" in figure.get_suptitle()


def test_what_is_not_there_is_not_drawn(results):
    assert server_figures([replace(results[0], gpu_columns={})]) == {}
    empty = {name: [LatencyHistogram() for _ in range(3)] for name in results[0].streams}
    assert latency_by_phase(replace(results[0], latencies=empty)) is None
    assert set(server_figures(results)) == {"latency_by_phase", "gpu_use"}


def test_pooled_is_the_sum_of_the_streams(results):
    result = results[0]
    pooled = result.pooled()
    assert pooled.value == pytest.approx(result.value)
    assert pooled.mean_accuracy == pytest.approx(result.mean_accuracy)
    assert len(pooled.slot) == 60
    assert pooled.budget_macs.sum() == pytest.approx(result.gpu_columns["budget_macs"].sum())
    assert pooled.pooled() is pooled
    whole, parts = pooled.summary(), result.summary()
    for name in ("mean_accuracy", "late", "shed", "budget_used", "latency_p99_s"):
        assert whole[name] == pytest.approx(parts[name])
