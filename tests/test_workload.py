"""Drawn traces stay within their ranges, differ as their kinds say, and are described by the right numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.description import describe
from orric.importers import azure_llm_2023
from orric.workload import KINDS, generate

from .builders import ROOT

AZURE = ROOT.parent / "shared" / "data" / "azure_llm_2023"
RANGE = st.tuples(st.integers(1, 1000), st.integers(0, 1000)).map(lambda pair: (pair[0], pair[0] + pair[1]))
BUDGETS = (1e9, 5e9)


@given(kind=st.sampled_from(sorted(KINDS)), slots=st.integers(1, 100), requests=RANGE, seed=st.integers(0, 9))
def test_every_kind_stays_within_its_ranges(kind, slots, requests, seed):
    trace = generate(kind, slots, requests, BUDGETS, seed)
    assert trace.slots == slots
    assert (trace.requests >= requests[0]).all()
    assert (trace.requests <= requests[1]).all()
    assert (trace.requests == np.floor(trace.requests)).all()
    assert (trace.budget_macs >= BUDGETS[0]).all()
    assert (trace.budget_macs <= BUDGETS[1]).all()
    again = generate(kind, slots, requests, BUDGETS, seed)
    assert again.requests.tolist() == trace.requests.tolist()
    assert again.budget_macs.tolist() == trace.budget_macs.tolist()


def test_uniform_requests_reach_every_number_alike():
    drawn = generate("uniform", 30_000, (3, 5), BUDGETS, 1).requests
    values, times = np.unique(drawn, return_counts=True)
    assert values.tolist() == [3, 4, 5]
    assert times == pytest.approx(10_000, rel=0.03)


def test_bursts_come_and_last():
    drawn = generate("bursty", 20_000, (0, 100), BUDGETS, 1).requests
    burst = drawn > 50
    # A burst in 1 slot of 6, for 4 slots: the chain's stationary share 0.05 / (0.05 + 0.25) and mean stay 1 / 0.25.
    assert burst.mean() == pytest.approx(1 / 6, rel=0.1)
    begins = np.count_nonzero(burst[1:] & ~burst[:-1])
    assert burst.sum() / begins == pytest.approx(4.0, rel=0.1)
    assert not ((drawn > 25) & (drawn < 75)).any()
    uniform = generate("uniform", 20_000, (0, 100), BUDGETS, 1)
    assert (
        describe(generate("bursty", 20_000, (0, 100), BUDGETS, 1)).peak_to_mean > 1.5 * describe(uniform).peak_to_mean
    )


def test_a_periodic_trace_repeats_after_its_period():
    drawn = generate("periodic", 1000, (0, 1000), BUDGETS, 1, period=10).requests.reshape(100, 10)
    assert drawn.mean(axis=0).argmax() == 5
    assert drawn.mean(axis=0).argmin() == 0
    assert drawn.std(axis=0).max() < 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "burst"}, ["'burst' is unknown", "'bursty'"]),
        ({"slots": 0}, ["slots"]),
        ({"slots": 10**8}, ["slots"]),
        ({"period": 1}, ["period"]),
        ({"requests": (5, 4)}, ["requests", "5 to 4"]),
        ({"requests": (-1, 4)}, ["requests"]),
        ({"requests": (1, float("nan"))}, ["requests"]),
        ({"requests": (0.2, 0.8)}, ["whole number"]),
        ({"requests": (1.2, 1.8)}, ["whole number"]),
        ({"budget_macs": (1.0, float("inf"))}, ["budget_macs"]),
        ({"budget_macs": (2.0, 1.0)}, ["budget_macs"]),
    ],
)
def test_unusable_ranges_are_refused(changes, words):
    options = {"kind": "uniform", "slots": 3, "requests": (1, 4), "budget_macs": BUDGETS, "seed": 0, **changes}
    with pytest.raises(orric.TraceError) as caught:
        generate(**options)
    for word in words:
        assert word in str(caught.value)


def test_a_poisson_process_has_the_figures_of_one():
    stamps = orric.Timestamps(np.cumsum(np.random.default_rng(1).exponential(0.1, 100_000)))
    found = describe(stamps, slot_s=10.0)
    # About 1,000 slots of 100 requests: the index of dispersion is known to about 0.045, the variation to 0.003.
    assert found.dispersion == pytest.approx(1.0, abs=0.15)
    assert found.interarrival_cv == pytest.approx(1.0, abs=0.02)
    assert found.requests.mean == pytest.approx(100.0, rel=0.02)
    assert found.total_requests == 100_000


def test_figures_worked_by_hand():
    found = describe(orric.Trace(requests=[2, 4, 6], budget_macs=[1e9, 2e9, 6e9], duration_s=[5, 5, 5]))
    assert (found.kind, found.slots, found.slot_s, found.total_requests) == ("trace", 3, 5.0, 12.0)
    assert (found.requests.min, found.requests.mean, found.requests.max) == (2.0, 4.0, 6.0)
    assert (found.budget_macs.min, found.budget_macs.mean, found.budget_macs.max) == (1e9, 3e9, 6e9)
    assert found.peak_to_mean == pytest.approx(1.5)
    assert found.dispersion == pytest.approx(8 / 3 / 4)
    assert found.interarrival_cv is None
    found = describe(orric.Timestamps([0.0, 1.0, 4.0]), slot_s=2.0)
    assert (found.kind, found.slots, found.slot_s, found.budget_macs) == ("timestamps", 3, 2.0, None)
    assert (found.requests.min, found.requests.mean, found.requests.max) == (0.0, 1.0, 2.0)
    assert found.interarrival_cv == pytest.approx(0.5)


def test_extremes_are_described_without_a_warning():
    found = describe(orric.Trace(requests=[1.7e308, 1.7e308, 1e-308], budget_macs=[0, 0, 0], duration_s=[1, 1, 2]))
    assert (found.total_requests, found.slot_s) == (None, None)
    assert found.requests.mean == pytest.approx(1.7e308 / 3 * 2)
    assert found.budget_macs.mean == 0.0
    assert describe(orric.Timestamps([5.0])).interarrival_cv is None
    assert describe(orric.Timestamps([5.0, 5.0])).interarrival_cv is None
    assert describe(orric.Timestamps([0.0, 1e308]), slot_s=1e307).interarrival_cv == 0.0


@pytest.mark.parametrize("name", ["conversation", "code"])
def test_the_guide_quotes_what_the_azure_traces_are_described_by(name):
    path = AZURE / f"AzureLLMInferenceTrace_{name[:4]}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    found = describe(azure_llm_2023(path))
    figures = f"{found.peak_to_mean:.3f} | {found.dispersion:.3f} | {found.interarrival_cv:.3f}"
    guide = (ROOT / "docs/guides/traces.md").read_text(encoding="utf-8")
    assert f"| {name} | {found.total_requests:,.0f} | {figures} |" in guide
