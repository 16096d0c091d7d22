"""How soon detectors find a drop of 0.15 among the noise of 100 labelled samples, and how often they are wrong."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("river", reason="needs orric[sim]")

import orric
from orric.allocators.detectors import Adwin, Detector, Kswin, PageHinkley
from orric.exceptions import MissingExtraError

LEVELS, LABELLED = (0.95, 0.8, 0.6), 100
# Median delay, delay of nine in ten, part found within 15 values, false alarms per 1,000 values: what is promised.
PROMISED = [(Adwin, 4, 5, 0.98, 0.3), (PageHinkley, 2, 3, 0.98, 0.3), (Kswin, 7, 8, 0.95, 1.0)]


def agreements(rng: np.random.Generator, level: float, count: int) -> list[float]:
    """Return what so many slots would report of a student that agrees with its teacher at a level."""
    found: list[float] = (rng.binomial(LABELLED, level, count) / LABELLED).tolist()
    return found


@pytest.mark.parametrize(("kind", "median", "most", "found", "wrong"), PROMISED)
def test_a_drop_is_found_soon(kind: type[Detector], median: float, most: float, found: float, wrong: float) -> None:
    rng, delays = np.random.default_rng(1), []
    for trial in range(90):
        level, detector = LEVELS[trial % 3], kind()
        for value in agreements(rng, level, 30):
            detector.drops(value)
        fired = [detector.drops(value) for value in agreements(rng, level - 0.15, 15)]
        delays.append(fired.index(True) + 1 if any(fired) else 99)
    assert np.median(delays) <= median
    assert np.quantile(delays, 0.9) <= most
    assert np.mean(np.array(delays) < 99) >= found


@pytest.mark.parametrize(("kind", "median", "most", "found", "wrong"), PROMISED)
def test_false_alarms_are_rare(kind: type[Detector], median: float, most: float, found: float, wrong: float) -> None:
    rng, alarms, series, length = np.random.default_rng(2), 0, 60, 100
    for trial in range(series):
        detector = kind()
        alarms += sum(detector.drops(value) for value in agreements(rng, LEVELS[trial % 3], length))
    assert 1000 * alarms / (series * length) <= wrong


@pytest.mark.parametrize("kind", [Adwin, PageHinkley, Kswin])
def test_a_rise_is_no_drop(kind: type[Detector]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        detector = kind()
        series = [*agreements(rng, 0.6, 30), *agreements(rng, 0.9, 12)]
        assert not any(detector.drops(value) for value in series)


@pytest.mark.parametrize("kind", [Adwin, PageHinkley, Kswin])
def test_nothing_is_found_before_enough_values_are_there(kind: type[Detector]) -> None:
    detector = kind()
    half = detector.needed // 2
    series = [0.9] * half + [0.1] * (detector.needed - 1 - half)
    assert not any(detector.drops(value) for value in series)


def test_without_its_package_a_trigger_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    trace = orric.Trace(requests=[1000], budget_macs=[1e11])
    with pytest.raises(MissingExtraError, match=r"package 'river.drift': is not installed; .*orric\[sim\]"):
        orric.evaluate(profile, trace, orric.make_allocator("adwin+orric"))


def test_naming_a_trigger_loads_no_package_of_its_own() -> None:
    code = "import sys, orric; orric.make_allocator('kswin+orric'); sys.exit('river' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
