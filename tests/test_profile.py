"""Profiles: the shipped files load, and bad ones are refused in one line with place, value and remedy."""

from __future__ import annotations

import importlib
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import orric
from orric.configuration import undominated
from orric.exceptions import extra

from .builders import CIFAR, PROFILES, ROOT, build_profile, write_profile

SMALL = """\
format = 1
name = "small"
best_accuracy = 0.9
slope_floor = 0.01

[[retraining]]
name = "none"
profit = 0.0
cost_macs = 0.0

[[retraining]]
name = "10%"
profit = 0.1
cost_macs = 1.0e6

[[inference]]
name = "20px"
profit = 0.8
cost_macs = 1.0e6

[[inference]]
name = "32px"
profit = 1.0
cost_macs = 2.0e6
latency_s = 0.001

[curve]
form = "exponential"
c = 0.85
a = 0.35
k = 3.0

[memory]
kind = "window"
slots = 5

[provenance]
anything = "goes"
"""


def refused(path: Path, *words: str) -> str:
    """Return the message of loading, after checks of what every message must hold."""
    with pytest.raises(orric.ProfileError) as caught:
        orric.Profile.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert isinstance(caught.value, ValueError)
    assert caught.value.args[2], "a remedy is due"
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_profiles_load(path: Path) -> None:
    profile = orric.Profile.load(path)
    assert profile.name == path.stem
    assert profile.provenance
    assert undominated(profile.retraining)[0].cost_macs == 0
    assert max(one.profit for one in profile.inference) == pytest.approx(1.0)
    assert 0 < profile.curve(0.0) < profile.curve(profile.most_profit) <= profile.best_accuracy + 1e-9


def test_published_profiles_say_that_the_curve_is_assumed() -> None:
    for path in CIFAR:
        assert "ASSUMED" in str(orric.Profile.load(path).provenance["curve"])


def test_published_profiles_come_from_their_script(tmp_path: Path) -> None:
    script = ROOT / "traces" / "published" / "make_profiles.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, timeout=60)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == [path.name for path in CIFAR]
    for path in CIFAR:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_noise_makes_32_px_dearer_and_worse() -> None:
    profile = orric.Profile.load(PROFILES / "cifar10c-gaussian-noise.toml")
    assert [one.name for one in profile.inference] == ["20px", "24px", "28px", "32px"]
    assert [one.name for one in undominated(profile.inference)] == ["20px", "24px", "28px"]
    trace = orric.Trace(requests=[1000], budget_macs=[1e12])
    assert orric.evaluate(profile, trace, orric.InferenceOnly()).allocations[0]["inference"] == "28px"


def test_undominated_ascends_strictly_and_keeps_the_first_of_equals() -> None:
    pairs = ((0.5, 2.0), (0.5, 2.0), (0.4, 3.0), (0.9, 4.0), (0.8, 4.0), (0.3, 1.0), (0.9, 9.0))
    kept = undominated(build_profile(inference=(*pairs, (1.0, 10.0))).inference)
    assert [one.name for one in kept] == ["i5", "i0", "i3", "i7"]


def test_written_profile_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(SMALL)
    profile = orric.Profile.load(path)
    assert profile.memory.slots == 5
    assert profile.inference[1].latency_s == 0.001
    again = write_profile(profile, tmp_path / "again.toml")
    assert orric.Profile.load(again) == profile
    assert profile.beside("x.bin") == tmp_path.resolve() / "x.bin"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("best_accuracy = 0.9", "best_accuracy = nan", 3, ["best_accuracy", "nan"]),
        ("best_accuracy = 0.9", "best_accuracy = 1.5", 3, ["best_accuracy", "1.5"]),
        ("best_accuracy = 0.9", "best_accuracy = '0.9'", 3, ["best_accuracy", "'0.9'"]),
        ("best_accuracy = 0.9", "best_accuracy = 0.55", None, ["best_accuracy", "0.55", "0.590714"]),
        ("slope_floor = 0.01", "slope_floor = inf", 4, ["slope_floor", "inf"]),
        ("slope_floor = 0.01", "slope_floor = -1", 4, ["slope_floor", "-1"]),
        ("slope_floor = 0.01", "slope_floor = 9.5", None, ["slope_floor", "9.5"]),
        ("profit = 0.1\ncost_macs = 1.0e6", "profit = 0.1\ncost_macs = -1.0e6", 14, ["cost_macs", "-1000000"]),
        ("profit = 0.1\ncost_macs = 1.0e6", "profit = -0.1\ncost_macs = 1.0e6", 13, ["profit", "-0.1"]),
        ("latency_s = 0.001", "latency_s = 0", 25, ["latency_s", "0"]),
        ("latency_s = 0.001", "latncy_s = 0.001", 25, ["latncy_s", "did you mean 'latency_s'"]),
        ('name = "10%"', 'name = "none"', None, ["'none' stands twice"]),
        ('name = "20px"', 'name = "32px"', None, ["'32px' stands twice"]),
        ("slope_floor = 0.01", "slope_floor = 0.01\nslop = 1", 5, ["slop"]),
        ("best_accuracy = 0.9", "best_acuracy = 0.9", None, ["best_accuracy"]),
        ("k = 3.0", "k = -3.0", 31, ["k", "-3"]),
        ("k = 3.0", "", None, ["'k' is missing"]),
        ("k = 3.0", "k = 3.0\nkk = 1.0", 32, ["kk", "did you mean 'k'"]),
        ('form = "exponential"', 'form = "exponental"', None, ["'exponental'", "did you mean 'exponential'"]),
        ('form = "exponential"', "", None, ["form"]),
        ("slots = 5", "slots = 0", 35, ["slots", "0"]),
        ("slots = 5", "factor = 0.5", 33, ["factor", "slots"]),
        ("format = 1", "format = 2", None, ["format", "2", "format = 1"]),
        ("format = 1", "", None, ["key 'format' is missing", "add format = 1"]),
        ("format = 1", "format = = 1", None, ["TOML", "line 1"]),
        ("profit = 0.0\ncost_macs = 0.0", "profit = 0.0\ncost_macs = 5.0", None, ["not to retrain"]),
        ("profit = 1.0", "profit = 1.7", None, ["1.7", "divide"]),
        ("profit = 1.0", "profit = 0.0", 23, ["profit", "0.0"]),
        ("c = 0.85", "c = 0.35", None, ["f(0)"]),
    ],
)
def test_bad_profile_is_refused(tmp_path: Path, old: str, new: str, line: int | None, words: list[str]) -> None:
    assert SMALL.count(old) == 1
    path = tmp_path / "profile.toml"
    path.write_text(SMALL.replace(old, new))
    message = refused(path, *words)
    if line is not None:
        assert message.startswith(f"{path}:{line}:")


@pytest.mark.parametrize("kind", ["retraining", "inference"])
def test_profile_without_configurations_is_refused(kind: str) -> None:
    with pytest.raises(orric.ProfileError, match=f"no {kind} configuration"):
        build_profile(**{kind: ()})


def test_misspelled_key_is_met_with_the_nearest_known_one(tmp_path: Path) -> None:
    """Rather than with the complaint that the key meant is missing."""
    path = tmp_path / "profile.toml"
    path.write_text(SMALL.replace("best_accuracy", "best_acuracy"))
    assert refused(path, "best_acuracy", "did you mean 'best_accuracy'").startswith(f"{path}:3:")


def test_tabulated_curve_that_is_not_concave_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    table = '[curve]\nform = "tabulated"\nx = [0, 0.05, 0.1]\ny = [0.5, 0.51, 0.8]\n'
    path.write_text(SMALL[: SMALL.index("[curve]")] + table)
    refused(path, "x = 0.05", "not concave")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.toml", "no such file")
    refused(tmp_path, "folder")


def test_every_piece_of_a_time_varying_curve_stays_below_the_best_accuracy() -> None:
    """`best_accuracy` stands for f(A^T_max), so a curve that comes later must not pass it either."""
    high, low = orric.Exponential(c=0.99, a=0.3, k=50.0), orric.Exponential(c=0.85, a=0.35, k=3.0)
    with pytest.raises(orric.ProfileError, match="best_accuracy"):
        build_profile(curve=orric.TimeVarying(starts=(1, 5), curves=(low, high)))


def test_models_must_name_every_configuration() -> None:
    models = {
        "dataset": "digits",
        "student": "s",
        "teacher": "t",
        "resolution_px": {"i0": 20, "i1": 24},
        "sampling_ratio": {f"r{k}": 0.0 for k in range(4)},
    }
    with pytest.raises(orric.ProfileError, match="'i2'"):
        build_profile(models=models)


TABLE = """
[[table]]
corruption = "fog"
severity = 3
inference = "20px"
accuracy = 0.5

[[table]]
corruption = "fog"
severity = 3
inference = "32px"
accuracy = 0.6
retrained = 0.8
"""


def test_a_table_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(SMALL + TABLE)
    profile = orric.Profile.load(path)
    assert [(one.inference, one.accuracy, one.retrained) for one in profile.table] == [
        ("20px", 0.5, None),
        ("32px", 0.6, 0.8),
    ]
    profile.save(tmp_path / "again.toml")
    assert orric.Profile.load(tmp_path / "again.toml") == profile
    path.write_text(SMALL)
    orric.Profile.load(path).save(tmp_path / "again.toml")
    assert "table" not in (tmp_path / "again.toml").read_text(), "older readers know no table"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("accuracy = 0.5", "accuracy = 0.0", 44, ["accuracy", "0.0"]),
        ("accuracy = 0.5", "accuracy = 1.5", 44, ["accuracy", "1.5"]),
        ("accuracy = 0.5", "accuracy = nan", 44, ["accuracy", "nan"]),
        ("retrained = 0.8", "retrained = 0.0", 51, ["retrained", "0.0"]),
        ("retrained = 0.8", "retrained = 1.01", 51, ["retrained", "1.01"]),
        ("retrained = 0.8", "retraind = 0.8", 51, ["retraind", "did you mean 'retrained'"]),
        ("retrained = 0.8", "retrained = 0.8\nbetween = [[0.05, 0.7], [0.02, 0.6]]", None, ["ascend"]),
        ("retrained = 0.8", "retrained = 0.8\nbetween = [[1.0, 0.7]]", None, ["stay below it"]),
        ("accuracy = 0.5", "accuracy = 0.5\nbetween = [[0.05, 0.7]]", None, ["no accuracy retrained"]),
        ("accuracy = 0.5", "", None, ["'accuracy' is missing"]),
        ('inference = "20px"', 'inference = "20p"', None, ["entry 1", "'20p'", "did you mean '20px'"]),
        ('inference = "20px"', 'inference = "32px"', None, ["'32px'", "'fog'", "severity 3", "twice"]),
        ('severity = 3\ninference = "20px"', 'severity = 6\ninference = "20px"', 42, ["severity", "6"]),
        ('severity = 3\ninference = "20px"', 'severity = 0\ninference = "20px"', None, ["'fog'", "0", '"none"']),
        ('"fog"\nseverity = 3\ninference = "20px"', '"none"\nseverity = 3\ninference = "20px"', None, ["'none'", "3"]),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, old: str, new: str, line: int | None, words: list[str]) -> None:
    assert TABLE.count(old) == 1
    path = tmp_path / "profile.toml"
    path.write_text(SMALL + TABLE.replace(old, new))
    message = refused(path, *words)
    if line is not None:
        assert message.startswith(f"{path}:{line}:")


def test_the_shipped_table_holds_every_drift_in_every_configuration() -> None:
    profile = orric.Profile.load(PROFILES / "digits.toml")
    drifts = [("none", 0), *((entry.corruption, entry.severity) for entry in profile.drift_curve)]
    assert {(one.corruption, one.severity, one.inference) for one in profile.table} == {
        (*drift, one.name) for drift in drifts for one in profile.inference
    }
    assert all(one.retrained is not None for one in profile.table)


def test_curve_of_the_drift_is_found() -> None:
    foggy = orric.Exponential(c=0.5, a=0.2, k=1.0)
    profile = build_profile(drift_curve=({"corruption": "fog", "severity": 2, "curve": foggy.model_dump()},))
    assert profile.curve_for("fog", 2) == foggy
    assert profile.curve_for("fog", 3) == profile.curve == profile.curve_for(None, None)
    assert profile.curves_for(["fog", None], [2, None]) == [foggy, profile.curve]


@pytest.mark.parametrize(
    "error",
    [
        orric.OrricError("here", "that", "do this"),
        orric.OrricError("here", "that"),
        orric.ProfileError("a.toml:3: k", "found -1", "give more"),
        orric.TraceError("a.csv:3", "found -1", "give more"),
        orric.ScenarioError("a.toml:3", "found -1", "give more"),
        orric.AllocatorError("mine", 3, "found -1", "give more"),
        orric.AllocatorError("mine", "before slot 1", "found -1"),
        orric.BudgetError(3, 1.5e9, 7.94e9),
        orric.CalibrationError("here", "that", "do this"),
        orric.MissingExtraError("package 'simpy'", "is not installed", "pip install 'orric[sim]'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_and_re_creation(error: orric.OrricError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), type(error)(*error.args)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
    assert "\n" not in str(error)
    assert isinstance(error, orric.OrricError)


def test_error_tree() -> None:
    for error in (orric.ProfileError, orric.TraceError, orric.ScenarioError, orric.AllocatorError, orric.BudgetError):
        assert issubclass(error, ValueError)
        assert issubclass(error, orric.OrricError)
    assert issubclass(orric.MissingExtraError, ImportError)


def test_missing_extra_is_one_line_that_names_it() -> None:
    with (
        pytest.raises(orric.MissingExtraError, match=r"no_such_package.*orric\[sim\]: pip install") as caught,
        extra("sim"),
    ):
        importlib.import_module("no_such_package")
    assert "\n" not in str(caught.value)


def test_fault_inside_orric_is_not_taken_for_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, extra("sim"):
        importlib.import_module("orric.no_such_module")
    assert not isinstance(caught.value, orric.MissingExtraError)


def test_cost_of_the_published_retraining() -> None:
    """Ratio x (teacher forward + 2 x student forward), as the provenance says."""
    for path in CIFAR:
        profile = orric.Profile.load(path)
        student = max(one.cost_macs for one in profile.inference)
        assert profile.teacher is not None
        for one in profile.retraining:
            assert math.isclose(one.cost_macs, one.profit * (profile.teacher.cost_macs + 2 * student), rel_tol=1e-12)


def test_placing_a_profile_moves_what_lies_beside_it_and_leaves_the_original(tmp_path: Path) -> None:
    profile = build_profile()
    assert profile.placed_in(tmp_path).beside("student") == tmp_path.resolve() / "student"
    assert profile.beside("student") == Path("student")


SELECTING = """
[selector.picky]
method = "chg-shapley"
pool = 2.0
labels = "teacher"
curve = { form = "exponential", c = 0.8, a = 0.1, k = 4.0 }

[models]
dataset = "digits"
student = "s.safetensors"
teacher = "t.safetensors"
resolution_px = { "32px" = 32 }
sampling_ratio = { none = 0.0, "30%" = 0.3, "30% picky" = 0.3 }
selector = { "30% picky" = "picky" }
"""
HEAD = """
format = 1
name = "p"
best_accuracy = 0.9
slope_floor = 0.01
retraining = [
  { name = "none", profit = 0.0, cost_macs = 0.0 },
  { name = "30%", profit = 0.3, cost_macs = 3.0 },
  { name = "30% picky", profit = 0.4, cost_macs = 3.5 },
]
inference = [{ name = "32px", profit = 1.0, cost_macs = 1.0 }]
curve = { form = "exponential", c = 0.8, a = 0.2, k = 3.0 }
"""


def test_selectors_of_retraining_configurations(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(HEAD + SELECTING)
    profile = orric.Profile.load(path)
    assert profile.sampling_ratio("30%") == 0.3
    assert profile.sampling_ratio("30% picky") == 0.6, "the teacher labels all that is looked at"
    assert profile.uniform_ratios == [0.0, 0.3]
    profile.save(tmp_path / "again.toml")
    assert orric.Profile.load(tmp_path / "again.toml") == profile
    path.write_text(HEAD + SELECTING.replace('labels = "teacher"\n', ""))
    assert orric.Profile.load(path).sampling_ratio("30% picky") == 0.3, "and only what is chosen by the student's guess"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('= "picky" }', '= "piky" }', "'30% picky' is 'piky', which no table names; did you mean 'picky'"),
        ('{ "30% picky" = "', '{ "30% pick" = "', "configuration '30% pick'; did you mean '30% picky'"),
        ("pool = 2.0", "pool = 0.5", "pool"),
        ("pool = 2.0", "pool = nan", "pool"),
        ('labels = "teacher"', 'labels = "nobody"', "labels"),
        ("[selector.picky]", "[selector.picky]\nmetod = 1", "metod"),
    ],
)  # fmt: skip
def test_unusable_selectors_are_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text((HEAD + SELECTING).replace(old, new))
    with pytest.raises(orric.ProfileError) as caught:
        orric.Profile.load(path)
    assert words in str(caught.value)


def test_a_profile_of_an_earlier_version_gets_its_clean_curve_from_its_table(tmp_path: Path) -> None:
    fog = {"corruption": "fog", "severity": 2, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.4, 0.8]}}
    for before, after, expected in (
        (0.8, 0.88, (0.8, 0.84, 0.88)),
        (0.88, 0.8, (0.88,) * 3),
        (0.88, None, (0.88,) * 3),
    ):
        clean = [
            {"corruption": "none", "severity": 0, "inference": name, "accuracy": part}
            | ({} if after is None else {"retrained": after})
            for name, part in (("i0", 0.5), ("i1", 0.5), ("i2", before))
        ]
        path = write_profile(build_profile(drift_curve=(fog,), table=clean), tmp_path / "earlier.toml")
        profile = orric.Profile.load(path)
        assert profile.knows_clean
        assert [float(profile.curve_for("none", 0)(x)) for x in (0.0, 0.5, 1.0)] == pytest.approx(expected)
        again = write_profile(profile, tmp_path / "again.toml")
        assert orric.Profile.load(again) == profile
    # Without drift curves the general curve is that of every slot, and without a table there is nothing to take.
    assert not orric.Profile.load(write_profile(build_profile(table=clean), path)).drift_curve
    bare = orric.Profile.load(write_profile(build_profile(drift_curve=(fog,)), path))
    assert not bare.knows_clean
    assert bare.curve_for("none", 0) == bare.curve


def test_clean_images_go_by_one_name_in_drift_curves() -> None:
    curve = {"form": "tabulated", "x": [0, 1], "y": [0.4, 0.8]}
    for corruption, severity in (("none", 2), ("fog", 0)):
        with pytest.raises(orric.ProfileError, match='the corruption "none" and the severity 0'):
            build_profile(drift_curve=({"corruption": corruption, "severity": severity, "curve": curve},))
