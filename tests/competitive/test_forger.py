"""The forger, for a short while: nothing false is verified, and a checker that looks away is noticed."""

from __future__ import annotations

import pytest

from orric.competitive import checker, induction, window

from ..benchmarks.forger import forge


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices need not be good ones to be verified."""
    monkeypatch.setattr(window, "STEPS", 60)


def test_nothing_false_is_verified_and_nothing_breaks() -> None:
    tally = forge(2, rounds=12)
    assert tally.faults == []
    assert tally.true > 2
    assert sum(tally.refused.values()) > 50
    assert len(tally.refused) > 10


def test_evidence_that_is_not_looked_at_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(induction.Induction, "_step", lambda self, *given: None)
    assert any("is true" in fault for fault in forge(2, rounds=25).faults)


def test_an_upper_end_that_is_not_compared_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = checker.demand
    monkeypatch.setattr(checker, "demand", lambda holds, where, *more: kept(holds or where == "upper", where, *more))
    assert any("is true" in fault for fault in forge(3, rounds=25).faults)
