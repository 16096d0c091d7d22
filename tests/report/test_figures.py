"""Static figures: they name, band and colour what is drawn and nothing else, and are fit for papers."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

import orric
from orric.exceptions import ScenarioError
from orric.records import Result
from orric.report.canvas import caption_of, drawn_on, paper
from orric.report.facts import winners
from orric.report.paper import CAPTIONS, FORMATS, WIDTHS_CM, figure_files
from orric.report.plots import accuracy_by_slot, accuracy_cost_latency, budget_split, figures
from orric.report.server import accuracy_by_stream, gpu_use, latency_by_phase, server_figures

from ..builders import ROOT


def simulated(scenario: str, *allocators: str) -> list[Result]:
    """Simulate a scenario of the repository."""
    loaded = orric.load_scenario(ROOT / f"simulations/{scenario}.toml")
    return [orric.simulate(loaded, orric.make_allocator(name)) for name in allocators]


@pytest.fixture(scope="module")
def server() -> list[Result]:
    """Return results of four streams on two GPUs, whose severities differ; the best does not stand first."""
    return simulated("edge-server", "inference-only", "orric")


@pytest.fixture(scope="module")
def fog() -> list[Result]:
    """Return results of one stream on one GPU, whose severity rises in steps."""
    return simulated("table3-fog", "orric", "inference-only")


def test_bands_are_there_where_all_streams_share_their_severity(server, fog) -> None:
    shared, differing = accuracy_by_slot(fog), accuracy_by_slot([one.pooled() for one in server])
    assert "Bands mark the steps of severity" in caption_of(shared)
    assert any("severity 2" in text.get_text() for text in shared.axes[0].texts)
    assert len(shared.axes[0].patches) == 2
    assert "Bands" not in caption_of(differing)
    assert not any("severity" in text.get_text() for text in differing.axes[0].texts)
    assert not differing.axes[0].patches
    steady = [replace(one, columns={**one.columns, "severity": 0 * one.severity + 3}) for one in fog]
    assert "Bands" not in caption_of(accuracy_by_slot(steady))
    assert "on average" in accuracy_by_slot(steady).get_suptitle()


def test_captions_are_of_what_is_drawn(fog) -> None:
    assert "batch-norm-only" not in caption_of(accuracy_cost_latency(fog))
    statistics = replace(fog[1], allocator="batch-norm-only")
    assert "batch-norm-only" in caption_of(accuracy_cost_latency([*fog, statistics]))
    assert "coincide" not in caption_of(accuracy_by_slot(fog))
    assert "coincide" in caption_of(accuracy_by_slot([*fog, replace(fog[0], allocator="twin")]))
    assert "Reference lines" not in caption_of(budget_split(fog))
    assert "Reference lines" in caption_of(budget_split([*fog, replace(fog[0], allocator="teacher-only")]))
    assert "Crosses" not in caption_of(budget_split(fog))


def test_legends_are_of_what_is_drawn(server, fog) -> None:
    def legend(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert legend(budget_split([fog[1]])) == ["inference", "unused"]
    assert "retraining" in legend(budget_split(fog))
    assert legend(gpu_use(server[0])) == ["serving", "down"]
    # Retraining that takes the whole slot leaves nothing to serve after it.
    phases = server[1].latencies
    empty = type(phases["gate"][2])()
    whole = replace(server[1], latencies={name: [one[0], one[1], empty] for name, one in phases.items()})
    figure = latency_by_phase(whole)
    assert legend(figure) == ["before retraining", "during retraining"]
    assert "after" not in caption_of(figure)


def test_figures_of_the_server_are_those_of_the_best(server) -> None:
    assert [one.allocator for one in winners(server)] == ["orric"]
    drawn = server_figures(server)
    assert drawn["gpu_use"].get_suptitle().startswith("Under ORRIC ")
    assert drawn["latency_by_phase"].get_suptitle().startswith("ORRIC: ")
    assert "inference-only never retrains" in caption_of(drawn["latency_by_phase"])


def test_one_stream_does_not_stand_against_itself(server) -> None:
    def title(*found: dict[str, float]) -> str:
        names = ("orric", "inference-only")
        shown = [
            replace(server[1], allocator=name, in_time_before=one) for name, one in zip(names, found, strict=False)
        ]
        return " ".join(accuracy_by_stream(shown).get_suptitle().split())

    good = {"a": 0.17, "b": 0.9}
    assert title(good, {"a": 0.12, "b": 0.9}).endswith("a has 17 % of its requests right and in time, and 12 % under "
                                                       "inference-only")  # fmt: skip
    assert title(good, {"a": 0.9, "b": 0.12}).endswith("and in time, against 12 % for b under inference-only")
    assert title(good, good).endswith("a has 17 % of its requests right and in time, and no less under any other")
    assert title(good) == "Under ORRIC the stream a fares worst: it has 17 % of its requests right and in time"


@pytest.mark.parametrize("width_cm", [None, *WIDTHS_CM])
def test_labels_cover_neither_legends_nor_each_other(fog, width_cm) -> None:
    """With one GPU the label of the axis once ran through the legend."""
    if width_cm is None:
        figure = gpu_use(fog[0])
    else:
        with drawn_on(paper(width_cm)):
            figure = gpu_use(fog[0])
    figure.draw_without_rendering()
    label, legend = figure._supylabel.get_window_extent(), figure.legends[0].get_window_extent()
    assert not label.overlaps(legend)
    assert label.y0 >= 0


@pytest.fixture(scope="module")
def files(server) -> dict[str, bytes]:
    """Return what is written of the server's figures for papers."""
    pooled = [one.pooled() for one in server]
    return dict(figure_files(lambda: {**figures(pooled), **server_figures(server)}))


def test_every_figure_is_written_at_every_width_in_every_format(files, server) -> None:
    stems = [*figures([one.pooled() for one in server]), *server_figures(server)]
    assert set(files) == {CAPTIONS} | {f"{s}-{w:g}cm.{f}" for s in stems for w in WIDTHS_CM for f in FORMATS}
    text = files[CAPTIONS].decode()
    assert all(f"## {stem}\n" in text for stem in stems)
    assert "Under ORRIC the GPUs spend" in text


def test_letters_are_text_of_a_size_that_can_be_read(files) -> None:
    for width_cm in WIDTHS_CM:
        svg = files[f"accuracy_by_slot-{width_cm:g}cm.svg"].decode()
        assert "inference-only" in re.sub(r"<!--.*?-->", "", svg)
        width_pt = float(re.search(r'width="([0-9.]+)pt"', svg)[1])
        assert width_pt == pytest.approx(width_cm / 2.54 * 72, abs=0.5)
        pdf = files[f"gpu_use-{width_cm:g}cm.pdf"]
        assert b"/FontFile2" in pdf  # TrueType, not outlines of type 3
        assert b"/Type3" not in pdf
        for name, content in files.items():
            if name.endswith(f"-{width_cm:g}cm.svg"):
                sizes = {float(size) for size in re.findall(r"font-size: ([0-9.]+)px", content.decode())}
                assert sizes
                assert all(7 <= size <= 9 for size in sizes), (name, sizes)


def test_the_same_figure_is_the_same_bytes(files, server) -> None:
    pooled = [one.pooled() for one in server]
    again = dict(figure_files(lambda: {**figures(pooled), **server_figures(server)}, widths_cm=[8.5]))
    assert all(again[name] == files[name] for name in again if name != CAPTIONS)
    assert not any(b"CreationDate" in content for content in again.values())


def test_a_width_that_no_page_has_is_refused() -> None:
    for width_cm in (0.0, 3.0, 61.0, float("nan")):
        with pytest.raises(ScenarioError, match="give 6 to 60 cm"):
            next(figure_files(dict, widths_cm=[width_cm]))


def test_nothing_is_cut_off_at_a_columns_width(server) -> None:
    with drawn_on(paper(8.5)):
        drawn = {**figures([one.pooled() for one in server]), **server_figures(server)}
    for stem, figure in drawn.items():
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            if text.get_text() and text.get_visible() and text.get_figure() is figure and not text.get_in_layout():
                box = text.get_window_extent()
                assert box.x0 >= -1, (stem, text)
        axes = figure.axes[0].get_window_extent()
        assert axes.width > 0.45 * figure.bbox.width, stem
        assert axes.height > 0.1 * figure.bbox.height, stem
        assert np.isfinite(axes.height), stem
