"""Figures of a server, on a real simulation of several streams and GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("matplotlib", reason="needs orric[sim]")

import orric
from orric.latency import LatencyHistogram
from orric.report.conclusion import conclusion
from orric.report.plots import accuracy_by_slot, accuracy_cost_latency
from orric.report.server import accuracy_by_stream, gpu_use, latency_by_phase, server_figures
from orric.report.table import table_rows

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
    assert set(server_figures(results)) == {"accuracy_by_stream", "latency_by_phase", "gpu_use"}


def test_streams_are_told_apart(results):
    """The title names the best and the worst of the worst-served streams, and cells hold every stream's accuracy."""
    figure = accuracy_by_stream(results)
    found = [one.stream_in_time_accuracies for one in results]
    worst = [min(one, key=one.get) for one in found]
    parts = [one[name] for one, name in zip(found, worst, strict=True)]
    assert f"best under ORRIC: {worst[0]} has {100 * parts[0]:.0f} %" in " ".join(figure.get_suptitle().split())
    assert f"against {100 * parts[1]:.0f} % for {worst[1]} under inference-only" in " ".join(
        figure.get_suptitle().split()
    )
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == [f"{100 * part:.0f}" for one in found for part in one.values()]
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert bold == [f"{100 * part:.0f}" for part in parts]
    single = orric.simulate(orric.load_scenario(ROOT / "simulations/table3-fog.toml"), orric.Orric())
    assert accuracy_by_stream([single]) is None


def test_worst_stream_and_energy_are_in_the_summary_and_the_table(results):
    summary = results[0].pooled().summary()
    assert summary["worst_stream_accuracy"] == min(results[0].stream_accuracies.values())
    assert summary["stream_accuracies"][summary["worst_stream"]] == summary["worst_stream_accuracy"]
    assert summary["energy_j"] == pytest.approx(results[0].gpu_columns["energy_j"].sum())
    headings, rows = table_rows([one.pooled() for one in results])
    cells = dict(zip(headings, rows[0], strict=True))
    assert summary["stream_in_time_accuracies"][summary["worst_stream_in_time"]] == min(
        results[0].stream_in_time_accuracies.values()
    )
    assert summary["worst_stream_in_time_accuracy"] < summary["worst_stream_accuracy"], "deadlines that matter"
    assert cells["worst stream's (%)"] == f"{100 * summary['worst_stream_in_time_accuracy']:.2f}"
    assert cells["energy (Wh)"] == f"{summary['energy_j'] / 3600:.2f}"
    headings, rows = table_rows([replace(one, has_deadlines=False).pooled() for one in results])
    told = dict(zip(headings, rows[0], strict=True))["worst stream's (%)"]
    assert told == f"{100 * summary['worst_stream_accuracy']:.2f}"


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


def test_all_streams_count_for_the_title_however_many_are_drawn(results):
    """Twenty-four streams well served and the last one badly are worse than twenty-five served so-so."""
    names = [f"s{k}" for k in range(25)]
    uneven = replace(results[0], in_time_before={name: 0.1 if name == "s24" else 0.9 for name in names})
    even = replace(results[1], in_time_before=dict.fromkeys(names, 0.7))
    teacher = replace(even, allocator="teacher-only", in_time_before=dict.fromkeys(names, 0.99))
    figure = accuracy_by_stream([uneven, even, teacher])
    title = " ".join(figure.get_suptitle().split())
    assert "fares best under inference-only: s0 has 70 %" in title
    assert "against 10 % for s24 under ORRIC" in title
    drawn = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(drawn) == 24
    assert "s24" in drawn


def test_pooled_results_keep_the_accuracy_at_each_streams_last_severity(results):
    apart, pooled = results[0].summary(), results[0].pooled().summary()
    assert pooled["last_severity_accuracy"] == apart["last_severity_accuracy"]
    assert pooled["last_severity_accuracy"] != pytest.approx(pooled["mean_accuracy"], abs=1e-4)


def test_conclusion_speaks_of_streams_and_of_the_cloud():
    scenario = orric.load_scenario(ROOT / "simulations/cameras.toml")
    names = ("cloud-retraining", "orric-guided", "orric", "inference-only")
    shown = [orric.simulate(scenario, orric.make_allocator(name)).pooled() for name in names]
    text = " ".join(conclusion(shown))
    assert "never retrained" not in text
    assert "whose compute and energy are not counted here; without it orric-guided does best" in text
    assert "fares worst" in text
    assert "orric, which decides for each stream on its part of the budget, loses here" in text
    headline = accuracy_by_slot(shown).get_suptitle().replace("\u00a0", " ")
    assert f"cloud-retraining keeps {100 * shown[0].in_time_accuracy:.1f} % on average" in headline
    notes = [text.get_text() for text in accuracy_cost_latency(shown).axes[0].texts]
    assert "what the cloud computes is not counted" in notes
    slots = round(shown[0].retrained.mean() * 60)
    assert f"It retrained each stream in {slots} of 60 slots on average" in text
