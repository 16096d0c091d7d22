"""Mistakes that people make in files, and what they are told: one line, in the words of TOML, with what to do."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

import orric
from orric.section import Section
from orric.sweep import Sweep, check_all, on_cores

from .builders import PROFILES, ROOT

DIGITS = (PROFILES / "digits.toml").as_posix()
SCENARIO = f"""\
format = 1
name = "small"
slots = 10
slot_s = 60.0
allocators = ["orric"]
[accuracy]
model = "curve"
[[gpu]]
name = "gpu0"
macs_per_s = 1.0e8
budget = {{ kind = "constant", fraction = 0.9 }}
[[stream]]
name = "camera"
profile = "{DIGITS}"
requests = {{ kind = "constant", per_slot = 100 }}
arrivals = "deterministic"
drift = {{ kind = "steps", corruption = "fog", severities = [1, 3] }}
deadline_s = 5.0
"""
BUDGET = 'budget = { kind = "constant", fraction = 0.9 }'
REQUESTS = 'requests = { kind = "constant", per_slot = 100 }'
FAULT = 'deadline_s = 5.0\n[[fault]]\nkind = "burst"\nstream = "camera"\nfactor = 2.0\n'
# Words that only a programmer knows.
PYTHON = re.compile(r"dict|tuple|NoneType|\bNone\b|\bTrue\b|\bFalse\b|datetime|\bstr\b|instance of|input should|valid")

MISTAKES = [
    # Brackets.
    ("[[gpu]]", "[gpu]", "8: gpu: found one table; write its header as [[gpu]]: there may be several"),
    ("[[stream]]", "[stream]", "12: stream: found one table; write its header as [[stream]]: there may be several"),
    ("[[gpu]]", "[gpu.first]", "8: gpu: found tables called 'first'; write [[gpu]] above each, with name = \"first\""),
    ("[[gpu]]", "[[gpus]]", "8: gpus: unknown key 'gpus'; did you mean 'gpu'?"),
    ("[accuracy]", "[[accuracy]]", "6: accuracy: found a list of tables; there is one: write its header as [accuracy]"),
    (
        "deadline_s = 5.0",
        "[[stream.batch]]\nmost = 8",
        "18: stream.1.batch: found a list of tables; there is one: write",
    ),
    ("deadline_s = 5.0", '[fault]\nkind = "burst"', "18: fault: found one table; write its header as [[fault]]"),
    ("deadline_s = 5.0", "[[cloud]]\ndelay_s = 1.0", "18: cloud: found a list of tables; there is one: write"),
    # Units and quotes.
    ("1.0e8", '"1e8"', "10: gpu.1.macs_per_s: found '1e8'; give a number of MACs per second, without quotes: 1e8"),
    ("1.0e8", '"1 GMACs"', "found '1 GMACs'; give a number of MACs per second, without quotes and unit"),
    ("60.0", '"60s"', "4: slot_s: found '60s'; give a number of seconds, without quotes and unit"),
    ("60.0", "00:01:00", "4: slot_s: found 00:01:00; give a number of seconds"),
    (
        REQUESTS,
        'requests = { csv = "a\\u0000b" }',
        "stream.1.requests.csv: found 'a\\x00b', which no file and no name can be",
    ),
    ("60.0", "1" * 5000, "holds a number or a nesting beyond all use; shorten it"),
    ("60.0", "2026-12-01", "4: slot_s: found 2026-12-01; give a number of seconds"),
    (
        "fraction = 0.9",
        "fraction = 90",
        "11: gpu.1.budget.fraction: found 90; give a number less than or equal to 1, such",
    ),
    ("fraction = 0.9", 'fraction = "90%"', "11: gpu.1.budget.fraction: found '90%'; give a part, without quotes: 0.9"),
    ("slots = 10", 'slots = "10"', "3: slots: found '10'; give a whole number, without quotes: 10"),
    # Numbers that are none, or of another kind.
    ("1.0e8", "true", "10: gpu.1.macs_per_s: found true; give a number of MACs per second"),
    ("1.0e8", "1e400", "10: gpu.1.macs_per_s: found inf; give a finite number"),
    ("1.0e8", "nan", "10: gpu.1.macs_per_s: found nan; give a finite number"),
    ("1.0e8", "[1e8]", "10: gpu.1.macs_per_s: found [100000000.0]; give one number of MACs per second, no list"),
    ("slots = 10", "slots = 1e1", "3: slots: found 10.0; give a whole number, without a point: 10"),
    ("slots = 10", "slots = true", "3: slots: found true; give a whole number"),
    ("slots = 10", "slots = [10, 20]", "3: slots: found [10, 20]; give one number, no list"),
    ("slots = 10", "slots = 0", "3: slots: found 0; give a number greater than or equal to 1"),
    ("[1, 3]", "[1.0, 3]", "17: stream.1.drift.severities.1: found 1.0; give a whole number, without a point: 1"),
    ("5.0", "1e-400", "18: stream.1.deadline_s: found 0.0; give a number greater than 0"),
    # Lists, tables and texts in one another's place.
    ("[1, 3]", "3", "17: stream.1.drift.severities: found 3; give a list: [3]"),
    ('["orric"]', '"orric"', "5: allocators: found 'orric'; give a list: ['orric']"),
    ('["orric"]', "{ orric = 1 }", "5: allocators: found { orric = 1 }; give a list"),
    ('["orric"]', '["orric", 3]', "5: allocators.2: found 3; give a text, in quotes"),
    ('"small"', "5", "2: name: found 5; give a text, in quotes"),
    ('"small"', '""', "2: name: found ''; give a text that is not empty"),
    ('"fog"', '["fog"]', "17: stream.1.drift.corruption: found ['fog']; give one text, no list"),
    ('"deterministic"', '["poisson"]', "16: stream.1.arrivals: found ['poisson']; give 'upload', 'deterministic', "),
    (
        '[accuracy]\nmodel = "curve"',
        'accuracy = "curve"',
        "6: accuracy: found 'curve'; give a table: accuracy = { model",
    ),
    (
        "deadline_s = 5.0",
        "batch = 8",
        "18: stream.1.batch: found 8; give a table: batch = { most = ..., wait_s = ... }",
    ),
    (
        BUDGET,
        f"{BUDGET}\npower = 70",
        "12: gpu.1.power: found 70; give a table: power = { idle_w = ..., busy_w = ... }",
    ),
    # Kinds of tables.
    (
        BUDGET,
        "budget = 0.9",
        '11: gpu.1.budget: found 0.9; give a table with kind = "uniform", "constant" or "backgrou',
    ),
    (BUDGET, "budget = { fraction = 0.9 }", "11: gpu.1.budget: key 'kind' is missing; add kind = \"constant\""),
    (BUDGET, f"{BUDGET}\nsharing = 3", '12: gpu.1.sharing: found 3; give a table with model = "fluid", "saturating", '),
    (
        BUDGET,
        f'{BUDGET}\nsharing = "weigted"',
        "12: gpu.1.sharing: model 'weigted' is unknown; did you mean 'weighted'?",
    ),
    (
        BUDGET,
        f"{BUDGET}\nsharing = {{ slowdown = 0.5 }}",
        "12: gpu.1.sharing.slowdown: found 0.5; give a number greater",
    ),
    (REQUESTS, "requests = { csv = 3 }", "15: stream.1.requests.csv: found 3; give a text, in quotes"),
    (REQUESTS, "requests = { per_second = 5.0 }", "15: stream.1.requests: key 'kind' is missing; give kind = \"consta"),
    # What contradicts the rest.
    ("deadline_s = 5.0", f"{FAULT}slots = [20]", "23: fault.1.slots: found 20; the scenario has 10 slots"),
    (
        "deadline_s = 5.0",
        f"{FAULT}slots = [2]\noffset_s = 60.0",
        "24: fault.1.offset_s: found 60, and a slot has 60 s; ",
    ),
    ("deadline_s = 5.0", 'gpu = "gpu1"', "18: stream.1.gpu: 'gpu1' is unknown; did you mean 'gpu0'?"),
    ("slots = 10", "slots = 10\nwarmup_slots = 10", "4: warmup_slots: found 10, and the scenario has 10 slots; leave"),
    ("per_slot = 100", "per_slot = 10_000_000_000_000", "15: stream.1.requests: 1e+14 would come in all; lower their"),
    (
        BUDGET,
        f'{BUDGET}\nsharing = {{ model = "priority", grain_s = 90.0 }}',
        "12: gpu.1.sharing.grain_s: found 90, and a",
    ),
    (
        BUDGET,
        f"{BUDGET}\npower = {{ idle_w = 70.0, busy_w = 20.0 }}",
        "12: gpu.1.power: busy_w is 20; it must be idle_w",
    ),
    ("format = 1", "format = true", " key 'format': found true; this version of orric reads: format = 1"),
    ("format = 1", "format = 1.0", " key 'format': found 1.0; this version of orric reads: format = 1"),
]


def refused(path: Path, told: str) -> None:
    with pytest.raises(orric.OrricError) as caught:
        orric.load_scenario(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}:")
    assert told in message
    assert not PYTHON.search(message.removeprefix(str(path))), message


@pytest.mark.parametrize(("old", "new", "told"), MISTAKES, ids=[new[:40] for _, new, _ in MISTAKES])
def test_a_mistake_in_a_scenario_is_told_in_its_own_words(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    orric.load_scenario(path)
    assert SCENARIO.count(old) == 1
    path.write_text(SCENARIO.replace(old, new))
    refused(path, told)


def test_a_table_of_the_second_stream_is_named_by_its_own_line(tmp_path: Path) -> None:
    again = SCENARIO[SCENARIO.index("[[stream]]") :].replace('"camera"', '"other"')
    path = tmp_path / "small.toml"
    path.write_text(f"{SCENARIO}[stream.batch]\nmost = 8\n{again}[stream.batch]\nmost = 0\n")
    refused(path, "29: stream.2.batch.most: found 0; give a number greater than or equal to 1")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[curve]", "[[curve]]", "curve: found a list of tables; there is one: write its header as [curve]"),
        ("[[drift_curve]]", "[drift_curve]", "drift_curve: found one table; write its header as [[drift_curve]]"),
        (
            "cost_macs = 2818560.0",
            'cost_macs = "2.8 MMACs"',
            "inference.1.cost_macs: found '2.8 MMACs'; give a number of",
        ),
        (
            "latency_s = 4.19498e-05",
            "latency_s = -1.0",
            "inference.1.latency_s: found -1.0; give a number greater than 0",
        ),
        (
            "best_accuracy = 0.992795",
            "best_accuracy = 99.28",
            "found 99.28; give a number less than or equal to 1, such as",
        ),
        ('form = "power"', "form = 3", "curve: the form 3 is unknown; known: exponential, power"),
        ('form = "power"\n', "", "curve: key 'form' is missing; add it: exponential, power"),
    ],
)
def test_a_mistake_in_a_profile_is_told_in_its_own_words(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (PROFILES / "digits.toml").read_text()
    # One drift curve is enough.
    starts = [match.start() for match in re.finditer(r"^\[\[drift_curve\]\]", text, re.MULTILINE)]
    text = text[: starts[1]]
    path = tmp_path / "digits.toml"
    path.write_text(text)
    orric.Profile.load(path)
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(orric.ProfileError) as caught:
        orric.Profile.load(path)
    message = str(caught.value)
    assert told in message
    assert re.match(rf"{re.escape(str(path))}:\d+: ", message)
    assert not PYTHON.search(message.removeprefix(str(path))), message


AXIS = f'scenario = "{(ROOT / "simulations" / "quickstart.toml").as_posix()}"\nengine = "slot-model"\nseeds = 2\n'


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        ('[axis]\nkey = "slots"\nvalues = [5]', "axis: found one table; write its header as [[axis]]"),
        ('[[axis]]\nkey = "slots"\nvalues = 5', "axis.1.values: found 5; give a list: [5]"),
        ('[[axis]]\nkey = "slots"\nvalues = ["5"]', "slots: found '5'; give a whole number, without quotes: 5"),
        ('[[axis]]\nkey = "slots"\nvalues = [true]', "slots: found true; give a whole number"),
        ('[[axis]]\nkey = "slots"\ntimes = ["2"]', "axis.1.times.1: found '2'; give a number, without quotes: 2"),
        ('[[axis]]\nkey = "slots"\ntimes = [0.001]', "slots: found 0.1; give a whole number"),
        (
            '[[axis]]\nkey = "gpu.1.budget.high"\nvalues = [92.7]',
            "low is 0.094 and high 92.7; give 0 <= low <= high <= 1",
        ),
        (
            '[[axis]]\nkey = "gpu.1.macs_per_s"\nvalues = ["1 G"]',
            "found '1 G'; give a number of MACs per second, without",
        ),
        ('[[axis]]\nkey = "slot_s"\nuniform = [10.0]', "axis.1.uniform: value 2 is missing; add it"),
        (
            '[[axis]]\nkey = "slot_s"\nuniform = [1.0, 2.0, 3.0]',
            "axis.1.uniform: found [1.0, 2.0, 3.0]; give 2 at most",
        ),
        ('[[axis]]\nkey = "gpu.1.budget"\nvalues = [0.5]', "gpu.1.budget: found 0.5; give a table with kind = "),
        ("precision = 0.1", "precision: found 0.1; give a table: precision = { half_width = ... }"),
    ],
)
def test_a_mistake_in_a_sweep_is_told_in_its_own_words(tmp_path: Path, axis: str, told: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'format = 1\nname = "sweep"\n{AXIS}{axis}\n')
    with pytest.raises(orric.ScenarioError) as caught:
        check_all(Sweep.load(path), on_cores(1))
    assert told in str(caught.value)
    assert not PYTHON.search(str(caught.value).removeprefix(str(path)).replace("not valid", "")), str(caught.value)


GPUS = 'slot,gpu,budget_macs\n1,gpu0,5e9\n2,gpu0,"5e9"\n'
TRACE = "slot,requests,budget_macs,duration_s\n1,10,5e9,60\n\n2,10,5e9,60\n"


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (GPUS, '"5e9"', "9e12", "3: column 'budget_macs': found 9e+12, and GPU 'gpu0' does 6e+09 MACs in a slot"),
        (GPUS, '"5e9"', "1e400", "3: column 'budget_macs': found 1e400; give a finite number >= 0"),
        (GPUS, '"5e9"', "-1", "3: column 'budget_macs': found -1; give a finite number >= 0"),
        (GPUS, '"5e9"', "5 GMACs", "3: column 'budget_macs': found 5 GMACs; give a finite number >= 0"),
        (GPUS, "2,gpu0", "3,gpu0", "3: column 'slot': found 3; expected 2 of GPU 'gpu0'"),
        (
            TRACE,
            "2,10,5e9",
            "2,10,7e9",
            "4: column 'budget_macs': found 7e+09, and GPU 'gpu0' does 6e+09 MACs in a slot",
        ),
        (TRACE, "5e9,60\n\n", "5e9,300\n\n", "2: column 'duration_s': found 300, and the scenario's slots have 60 s"),
    ],
)
def test_a_mistake_in_budgets_is_told_with_its_line(tmp_path: Path, text: str, old: str, new: str, told: str) -> None:
    budgets, path = tmp_path / "budgets.csv", tmp_path / "small.toml"
    path.write_text(SCENARIO.replace("slots = 10", "slots = 2").replace(BUDGET, 'budget = { csv = "budgets.csv" }'))
    budgets.write_text(text)
    orric.load_scenario(path)
    assert text.count(old) == 1
    budgets.write_text(text.replace(old, new))
    with pytest.raises(orric.TraceError) as caught:
        orric.load_scenario(path)
    assert str(caught.value).startswith(f"{budgets}:{told}")


def sections_with_flags() -> list[tuple[type[Section], str]]:
    """Return every key of the package's tables that is true or false."""
    for found in pkgutil.walk_packages(orric.__path__, "orric."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    classes, left = set[type[Section]](), [Section]
    while left:
        left += (more := set(left.pop().__subclasses__()) - classes)
        classes |= more
    named = sorted(classes, key=lambda one: (one.__module__, one.__name__))
    return [(one, key) for one in named for key, field in one.model_fields.items() if "bool" in str(field.annotation)]


def test_a_flag_is_true_or_false_and_nothing_like_it() -> None:
    """Neither "yes" nor 1: whoever writes "off" or 0 somewhere should be told whether that is understood."""
    flags = sections_with_flags()
    assert {key for _, key in flags} >= {"acceptance", "fallback", "refresh", "enabled", "per_slot", "assumed"}
    for section, key in flags:
        field = section.model_fields[key]
        flag = TypeAdapter(Annotated[(field.annotation, *field.metadata, "flag")])
        assert flag.validate_python(True) is True, key
        for wrong in ("yes", "true", 1, 0):
            with pytest.raises(ValidationError):
                flag.validate_python(wrong)


@pytest.mark.parametrize("wrong", ['"yes"', "1"])
def test_a_wrong_flag_is_told_in_a_line(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "wrong.toml"
    whole = (PROFILES / "cifar10-weather.toml").read_text()
    path.write_text(whole.replace("acceptance = false", f"acceptance = {wrong}"))
    with pytest.raises(orric.ProfileError) as caught:
        orric.Profile.load(path)
    told = str(caught.value)
    found = wrong.replace('"', "'")
    assert told.endswith(f": training.acceptance: found {found}; give true or false, without quotes")
    assert re.search(r"wrong\.toml:\d+: ", told)
    assert not PYTHON.search(told)
