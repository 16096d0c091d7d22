"""Intervals of whole sweeps hold the true mean as often as they say, on scenarios whose mean is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orric.statistics import mean_interval
from orric.sweep import Sweep, conduct, on_cores, run_sweep
from orric.sweep.precision import most_needed

from ..builders import build_profile, write_profile

REPETITIONS, PILOT, MOST = 1000, 30, 45
REQUESTS, COST_MACS, SLOT_S = 1000, 4e6, 10.0
SCENARIO = """
format = 1
name = "known"
slots = {slots}
slot_s = {slot_s}
allocators = ["inference-only"]
[[gpu]]
macs_per_s = {macs_per_s}
budget = {{ kind = "uniform", low = 0.0, high = 1.0 }}
[[stream]]
name = "camera-1"
profile = "frozen.toml"
requests = {{ kind = "constant", per_slot = {requests} }}
drift = {{ kind = "steps", corruption = "none", severities = [0] }}
"""


def expected_part(times: float) -> float:
    """Return the mean part of the requests that are served where a budget is drawn from 0 to `times` what all cost.

    A budget below the cost serves every whole number of requests below REQUESTS with the same chance.
    """
    return (1 - 1 / times) + (REQUESTS - 1) / 2 / REQUESTS / times


# Drawn from 0 to what all requests cost, the mean accuracy of 8 slots is all but normal; up to four times that, three
# slots of four serve everything and the mean of 4 slots is skewed.
@pytest.mark.parametrize(("times", "slots", "skewness"), [(1.0, 8, 0.0), (4.0, 4, -1.1)], ids=["normal", "skewed"])
def test_sweeps_keep_their_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: float, slots: int, skewness: float
) -> None:
    profile = build_profile(inference=((1.0, COST_MACS),))
    write_profile(profile, tmp_path / "frozen.toml")
    macs_per_s = times * REQUESTS * COST_MACS / SLOT_S
    text = SCENARIO.format(slots=slots, slot_s=SLOT_S, macs_per_s=macs_per_s, requests=REQUESTS)
    (tmp_path / "scenario.toml").write_text(text)
    (tmp_path / "sweep.toml").write_text(
        f'format = 1\nname = "known"\nscenario = "scenario.toml"\nengine = "slot-model"\nseeds = {REPETITIONS * MOST}\n'
    )
    monkeypatch.setattr(conduct, "SEEDS_TOGETHER", 1000)
    table = run_sweep(Sweep.load(tmp_path / "sweep.toml"), tmp_path / "out", on_cores(2)).table
    values = table["mean_accuracy"].to_numpy().reshape(REPETITIONS, MOST)
    assert profile.curve is not None
    mean = float(profile.curve(np.zeros(1))[0]) * expected_part(times)
    apart = values - values.mean()
    assert (apart**3).mean() / (apart**2).mean() ** 1.5 == pytest.approx(skewness, abs=0.15)
    fixed = [mean_interval(row[:PILOT]) for row in values]
    half_width = float(np.median([one.half_width for one in fixed]))
    stopped = []
    for row in values:
        count = most_needed(row[None, :PILOT], half_width, MOST)
        stopped.append(mean_interval(row[:count], pilot=PILOT))
    assert len({one.count for one in stopped}) > 2, "the spread chose the number"
    for intervals in (fixed, stopped):
        covered = sum(one.low <= mean <= one.high for one in intervals) / REPETITIONS
        assert 0.93 <= covered <= 0.97
