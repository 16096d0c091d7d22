"""What a scenario is warned of: each bound with both figures, true of what the simulator does, and told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.scenario import AccuracyChoice, Stream
from orric.scenario.physics import MOST_TOLD, fastest_s, found, warnings

from .builders import ROOT, build_profile, build_scenario, write_profile

DAY = {"kind": "day", "per_s": 5.0}
ONE = {"kind": "constant", "per_slot": 1}
DRAWN = {"arrivals": "poisson", "forecast": "last"}
FOG = {"kind": "steps", "corruption": "fog"}


def told(path: Path, **changes: Any) -> list[str]:
    """Return the warnings of a small scenario, which has none without the changes."""
    scenario = build_scenario(path, **{"budget": {"kind": "constant", "fraction": 0.9}, **changes})
    return warnings(scenario, seed=1)


TURNING = ("cameras", "edge-server", "night", "rush-hour")


@pytest.mark.parametrize("path", sorted((ROOT / "simulations").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_warned_of_what_their_profiles_have_not_measured_alone(path: Path) -> None:
    scenario = orric.load_scenario(path)
    told = {line for seed in (scenario.seed, 2, 3) for line in warnings(scenario, seed)}
    assert [line for line in told if "expect errors" not in line] == []
    # Their drift goes back and forth, and the digits' profile does not follow that.
    assert any("drift goes back to an earlier kind" in line for line in told) == (path.stem in TURNING)
    few = any("samples a slot on average" in line for line in told)
    assert few == (path.stem in ("cameras", "night"))
    assert bool(told) == (path.stem in TURNING)


def test_the_table_follows_turns_where_the_profile_has_measured_them() -> None:
    scenario = orric.load_scenario(ROOT / "simulations/four-cameras.toml")
    assert scenario.accuracy.model == "table"
    by_curve = scenario.model_copy(update={"accuracy": AccuracyChoice(model="curve")})
    told = [line for seed in (1, 2, 3) for line in warnings(by_curve, seed)]
    assert any("drift goes back to an earlier kind" in line and 'take model = "table"' in line for line in told)


def test_a_small_scenario_is_not_warned_of(profile_path: Path) -> None:
    assert told(profile_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # 1e6 MACs at 0.9 of 1e9 a second take 1.11e-3 s.
        ({"deadline_s": 0.001}, ["stream.1 ('camera-1'): deadline_s = 0.001 is below the 0.00111 s", "on 'gpu0'"]),
        (
            {"deadline_s": 1.0, "service": {"variability": "exponential"}, "macs_per_s": 1e6, "requests": ONE},
            ["deadline_s = 1 is below the 1.11 s that a request takes on average"],
        ),
        ({"deadline_s": 0.2}, ["uploads of 500 requests on average at most 36 % can be in time", "0.2"]),
        ({"deadline_s": 0.2, "batch": {"most": 8, "wait_s": 0.2}, **DRAWN}, ["batch.wait_s = 0.2 and 0.00111 s"]),
        (
            # 0.27 s of work at 0.9 of the GPU, and 1e6 MACs at 1.5 times their time.
            {"deadline_s": 0.3, "sharing": {"model": "priority", "grain_s": 0.27, "slowdown": 1.5}, **DRAWN},
            ["deadline_s = 0.3, and a step of retraining holds 'gpu0' for 0.3 s before 0.00167 s of service"],
        ),
        ({"deadline_s": 96.0}, ["deadline_s = 96 is not below the 96 s of the run"]),
        # 500 x 1e6 MACs, of which 0.9 x 1e7 x 8 are there.
        ({"macs_per_s": 1e7}, ["serving all at the cheapest inference takes 694 % of its", "12 of 12"]),
        ({"budget": {"kind": "constant", "fraction": 0.0}}, ["meets no budget at all"]),
        ({"headroom": 20.0, "macs_per_s": 1e10}, ["headroom = 20 plans for 21 times the forecast"]),
        ({"slots": 3, "drift": {**FOG, "severities": (1, 2, 3, 4, 5)}}, ["severities names 5, and the run has 3"]),
        (
            {"slots": 3, "drift": {"kind": "steps", "corruptions": ("fog", "snow", "frost", "x"), "severities": (1,)}},
            ["corruptions names 4, of which 3 slots reach 3"],
        ),
        (
            {"drift": {"kind": "ramp", "corruptions": ("fog", "snow"), "corruption_slots": 12, "start": 1, "end": 2}},
            ["corruptions names 2, of which 12 slots reach 1"],
        ),
        (
            {"slots": 4, "drift": {"kind": "periodic", "corruption": "fog", "low": 1, "high": 5, "period_slots": 10}},
            ["severities have period_slots = 10, and the run has 4 slots of it"],
        ),
        (
            {"slots": 1, "drift": {**FOG, "severities": (1,), "labels": {"kind": "steps", "mixes": ((1, 0), (0, 1))}}},
            ["labels names 2 mixes, and the run has 1 slots"],
        ),
        ({"requests": {"kind": "periodic", "low": 5, "high": 9, "period_slots": 30}}, ["requests have period_slots"]),
        ({"budget": {"kind": "background", "mean": 0.2, "swing": 0.1, "period_slots": 30}}, ["budgets have"]),
        # At midnight's rate: 5 (1 + 0.5 cos(...)), a little above the least.
        ({"requests": DAY, **DRAWN}, ["the run has 96 s of a day", "86400, with 2.83 requests/s on average"]),
        ({"requests": {**DAY, "period_s": 10.0}, **DRAWN}, ["slots of 8 s hold 0.8 of the days of period_s = 10"]),
        ({"warmup_slots": 10}, ["warmup_slots = 10 leaves 2 of 12 slots"]),
        (
            {
                "allocators": ("cloud-retraining",),
                "cloud": {
                    "uplink_bytes_per_s": 1e6, "downlink_bytes_per_s": 1e3, "macs_per_s": 1e12, "sample_bytes": 1e3,
                    "weights_bytes": 1e6,
                },
            },
            ["cloud: new weights take 1e+03 s to come back and the run has 96"],
        ),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_warned_of(profile_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    (line,) = told(profile_path, **changes)
    assert "\n" not in line
    assert "; " in line, "says what to do"
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "sharing",
    [{"model": "fluid"}, {"model": "weighted"}, {"model": "saturating", "fixed": 0.3}],
    ids=lambda one: one["model"],
)
@pytest.mark.parametrize(("times", "warned"), [(0.99, True), (1.01, False)])
def test_the_fastest_service_is_what_the_simulator_takes(
    profile_path: Path, sharing: dict[str, Any], times: float, warned: bool
) -> None:
    """Of a deadline just below it nobody is in time, and of one just above it somebody is."""
    given = {
        "sharing": sharing, "budget": {"kind": "constant", "fraction": 0.5}, "spare": "inference", "slots": 4,
        "requests": {"kind": "constant", "per_slot": 2}, "arrivals": "deterministic", "forecast": "last",
    }  # fmt: skip
    scenario = build_scenario(profile_path, **given)
    profile = scenario.profile
    # Served with the dearest alone, as inference-only does.
    dear = profile.model_copy(update={"inference": (max(profile.inference, key=lambda one: one.profit),)})
    deadline_s = times * fastest_s(dear, scenario.gpu[0], 0.5)
    scenario = build_scenario(write_profile(dear, profile_path.with_name("dear.toml")), deadline_s=deadline_s, **given)
    in_time = orric.simulate(scenario, orric.InferenceOnly(), seed=1).fates["in time"]
    assert [one.kind for one in found(scenario, 1)] == ["deadline"] * warned
    assert (in_time == 0) == warned


@pytest.mark.parametrize(("grain_s", "warned"), [(0.6, True), (0.49, False)])
def test_a_step_of_retraining_makes_late_whom_it_holds_up(tmp_path: Path, grain_s: float, warned: bool) -> None:
    """Some requests in slots that are three quarters retraining, of half a GPU: they wait for the rest of a step."""
    path = write_profile(build_profile(retraining=((0.0, 0.0), (1.0, 1e9))), tmp_path / "dear.toml")
    scenario = build_scenario(
        path, deadline_s=1.0, budget={"kind": "constant", "fraction": 0.5}, slots=60, spare="inference",
        sharing={"model": "priority", "grain_s": grain_s}, requests={"kind": "constant", "per_slot": 3}, **DRAWN,
    )  # fmt: skip
    assert [one.kind for one in found(scenario, 1)] == ["grain"] * warned
    late = orric.simulate(scenario, orric.RetrainingGreedy(), seed=1).fates["late"]
    assert (late > 10) == warned
    assert warned or late == 0


def test_an_upload_cannot_be_served_sooner(profile_path: Path) -> None:
    scenario = build_scenario(
        profile_path, deadline_s=1.0, budget={"kind": "constant", "fraction": 0.5}, spare="inference", slots=4
    )
    cheap = scenario.profile.model_copy(
        update={"inference": (min(scenario.profile.inference, key=lambda o: o.cost_macs),)}
    )
    scaled = (cheap.inference[0].model_copy(update={"profit": 1.0, "cost_macs": 8e6}),)
    path = write_profile(cheap.model_copy(update={"inference": scaled}), profile_path.with_name("cheap.toml"))
    scenario = scenario.model_copy(update={"stream": (scenario.stream[0].model_copy(update={"profile": str(path)}),)})
    (line,) = warnings(scenario, 1)
    assert "at most 12 % can be in time: one takes 0.016 s and deadline_s is 1" in line
    fates = orric.simulate(scenario, orric.InferenceOnly(), seed=1).fates
    assert fates["in time"] / sum(fates.values()) == pytest.approx(0.125, abs=0.002)


@pytest.mark.parametrize(
    ("times", "words"),
    [(150.0, "150 times above the 1e+09"), (99.0, ""), (0.002, ""), (1 / 2000, "2,000 times below the 1e+09")],
)
def test_a_gpu_is_compared_with_the_device_of_the_profile(tmp_path: Path, times: float, words: str) -> None:
    path = write_profile(build_profile(device={"macs_per_s": 1e9}), tmp_path / "profile.toml")
    lines = told(path, macs_per_s=times * 1e9, requests={"kind": "constant", "per_slot": 1})
    assert len(lines) == bool(words)
    assert words in "".join(lines)
    scenario = build_scenario(path, macs_per_s=times * 1e9, requests=ONE, budget={"kind": "constant", "fraction": 0.9})
    guess = scenario.gpu[0].model_copy(update={"assumed": True})
    assert warnings(scenario.model_copy(update={"gpu": (guess,)}), 1) == []


@pytest.mark.parametrize("device", [None, {"macs_per_s": 6.7e10}])
def test_a_latency_that_no_device_reaches(tmp_path: Path, device: Any) -> None:
    profile = orric.Profile.load(ROOT / "traces/profiles/digits.toml")
    quick = [one.model_copy(update={"latency_s": 1e-9}) for one in profile.inference]
    profile = profile.model_copy(
        update={"inference": tuple(quick), "device": None, "batch_latency": (), "models": None}
    )
    profile = profile.model_validate({**profile.model_dump(), "device": device})
    (text,) = (
        one for one in told(write_profile(profile, tmp_path / "p.toml"), macs_per_s=6.7e10) if "latency_s" in one
    )
    assert "in latency_s = 1e-09 the 2.82e+06 MACs of '32px' are done 42,068 times as fast" in text
    assert ("its own [device]" if device else "gpu.1 ('gpu0')") in text


def test_no_budget_and_an_upload(profile_path: Path) -> None:
    """Numpy complained of the mean of nothing, and a request took nan seconds."""
    texts = told(profile_path, budget={"kind": "constant", "fraction": 0.0}, deadline_s=10.0)
    assert not any("nan" in text for text in texts)


def test_profiles_of_unlike_devices_on_one_gpu(tmp_path: Path) -> None:
    scenario = build_scenario(tmp_path / "slow.toml", budget={"kind": "constant", "fraction": 0.9})
    for name, speed in (("slow", 1e8), ("fast", 1.1e10)):
        write_profile(build_profile(name=name, device={"macs_per_s": speed}), tmp_path / f"{name}.toml")
    other = scenario.stream[0].model_copy(update={"name": "other", "profile": str(tmp_path / "fast.toml")})
    (line,) = warnings(scenario.model_copy(update={"stream": (*scenario.stream, other)}), 1)
    assert "its profiles 'slow' and 'fast' were measured at 1e+08 and 1.1e+10 MACs/s" in line


def test_a_pause_of_a_whole_slot(tmp_path: Path) -> None:
    path = write_profile(build_profile(swap={"pause_s": 8.0}), tmp_path / "profile.toml")
    (line,) = told(path)
    assert "new weights stop serving for 8 s and a slot has 8" in line


def test_a_slot_that_cannot_serve_one_request(profile_path: Path, tmp_path: Path) -> None:
    budgets = [8e9] * 12
    budgets[3], budgets[7] = 9e5, 0.0
    trace = tmp_path / "trace.csv"
    orric.Trace(requests=[1] * 12, budget_macs=budgets).save(trace)
    (line,) = told(profile_path, budget={"csv": str(trace)})
    assert "in 2 of 12 slots, first in slot 4, its budget of 9e+05 MACs does not pay for the 1e+06 of one" in line


@pytest.mark.parametrize(
    ("arrival_s", "words"),
    [
        ([1.0, 95.9], ""),
        ([1.0, 95.9, 96.0, 200.0], "2 of 4 requests of times.csv come after the 96 s of the run, and are left out"),
        ([1.0, 20.0], "times.csv ends at second 20 of 96, and nothing comes afterwards; set slots = 3"),
    ],
)
def test_timestamps_and_the_run(profile_path: Path, tmp_path: Path, arrival_s: list[float], words: str) -> None:
    orric.Timestamps(arrival_s=arrival_s).save(tmp_path / "times.csv")
    scenario = build_scenario(
        profile_path,
        requests={"timestamps": "times.csv"},
        arrivals="timestamps",
        budget={"kind": "constant", "fraction": 0.9},
    )
    scenario._folder = tmp_path
    lines = warnings(scenario, 1)
    assert len(lines) == bool(words)
    assert words in "".join(lines)


@pytest.mark.parametrize(
    ("last_s", "words"), [(95.9, ""), (40.0, "long.csv ends at second 40 of 96"), (20.0, "second 20")]
)
def test_records_that_end_at_different_times(profile_path: Path, tmp_path: Path, last_s: float, words: str) -> None:
    orric.Timestamps(arrival_s=[1.0, 20.0]).save(tmp_path / "short.csv")
    orric.Timestamps(arrival_s=[1.0, last_s]).save(tmp_path / "long.csv")
    scenario = build_scenario(
        profile_path,
        requests={"timestamps": "short.csv"},
        arrivals="timestamps",
        budget={"kind": "constant", "fraction": 0.9},
    )
    other = {"name": "other", "requests": scenario.stream[0].requests.model_copy(update={"timestamps": "long.csv"})}
    streams = (scenario.stream[0], scenario.stream[0].model_copy(update=other))
    scenario = scenario.model_copy(update={"stream": streams})
    scenario._folder = tmp_path
    lines = warnings(scenario, 1)
    assert len(lines) == bool(words)
    assert words in "".join(lines)


@pytest.mark.parametrize(("severity", "warned"), [(1, False), (5, True)])
def test_drift_that_a_trace_tells(profile_path: Path, tmp_path: Path, severity: int, warned: bool) -> None:
    trace = orric.Trace(requests=[5] * 12, budget_macs=[1e9] * 12, corruption=("fog",) * 12, severity=(severity,) * 12)
    trace.save(tmp_path / "trace.csv")
    lines = told(profile_path, requests={"csv": str(tmp_path / "trace.csv")}, drift={**FOG, "severities": (1,)})
    assert ["is not that of the stream, and is not used" in line for line in lines] == [True] * warned


@pytest.mark.parametrize(
    ("severities", "model", "clean"),
    [((0, 5), "curve", 6), ((0, 5), "table", 6), ((0, 5), "onnx", 0), ((1, 5), "curve", 0), (None, "curve", 12)],
)
def test_clean_images_that_nobody_measured(tmp_path: Path, severities: Any, model: Any, clean: int) -> None:
    curve = {"form": "tabulated", "x": [0, 1], "y": [0.4, 0.8]}
    profile = build_profile(drift_curve=({"corruption": "fog", "severity": 5, "curve": curve},))
    path = write_profile(profile, tmp_path / "profile.toml")
    changes = {} if severities is None else {"drift": {**FOG, "severities": severities}}
    scenario = build_scenario(path, budget={"kind": "constant", "fraction": 0.9}, **changes)
    scenario = scenario.model_copy(update={"accuracy": AccuracyChoice(model=model)})
    lines = warnings(scenario, 1)
    if not clean:
        assert lines == []
        return
    (line,) = lines
    assert line == (
        f"stream.1 ('camera-1'): clean images, which {clean} of 12 slots have, are told by the general curve of "
        f"profile 'small', the mean over all drift; measure theirs: orric calibrate --clean-of {path}"
    )
    assert warnings(scenario, 1, slot_model=True) == lines
    known = ({"corruption": "none", "severity": 0, "curve": curve}, *profile.drift_curve)
    write_profile(build_profile(drift_curve=known), path)
    assert warnings(build_scenario(path, budget={"kind": "constant", "fraction": 0.9}, **changes), 1) == []


def test_a_kind_is_told_once_and_five_kinds_at_most(profile_path: Path) -> None:
    """Sixty cameras of one mistake are one line."""
    scenario = build_scenario(profile_path, deadline_s=1e-6, budget={"kind": "constant", "fraction": 0.9})
    cameras = tuple(
        Stream(
            **{
                **scenario.stream[0].model_dump(),
                "name": f"camera-{k}",
                "requests": {"kind": "constant", "per_slot": 1},
            }
        )
        for k in range(60)
    )
    (line,) = warnings(scenario.model_copy(update={"stream": cameras}), 1)
    assert line.endswith("(likewise 59 more)")

    everything = {
        "slots": 3, "headroom": 5.0, "deadline_s": 1e-9, "warmup_slots": 2, "macs_per_s": 1e5,
        "requests": {"kind": "periodic", "low": 5, "high": 9, "period_slots": 30},
        "drift": {"kind": "steps", "corruptions": ("fog", "snow", "frost", "none"), "severities": (1, 2, 3, 4)},
    }  # fmt: skip
    lines = told(profile_path, **everything)
    assert len(lines) == MOST_TOLD + 1
    assert lines[-1] == "and 2 more kinds of warning; mend these first"


def test_the_slot_model_knows_no_times(tmp_path: Path) -> None:
    path = write_profile(build_profile(device={"macs_per_s": 1.0}), tmp_path / "profile.toml")
    scenario = build_scenario(path, deadline_s=1e-9, headroom=5.0, budget={"kind": "constant", "fraction": 0.9})
    assert [one.kind for one in found(scenario, 1, slot_model=True)] == ["headroom"]
    assert [one.kind for one in found(scenario, 1)] == ["device", "deadline", "headroom"]


@pytest.mark.parametrize("factor", [1.0, 1.0 + 1e-6])
def test_no_source_of_budgets_exceeds_the_gpu(profile_path: Path, tmp_path: Path, factor: float) -> None:
    """A budget is at most what the GPU does in a slot: drawn, constant, recorded, or read from either kind of file."""
    (tmp_path / "load.csv").write_text("seconds,utilisation\n200,0.0\n")
    (tmp_path / "gpus.csv").write_text(
        "slot,gpu,budget_macs\n" + "".join(f"{t},gpu0,{8e9 * factor!r}\n" for t in range(1, 13))
    )
    orric.Trace(requests=[1] * 12, budget_macs=[8e9 * factor] * 12).save(tmp_path / "trace.csv")
    own = [
        {"kind": "uniform", "low": 0.0, "high": 1.0},
        {"kind": "constant", "fraction": 1.0},
        {"kind": "background", "mean": 0.1, "swing": 1.0, "noise": 3.0},
        {"utilisation": str(tmp_path / "load.csv")},
    ]
    for budget in own:
        budgets = build_scenario(profile_path, budget=budget).budgets_macs(1)
        assert 0 <= budgets.min() <= budgets.max() <= 8e9
    for name in ("gpus.csv", "trace.csv"):
        scenario = build_scenario(profile_path, budget={"csv": str(tmp_path / name)})
        if factor == 1.0:
            assert np.all(scenario.budgets_macs(1) == 8e9)
            continue
        with pytest.raises(orric.TraceError, match=rf"{name}:2: column 'budget_macs': found .* GPU 'gpu0' does 8e\+09"):
            scenario.check("here")


def measured_scenario(path: Path, **changes: Any) -> list[str]:
    """Return the warnings of a scenario whose profile says how it was calibrated, at 200 samples a slot."""
    profile = build_profile(provenance={"samples_per_slot": 200, **changes.pop("provenance", {})})
    profile.save(path)
    return told(path, **changes)


def test_slots_smaller_than_those_measured_are_told_of(tmp_path: Path) -> None:
    path, few = tmp_path / "p.toml", {"kind": "constant", "per_slot": 30}
    (line,) = measured_scenario(path, requests=few)
    assert "30 samples a slot on average" in line
    assert "has measured 200 or more" in line
    assert "up to 11 points in the mean" in line
    assert measured_scenario(path, requests={"kind": "constant", "per_slot": 150}) == []
    # A profile that does not say how it was calibrated, as of one's own figures, is not judged.
    build_profile().save(path)
    assert told(path, requests=few) == []


def test_drift_in_turns_and_few_classes_are_told_of_with_the_error_measured(tmp_path: Path) -> None:
    path, requests = tmp_path / "p.toml", {"kind": "constant", "per_slot": 200}
    errors = {"turns": {"mean": 0.034, "worst": 0.051}}
    drift = {"kind": "steps", "corruptions": ["fog", "none"], "corruption_slots": 1, "severities": [2]}
    facts = {"validation_of_the_curve": errors}
    (line,) = measured_scenario(path, requests=requests, drift=drift, provenance=facts)
    assert "drift goes back to an earlier kind" in line
    assert "expect errors of 3.4 points in the mean, 5.1 in the worst stream" in line
    skewed = {"kind": "steps", "corruption": "fog", "labels": {"kind": "steps", "mixes": [[1, 1, 0, 0]]}}
    (line,) = measured_scenario(path, requests=requests, drift=skewed)
    assert "a mix of classes 50% away from all alike" in line
