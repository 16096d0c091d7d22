"""Scenarios: the shipped files load, and bad ones are refused in one line with place, value and remedy."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import orric
from orric.drift import Steps

from .builders import PROFILES, ROOT, build_scenario

SHIPPED = sorted((ROOT / "simulations").glob("*.toml"))
SMALL = """\
format = 1
name = "small"
seed = 3
slots = 10
slot_s = 60.0
overload = "shed"
allocators = ["orric", "inference-only"]
references = ["teacher-only"]

[accuracy]
model = "curve"

[[gpu]]
name = "gpu0"
macs_per_s = 1.0e9
budget = { kind = "uniform", low = 0.3, high = 1.0 }

[[stream]]
name = "camera-1"
profile = "PROFILE"
requests = { kind = "constant", per_slot = 1000 }
arrivals = "deterministic"
drift = { kind = "steps", corruption = "fog", severities = [1, 3, 5] }
deadline_s = 1.0
""".replace("PROFILE", (PROFILES / "cifar10c-fog.toml").as_posix())


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the small scenario with some of its text replaced."""
    text = SMALL
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "scenario.toml"
    path.write_text(text)
    return path


def refused(path: Path, *words: str, error: type[orric.OrricError] = orric.ScenarioError) -> str:
    """Return the message of loading, after checks of what every message must hold."""
    with pytest.raises(error) as caught:
        orric.load_scenario(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_load(path: Path) -> None:
    scenario = orric.load_scenario(path)
    assert scenario.name == path.stem
    for n, gpu in enumerate(scenario.gpu):
        there = [k for k, name in enumerate(scenario.placement()) if name == gpu.name]
        cheapest = [min(one.cost_macs for one in scenario.profiles[k].inference) for k in there]
        needed = sum(scenario.requests(scenario.seed, k) * cost for k, cost in zip(there, cheapest, strict=True))
        assert (needed <= scenario.budgets_macs(scenario.seed, n)).all()


def test_shipped_scenarios_are_there() -> None:
    assert {"quickstart", "table3-fog"} <= {path.stem for path in SHIPPED}


def test_published_scenario_has_the_published_budgets() -> None:
    scenario = orric.load_scenario(ROOT / "simulations" / "table3-fog.toml")
    budgets = np.concatenate([scenario.budgets_macs(seed) for seed in range(40)])
    assert 1000 * 7.94e6 <= budgets.min() < 1000 * 8.5e6
    assert 1000 * 8.5e7 < budgets.max() <= 1000 * 8.637e7 * (1 + 1e-12)
    assert scenario.slots == 50
    assert set(scenario.requests(1)) == {1000.0}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("slots = 10", "slots = 0", 4, ["slots", "0"]),
        ("slots = 10", "slots = -3", 4, ["slots", "-3"]),
        ("slots = 10", "slots = 1.5", 4, ["slots", "1.5"]),
        ("slots = 10", "slots = 10\nslotss = 1", 5, ["slotss", "did you mean 'slots'"]),
        ("slot_s = 60.0", "slot_s = nan", 5, ["slot_s", "nan"]),
        ("slot_s = 60.0", "slot_s = inf", 5, ["slot_s", "inf"]),
        ("seed = 3", "seed = -1", 3, ["seed", "-1"]),
        ('overload = "shed"', 'overload = "shedd"', 6, ["'shedd'", "did you mean 'shed'"]),
        ('"orric", ', '"oric", ', 7, ["'oric'", "did you mean 'orric'"]),
        ('"orric", ', '"inference-only", ', 7, ["twice"]),
        ('"orric", ', '"teacher-only", ', 7, ["reference line", 'references = ["teacher-only"]']),
        ('"orric", "inference-only"', "", 7, ["allocators"]),
        ('["teacher-only"]', '["teacher-onli"]', 8, ["did you mean 'teacher-only'"]),
        ('model = "curve"', 'model = "curv"', 11, ["'curv'", "did you mean 'curve'"]),
        ("macs_per_s = 1.0e9", "macs_per_s = -1.0e9", 15, ["macs_per_s", "-1000000000"]),
        ("macs_per_s = 1.0e9", "mac_per_s = 1.0e9\nmacs_per_s = 1.0e9", 15, ["mac_per_s", "did you mean 'macs_per_s'"]),
        ("low = 0.3", "low = 1.3", 16, ["low", "1.3"]),
        ("low = 0.3", "low = nan", 16, ["low", "nan"]),
        ("low = 0.3", "lo = 1, low = 0.3", 16, ["lo", "did you mean 'low'"]),
        ("high = 1.0", "high = 0.1", 16, ["0.1"]),
        ("high = 1.0", "high = 2.0", 16, ["2"]),
        ('kind = "uniform"', 'kind = "unifrm"', 16, ["'unifrm'", "did you mean 'uniform'"]),
        ('kind = "constant"', 'kind = "konstant"', 21, ["'konstant'", "did you mean 'constant'"]),
        ("per_slot = 1000", "per_slot = -5", 21, ["per_slot", "-5"]),
        ("per_slot = 1000", "per_slot = 0", 21, ["per_slot", "0"]),
        ('"deterministic"', '"determinist"', 22, ["did you mean 'deterministic'"]),
        ('"constant", per_slot = 1000', '"rate", per_s = 0.0', 21, ["per_s", "0.0"]),
        ('"constant", per_slot = 1000', '"rate", per_slot = 5', 21, ["per_slot", "did you mean 'per_s'"]),
        ('"constant", per_slot = 1000', '"day", per_s = 5.0, swing = 2.0', 21, ["swing", "2.0"]),
        ("per_slot = 1000", 'per_slot = 1000, count = "drawn"', None, ["deterministic", "exact counts"]),
        ("severities = [1, 3, 5]", "severities = [1, 6]", 23, ["severities", "6"]),
        ("severities = [1, 3, 5]", "severities = []", 23, ["severities"]),
        ('kind = "steps"', 'kind = "step"', 23, ["did you mean 'steps'"]),
        ("corruption =", "corruptoin = 'x', corruption =", 23, ["corruptoin", "did you mean 'corruption'"]),
        ("deadline_s = 1.0", "deadline_s = 0", 24, ["deadline_s", "0"]),
        ("deadline_s = 1.0", "dedline_s = 1.0", 24, ["did you mean 'deadline_s'"]),
        ('arrivals = "deterministic"', 'forecast = "last"', None, ["forecast", "upload"]),
        ("[[gpu]]", "[[gpus]]", None, ["gpus", "did you mean 'gpu'"]),
        ("format = 1", "format = 7", None, ["format", "7"]),
        ("format = 1", "format = ", None, ["TOML", "line 1"]),
        ('model = "curve"', 'model = "onnx"', None, ["onnx", "models"]),
    ],
)
def test_bad_scenario_is_refused(tmp_path: Path, old: str, new: str, line: int | None, words: list[str]) -> None:
    path = write(tmp_path, (old, new))
    message = refused(path, str(path), *words)
    assert "()" not in message, "names of functions are no help"
    if line is not None:
        assert message.startswith(f"{path}:{line}:")


def test_missing_files_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.toml", "none.toml", "no such file")
    refused(
        write(tmp_path, ("cifar10c-fog", "cifar10c-frog")), "cifar10c-frog", "no such file", error=orric.ProfileError
    )


@pytest.mark.parametrize("overload", ["shed", "error"])
@pytest.mark.parametrize(
    ("old", "key"),
    [
        ('{ kind = "uniform", low = 0.3, high = 1.0 }', "budget"),
        ('{ kind = "constant", per_slot = 1000 }', "requests"),
    ],
)
def test_missing_trace_shows_when_the_scenario_is_loaded(tmp_path: Path, old: str, key: str, overload: str) -> None:
    path = write(tmp_path, (old, '{ csv = "none.csv" }'), ('"shed"', f'"{overload}"'))
    refused(path, "none.csv", "no such file", error=orric.TraceError)


def test_trace_that_is_too_short_shows_when_the_scenario_is_loaded(tmp_path: Path) -> None:
    orric.Trace(requests=[5] * 4, budget_macs=[1e9] * 4).save(tmp_path / "short.csv")
    path = write(tmp_path, ('{ kind = "constant", per_slot = 1000 }', '{ csv = "short.csv" }'))
    refused(path, "short.csv", "holds 4 slots and the scenario asks for 10; add rows, or set slots = 4")


def test_columns_of_traces_are_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    trace = orric.Trace(requests=rng.integers(1, 9, 10), budget_macs=rng.uniform(1e9, 2e9, 10))
    trace.save(tmp_path / "trace.csv")
    path = write(
        tmp_path,
        ('{ kind = "uniform", low = 0.3, high = 1.0 }', '{ csv = "trace.csv" }'),
        ('{ kind = "constant", per_slot = 1000 }', '{ csv = "trace.csv" }'),
    )
    found = orric.load_scenario(path).trace(1)
    assert found.requests.tolist() == trace.requests.tolist()
    assert found.budget_macs.tolist() == trace.budget_macs.tolist()


def test_budget_below_the_cheapest_pair_is_refused_when_asked_for(tmp_path: Path) -> None:
    changes = ('{ kind = "uniform", low = 0.3, high = 1.0 }', '{ kind = "constant", fraction = 0.1 }')
    message = refused(
        write(tmp_path, changes, ('"shed"', '"error"')), "slot 1", "6e+09", "6.35e+09", error=orric.BudgetError
    )
    assert "overload" in message
    assert orric.load_scenario(write(tmp_path, changes)).overload == "shed"


def test_trace_of_a_seed(tmp_path: Path) -> None:
    scenario = orric.load_scenario(write(tmp_path))
    first, again, other = (scenario.trace(seed) for seed in (1, 1, 2))
    assert first.budget_macs.tolist() == again.budget_macs.tolist() != other.budget_macs.tolist()
    assert first.severity == (1, 1, 1, 1, 3, 3, 3, 5, 5, 5)
    assert set(first.corruption or ()) == {"fog"}
    assert ((first.budget_macs >= 0.3 * 6e10) & (first.budget_macs <= 6e10)).all()


def test_resolved_scenario_is_the_scenario(tmp_path: Path) -> None:
    orric.Trace(requests=[5] * 10, budget_macs=[1e9] * 10).save(tmp_path / "trace.csv")
    scenario = orric.load_scenario(write(tmp_path, ('{ kind = "constant", per_slot = 1000 }', '{ csv = "trace.csv" }')))
    elsewhere = tmp_path / "elsewhere" / "scenario.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(tomli_w.dumps(scenario.resolved(elsewhere.parent, 8, "curve")))
    again = orric.load_scenario(elsewhere)
    assert again.seed == 8
    assert again.profile == scenario.profile
    assert again.trace(8).requests.tolist() == scenario.trace(8).requests.tolist()
    assert again.trace(8).budget_macs.tolist() == scenario.trace(8).budget_macs.tolist()


@pytest.mark.parametrize(
    "given", ['"constant", count = "drawn", per_slot = 9', '"rate", per_s = 0.2', '"day", per_s = 3.0']
)
def test_resolved_scenario_draws_the_same_counts(tmp_path: Path, given: str) -> None:
    scenario = orric.load_scenario(
        write(
            tmp_path,
            ('"constant", per_slot = 1000', given),
            ('"deterministic"', '"gamma"\ngamma = { variation = 0.5 }'),
        )
    )
    elsewhere = tmp_path / "scenario.toml"
    elsewhere.write_text(tomli_w.dumps(scenario.resolved(tmp_path, 8, "curve")))
    again = orric.load_scenario(elsewhere)
    assert again.requests(8).tolist() == scenario.trace(8).requests.tolist() != scenario.requests(9).tolist()


def test_requests_drawn_evenly(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, slots=4000, requests={"kind": "uniform", "low": 3, "high": 6})
    drawn = scenario.requests(1)
    assert set(drawn) == {3.0, 4.0, 5.0, 6.0}
    assert drawn.mean() == pytest.approx(4.5, abs=0.1)


def test_scenario_is_frozen(profile_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        build_scenario(profile_path).slots = 5


@pytest.mark.parametrize(
    ("severities", "slots", "expected"),
    [((1, 3), 5, [1, 1, 1, 3, 3]), ((0,), 3, [0, 0, 0]), ((5, 4, 3), 2, [5, 4]), ((2, 2), 4, [2, 2, 2, 2])],
)
def test_drift_by_slot(severities: tuple[int, ...], slots: int, expected: list[int]) -> None:
    assert Steps(corruption="fog", severities=severities).by_slot(slots, seed=1).severities.tolist() == expected


def test_drift_without_severities_is_refused_at_once() -> None:
    with pytest.raises(orric.ScenarioError, match="severities"):
        Steps(corruption="fog", severities=())


@pytest.mark.parametrize("misspelled", ["fgo", "contrasts"])
def test_misspelled_corruption_is_met_with_the_nearest_known_one(tmp_path: Path, misspelled: str) -> None:
    for package in ("simpy", "torch", "onnxruntime"):
        pytest.importorskip(package)
    path = write(
        tmp_path, ('"fog"', f'"{misspelled}"'), ("cifar10c-fog", "digits"), ('"curve"', '"onnx"'), ("1000", "5")
    )
    with pytest.raises(orric.ScenarioError, match="did you mean"):
        orric.simulate(orric.load_scenario(path), orric.Orric())


@pytest.mark.parametrize("kind", ["bursty", "periodic"])
def test_requests_follow_a_pattern(profile_path, kind):
    requests = {"kind": kind, "low": 10, "high": 50} | ({"period_slots": 20} if kind == "periodic" else {})
    drawn = build_scenario(profile_path, slots=400, requests=requests).requests(seed=3)
    assert set(drawn.tolist()) <= set(range(10, 51))
    assert drawn.max() >= 45
    assert drawn.min() <= 15
    if kind == "periodic":
        days = drawn.reshape(20, 20).mean(axis=0)
        assert days.argmax() in (9, 10, 11)
        assert days[0] < 15
    else:
        assert np.median(drawn) < 20
    other = build_scenario(profile_path, slots=400, requests=requests).requests(seed=4)
    assert (drawn != other).any()


def test_bursts_have_no_period(profile_path):
    requests = {"kind": "bursty", "low": 10, "high": 50, "period_slots": 20}
    with pytest.raises(ValueError, match="remove period_slots"):
        build_scenario(profile_path, requests=requests)


def test_headroom_has_to_be_paid_for(profile_path):
    """500 requests of 1e6 MACs fit into 5.2e8, and 550 do not."""
    tight = {"overload": "error", "budget": {"kind": "constant", "fraction": 0.065}}
    build_scenario(profile_path, **tight).check("here")
    with pytest.raises(orric.BudgetError, match=r"slot 1: .*5\.2e\+08.*5\.5e\+08"):
        build_scenario(profile_path, headroom=0.1, **tight).check("here")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("format = 1\n", "", "key 'format' is missing; add format = 1 at the top"),
        ('allocators = ["orric"]', "allocators = []", "allocators: found []; give 1 at least"),
        ('allocators = ["orric"]', 'allocators = "orric"', "allocators: found 'orric'; give a list: ['orric']"),
    ],
)
def test_messages_are_in_the_files_own_words(tmp_path, old, new, told):
    text = f"""format = 1
name = "small"
slots = 3
slot_s = 8.0
allocators = ["orric"]
gpu = [{{ macs_per_s = 1e9, budget = {{ kind = "constant", fraction = 1.0 }} }}]
[[stream]]
name = "one"
profile = "{PROFILES / "digits.toml"}"
requests = {{ kind = "constant", per_slot = 5 }}
"""
    path = tmp_path / "small.toml"
    path.write_text(text)
    orric.load_scenario(path)
    path.write_text(text.replace(old, new))
    with pytest.raises(orric.ScenarioError) as caught:
        orric.load_scenario(path)
    assert str(caught.value).endswith(told)
