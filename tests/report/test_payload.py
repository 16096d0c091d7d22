"""What the interactive report holds: its numbers are those of the result, in bins that say what they are."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orric.latency import LatencyHistogram
from orric.records import COLUMNS, STAGES, Result
from orric.report import levels, pareto
from orric.report.levels import blocks
from orric.report.packing import COARSE, FINE, Blob
from orric.report.page import page
from orric.report.payload import TOTALS, payload, severity_steps
from orric.report.series import series_of_all, series_of_gpus, series_of_streams

from .synthetic import DEADLINE_S, synthetic

CAPACITIES = {"gpu0": 6e9, "gpu1": 12e9}


def unpacked(blob: bytes, pack: dict[str, Any], points: int) -> dict[str, np.ndarray]:
    """Read lines as the page's script does; shape (points, lines)."""
    rows, at = len(pack["channels"]) * pack["lines"], pack["at"]
    ends = np.array(struct.unpack_from(f"<{2 * rows}f", blob, at)).reshape(rows, 2)
    codes = np.frombuffer(blob, np.uint8, rows * points, at + 8 * rows).astype(int)
    if pack["steps"] > 254:
        codes = codes + 256 * np.frombuffer(blob, np.uint8, rows * points, at + 8 * rows + rows * points).astype(int)
    codes = codes.reshape(rows, points)
    values = ends[:, :1] + codes / pack["steps"] * (ends[:, 1:] - ends[:, :1])
    values = np.where(codes > pack["steps"], np.nan, values).reshape(len(pack["channels"]), pack["lines"], points)
    return {name: values[n].T for n, name in enumerate(pack["channels"])}


def of(results: list[Result]) -> tuple[dict[str, Any], bytes]:
    names = results[0].streams
    meta, text = payload(results, dict.fromkeys(names, DEADLINE_S), CAPACITIES, 60.0)
    return meta, zlib.decompress(base64.b64decode(text))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return synthetic(120, 4, ["orric", "inference-only", "fair-share"])


def test_lines_are_right_to_a_step_and_whole_numbers_exactly():
    rng = np.random.default_rng(1)
    lines = {
        "parts": rng.random((50, 3)), "counts": rng.integers(0, 200, (50, 3)).astype(float),
        "gaps": np.where(rng.random((50, 3)) < 0.3, np.nan, rng.random((50, 3)) * 1e6),
        "p99_s": rng.lognormal(0, 3, (50, 3)), "flat": np.full((50, 3), 0.3), "empty": np.full((50, 3), np.nan),
    }  # fmt: skip
    for steps in (FINE, COARSE):
        blob = Blob()
        blob.floats(np.arange(3.0))
        found = unpacked(zlib.decompress(blob_of(blob, lines, steps)), PACK[0], 50)
        np.testing.assert_array_equal(found["counts"], lines["counts"])
        np.testing.assert_allclose(found["parts"], lines["parts"], atol=0.51 / steps)
        np.testing.assert_allclose(found["gaps"], lines["gaps"], atol=0.51e6 / steps)
        np.testing.assert_allclose(found["flat"], 0.3, rtol=1e-6)
        assert np.isnan(found["empty"]).all()
        spread = np.ptp(np.log(lines["p99_s"]), axis=0).max()
        np.testing.assert_allclose(found["p99_s"], np.log(lines["p99_s"]), atol=0.51 * spread / steps + 1e-5)


PACK: list[dict[str, Any]] = [{}]


def blob_of(blob: Blob, lines: dict[str, np.ndarray], steps: int) -> bytes:
    PACK[0] = blob.steps(lines, steps, ("p99_s",))
    return blob.deflated()


def test_a_short_run_is_held_whole(results):
    meta, blob = of(results)
    assert [(one["kind"], one["first"], one["size"], one["bins"]) for one in meta["blocks"]] == [
        ("all", 0, 1, 120), ("streams", 0, 1, 120), ("gpus", 0, 1, 120),
    ]  # fmt: skip
    streams = next(one for one in meta["blocks"] if one["kind"] == "streams")
    for n, result in enumerate(results):
        found = unpacked(blob, streams["packs"][n], 120)
        for name in ("requests", "waiting", "late", "shed"):
            np.testing.assert_allclose(found[name].ravel(), result.columns[name], atol=0.2)
        for name in STAGES:
            np.testing.assert_allclose(found[name].ravel(), result.columns[name], atol=1e-3)
        chosen = [meta["choices"]["retraining"][int(one)] for one in found["retraining"].ravel()]
        assert chosen == result.columns["retraining"].tolist()


def test_bins_hold_the_sums_of_their_slots(results):
    result = results[0]
    lines = series_of_all(result).binned(0, 50, 3)
    requests = result.columns["requests"].reshape(120, 4).sum(axis=1)
    assert lines["requests"].ravel() == pytest.approx(
        [requests[a:b].mean() for a, b in ((0, 50), (50, 100), (100, 120))]
    )
    assert lines["requests_high"][2, 0] == requests[100:].max()
    assert lines["requests_low"][0, 0] == requests[:50].min()
    # A part is of sums, not a mean of parts.
    rows = {
        name: result.columns[name].reshape(120, 4).sum(axis=1)
        for name in COLUMNS
        if name in ("correct", "served", "shed")
    }
    right = rows["correct"][50:100].sum() / (rows["served"] + rows["shed"])[50:100].sum()
    assert lines["accuracy"][1, 0] == pytest.approx(right)
    assert lines["in_time"][1, 0] < lines["accuracy"][1, 0]


def test_the_parts_of_a_gpu_are_those_of_its_streams(results):
    names, gpus = series_of_gpus(results[0], CAPACITIES)
    assert names == ["gpu0", "gpu1"]
    streams = series_of_streams(results[0], {"retraining": ["full", "none"], "inference": ["32px"]})
    np.testing.assert_allclose(gpus.values["serving"][:, 0], streams.values["serving"][:, ::2].sum(axis=1))
    assert gpus.values["budget"][0].tolist() == [1.0, 0.5]


def test_slots_in_which_nothing_ended_have_no_accuracy(results):
    nothing = np.zeros_like(results[0].columns["served"])
    empty = dict.fromkeys(("served", "shed", "correct", "correct_in_time"), nothing)
    lines = series_of_all(replace(results[0], columns={**results[0].columns, **empty}))
    assert np.isnan(lines.values["accuracy"]).all()
    assert np.isnan(lines.binned(0, 50, 3)["accuracy"]).all()


@pytest.mark.parametrize(("slots", "streams", "names"), [(86400, 10, 5), (100, 500, 20), (86400, 500, 4), (700, 1, 3)])
def test_blocks_cover_the_run_and_stay_within_their_room(slots, streams, names):
    counts = {"all": 1, "streams": streams if streams > 1 else 0, "gpus": 4}
    chosen = blocks(slots, counts, names, slots // 2, 1e6)
    for kind, count in counts.items():
        mine = [block for block in chosen if block.kind == kind]
        assert bool(mine) == bool(count)
        assert not mine or any(one.first == 0 and one.size * one.bins >= slots for one in mine)
        assert all(one.first + one.size * (one.bins - 1) < slots for one in mine)
        windows = [one for one in mine if one.size == 1 and one.bins < slots]
        assert len({one.first for one in windows}) == len(windows)


def test_a_large_result_has_single_slots_at_its_worst(monkeypatch, results):
    monkeypatch.setattr(levels, "MOST_BYTES", 120_000)
    long = synthetic(3000, 4, ["orric", "thief"])
    for one in long:
        one.columns["shed"][4 * 2000] = 1e6
        one.columns["requests"][4 * 2000] += 1e6
    meta, blob = of(long)
    assert len(zlib.compress(blob, 9)) <= 120_000
    assert meta["worst"] == 2001
    windows = [one for one in meta["blocks"] if one["kind"] == "all" and one["size"] == 1]
    assert [one["first"] <= 2000 < one["first"] + one["bins"] for one in windows] == [False, True]
    found = unpacked(blob, windows[1]["packs"][0], windows[1]["bins"])["shed"].ravel()
    assert found.argmax() + windows[1]["first"] == 2000


def test_totals_are_those_of_the_table(results):
    meta, blob = of(results)
    for result, told in zip(results, meta["results"], strict=True):
        at, shape = told["totals"]["at"], told["totals"]["shape"]
        rows = np.frombuffer(blob, "<f4", shape[0] * shape[1], at).reshape(shape)
        whole = dict(zip(TOTALS, rows[0].tolist(), strict=True))
        assert whole["leading"] == pytest.approx(result.in_time_accuracy, rel=1e-6)
        assert whole["accuracy"] == pytest.approx(result.mean_accuracy, rel=1e-6)
        assert whole["p99_s"] == pytest.approx(result.latency.quantile(0.99), rel=1e-6)
        each = dict(zip(result.streams, rows[1:, TOTALS.index("accuracy")].tolist(), strict=True))
        assert each == pytest.approx(dict(result.stream_accuracies), rel=1e-6)


def test_distributions_are_those_of_the_histograms(results):
    meta, blob = of(results)
    grid = np.array(meta["grids"]["all"])
    nines = unpacked(blob, meta["results"][1]["cdf"]["all"], len(grid))["nines"].ravel()
    latencies, upto = results[1].latency.distribution()
    expected = np.concatenate([[0.0], upto])[np.searchsorted(latencies, grid, side="right")]
    np.testing.assert_allclose(1 - 10**-nines, expected, atol=3e-3)


def test_severity_is_told_by_stream_and_of_all_only_where_they_agree(results):
    told = severity_steps(results[0])
    assert not told["alike"]
    assert told["streams"] == [0, 0, 0, 1]
    assert told["patterns"][0][0] == [1, 0, 0]
    assert [step[2] for step in told["patterns"][1]] == [1, 2, 3, 4, 5, 0]
    assert told["patterns"][0][1] == [21, 0, 1]
    flickering = {**results[0].columns, "severity": np.arange(480) // 4 % 2}
    alike = severity_steps(replace(results[0], columns=flickering))
    assert alike["alike"]
    assert len(alike["patterns"][0]) == 120


def test_intervals_come_from_batches_and_short_runs_have_none(results):
    place = pareto.points(results)[0]
    mid, low, high = place["accuracy"]
    assert low < mid < high
    assert mid == results[0].in_time_accuracy
    assert place["latency_p99_s"][1] == place["latency_p99_s"][2]
    assert place["energy_j"][0] == pytest.approx(results[0].energy_j)
    short = pareto.points(synthetic(10, 2, ["orric"]))[0]["accuracy"]
    assert short[0] == short[1] == short[2]


def test_the_front_holds_whom_nobody_beats():
    places = [{"accuracy": [a, a, a], "cost": [c, c, c]} for a, c in ((0.5, 1.0), (0.7, 2.0), (0.6, 3.0), (0.7, 2.5))]
    places.append({"accuracy": None, "cost": None})
    assert pareto.front(places, "cost", lambda n: True) == [0, 1]
    assert pareto.front(places, "cost", lambda n: n != 1) == [0, 3]


def test_the_page_is_the_same_every_time_and_small(results):
    def written() -> str:
        return page("small", synthetic(120, 4, ["orric", "inference-only"]), {}, capacities_macs=CAPACITIES)

    assert written() == written()
    assert len(written()) < 400_000


def test_a_day_of_seconds_and_ten_streams_stays_below_three_megabytes():
    day = synthetic(86_400, 10, ["orric", "inference-only"])
    text = page("day", day, {}, deadlines_s={"cam-000": 2.0}, capacities_macs=CAPACITIES, slot_s=1.0)
    assert 500_000 < len(text.encode()) < 3_000_000


def test_results_without_latencies_and_gpus_are_told(results):
    bare = replace(results[0], gpu_columns={}, latencies={}, engine="slot model", has_deadlines=False)
    bare = replace(bare, columns={**bare.columns, **dict.fromkeys(STAGES, np.full(480, np.nan))})
    meta, blob = of([bare])
    assert meta["gpus"] == ["the budget"]
    assert meta["grids"]["all"] == []
    assert meta["measure"] == "mean accuracy"
    gpus = next(one for one in meta["blocks"] if one["kind"] == "gpus")
    assert unpacked(blob, gpus["packs"][0], 120)["serving"].max() > 0
    assert LatencyHistogram.merged([]).counts.sum() == 0
