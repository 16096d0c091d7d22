"""Under window memory the optimum is found over all states, certified, and left to prices only beyond them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import orric
from orric.competitive import states, states_check
from orric.competitive.problem import OfflineProblem
from orric.learning import LearningExtent

from .instances import Instance, brute_force, random_instance


def windowed(seed: int, width: int, *, slots: int = 8, choices: int = 4) -> Instance:
    """Return an instance with a window of some width; every second one competes, every third has slots that idle."""
    profile, trace = random_instance(seed, "window", compete=seed % 2 == 0, slots=slots, choices=choices)
    requests = trace.requests.copy()
    if seed % 3 == 0:
        requests[np.random.default_rng(seed).random(len(requests)) < 0.4] = 0.0
    memory = LearningExtent(kind="window", slots=width)
    return profile.model_copy(update={"memory": memory}), orric.Trace(requests=requests, budget_macs=trace.budget_macs)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_optimum_of_a_window_is_exact_and_verified(width: int) -> None:
    for seed in range(40):
        instance = windowed(seed, width)
        value, _ = orric.exact_optimum(*instance)
        best = orric.offline_optimum(*instance, 1e-11)
        assert best.lower <= value <= best.upper, seed
        assert best.gap <= 1e-12, seed
        assert best.reason == ""
        assert set(best.certificate.evidence) == {"states"}
        found = orric.verify(best.certificate)
        assert (found.lower, found.upper) == (best.lower, best.upper)


def test_it_is_the_best_of_all_sequences() -> None:
    for seed in range(30):
        instance = windowed(seed, 1 + seed % 3, slots=4, choices=3)
        assert orric.offline_optimum(*instance).lower == pytest.approx(brute_force(*instance), rel=1e-12), seed


@pytest.mark.parametrize("most", [1, 9, 40])
def test_a_long_trace_is_gone_through_in_stretches(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that not all choices need be kept at once."""
    for seed in range(20):
        problem = OfflineProblem.of(*windowed(seed, 1 + seed % 4))
        upper, chosen = states.best_of_states(problem)
        with monkeypatch.context() as patch:
            patch.setattr(states, "MOST_CHOICES", most)
            assert states.best_of_states(problem)[0] == upper
            assert (states.best_of_states(problem)[1] == chosen).all()


@pytest.mark.parametrize(("limit", "most"), [("MOST_STATES", 4), ("MOST_TRANSITIONS", 30)])
def test_beyond_its_states_a_window_is_left_to_prices(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = windowed(2, 3)
    value, _ = orric.exact_optimum(*wide)
    monkeypatch.setattr(states, limit, most)
    best = orric.offline_optimum(*wide, 1e-9)
    assert set(best.certificate.evidence) == {"prices"}
    assert best.lower <= value <= best.upper
    assert "Lagrangian" in best.reason
    assert orric.verify(best.certificate).upper == best.upper


def test_both_sides_agree_on_how_many_are_too_many() -> None:
    assert (states.MOST_STATES, states.MOST_TRANSITIONS) == (states_check.MOST_STATES, states_check.MOST_TRANSITIONS)


@pytest.mark.parametrize(
    ("limit", "most", "message"), [("MOST_STATES", 4, "too many states"), ("MOST_TRANSITIONS", 30, "its states have")]
)
def test_a_claim_of_too_many_states_is_refused(
    limit: str, most: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = orric.offline_optimum(*windowed(2, 3)).certificate
    monkeypatch.setattr(states_check, limit, most)
    with pytest.raises(orric.CertificateError, match=message):
        orric.verify(certificate)


def forged(certificate: orric.Certificate, upper: float) -> orric.Certificate:
    """Return a certificate that claims another upper end."""
    return orric.Certificate({**certificate.claim, "upper": upper}, certificate.evidence)


def test_no_upper_end_below_the_optimum_is_verified() -> None:
    for seed in range(40):
        best = orric.offline_optimum(*windowed(seed, 1 + seed % 4))
        for upper in (best.lower, best.upper * (1 - 1e-9), best.upper * (1 + 1e-6)):
            if upper != best.upper:
                with pytest.raises(orric.CertificateError, match=r"upper: (claimed|.* below)"):
                    orric.verify(forged(best.certificate, upper))


@pytest.mark.parametrize("evidence", [np.array(2), np.array([3]), np.array(3.5), np.array(np.nan), np.zeros(0)])
def test_other_states_than_the_windows_are_refused(evidence: Any) -> None:
    certificate = orric.offline_optimum(*windowed(2, 3)).certificate
    with pytest.raises(orric.CertificateError, match="its states are not those of the window"):
        orric.verify(orric.Certificate(certificate.claim, {"states": evidence}))


@pytest.mark.parametrize("kind", ["uniform", "decay"])
def test_states_fit_windows_only(kind: str) -> None:
    best = orric.offline_optimum(*random_instance(1, kind))
    with pytest.raises(orric.CertificateError, match=f"states do not fit {kind} memory"):
        orric.verify(orric.Certificate(best.certificate.claim, {"states": np.array(1)}))


def test_a_wider_window_in_the_claim_is_another_problem() -> None:
    """The checker goes by the memory of the claim's profile, of which the trace's earnings are worked out as well."""
    certificate = orric.offline_optimum(*windowed(2, 2)).certificate
    claim = copy.deepcopy(certificate.claim)
    claim["profile"]["memory"]["slots"] = 3
    with pytest.raises(orric.CertificateError):
        orric.verify(orric.Certificate(claim, {"states": np.array(3)}))
