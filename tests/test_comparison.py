"""Comparisons: reference lines, workers, allocators of third parties."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os

import numpy as np
import psutil
import pytest

import orric
from orric import allocators
from orric.allocators.greedy import InferenceOnly
from orric.comparison import _profiled, compare, lines, simulate_line
from orric.sweep import plan
from orric.workers import in_parallel

from .builders import ROOT


@pytest.fixture(scope="module")
def table3():
    return orric.load_scenario(ROOT / "simulations/table3-fog.toml")


@pytest.fixture(scope="module")
def small():
    """The quickstart with real models, six slots of twenty images."""
    scenario = orric.load_scenario(ROOT / "simulations/quickstart.toml")
    requests = scenario.stream[0].requests.model_copy(update={"per_slot": 20})
    stream = scenario.stream[0].model_copy(update={"requests": requests})
    gpu = scenario.gpu[0].model_copy(update={"macs_per_s": 1e7})
    return scenario.model_copy(update={"slots": 6, "stream": (stream,), "gpu": (gpu,)})


def test_teacher_only_has_the_published_accuracy_and_exceeds_the_budget(table3):
    result = simulate_line(table3, "curve", "teacher-only", 1)
    assert result.allocator == "teacher-only"
    assert result.mean_accuracy == pytest.approx(0.7041)
    assert set(result.inference) == {"teacher"}
    assert result.summary()["budget_used"] > 1.5
    assert np.array_equal(result.budget_macs, table3.budgets_macs(1))


def test_teacher_only_sheds_nothing_for_headroom(table3):
    streams = tuple(one.model_copy(update={"headroom": 0.3}) for one in table3.stream)
    planned = simulate_line(table3.model_copy(update={"stream": streams}), "curve", "teacher-only", 1)
    assert planned.shed.sum() == 0
    assert planned.mean_accuracy == simulate_line(table3, "curve", "teacher-only", 1).mean_accuracy


def test_teachers_energy_is_unknown_where_its_gpu_is_made_up():
    scenario = orric.load_scenario(ROOT / "simulations/cameras.toml")
    teacher = simulate_line(scenario, "curve", "teacher-only", 1)
    assert teacher.summary()["energy_j"] is None
    own = [scenario.budgets_macs(1, gpu) for gpu in range(3)]
    assert teacher.budgets_macs == pytest.approx(np.sum(own, axis=0))


def test_curves_reach_whoever_a_trigger_is_wrapped_around():
    scenario = orric.load_scenario(ROOT / "simulations/edge-server.toml")
    wrapped = simulate_line(scenario, "curve", "adwin+gain+thief", 1)
    blind = orric.simulate(scenario.with_accuracy("curve", "test"), orric.make_allocator("thief"), 1)
    assert _profiled(scenario, orric.make_allocator("gain+thief"), 1).inner._curves is not None
    first = [row for row in wrapped.allocations if row["slot"] == 1]
    assert first == [row for row in blind.allocations if row["slot"] == 1]


def test_real_reference_lines_are_what_they_say(small):
    pytest.importorskip("torch")
    from orric.retraining.accuracy import drifted
    from orric.retraining.loop import Student

    teacher = simulate_line(small, "onnx", "teacher-only", 1)
    student, right = Student(small.profile), 0
    severities = small.stream[0].drift.by_slot(6, 1).severities
    for slot in range(1, 7):
        images, labels = drifted(student.dataset, 1, slot, 20, "fog", int(severities[slot - 1]))
        right += int((student.label(images) == labels).sum())
    assert teacher.value == right
    refreshed, retrained = (simulate_line(small, "onnx", line, 1) for line in ("batch-norm-only", "orric"))
    assert refreshed.allocations == retrained.allocations
    assert 0 < refreshed.retraining_macs.sum() < 0.2 * retrained.retraining_macs.sum()


def test_batch_norms_exist_in_real_models_only(small):
    assert "batch-norm-only" in lines(small, "onnx")
    assert "batch-norm-only" not in lines(small, "curve")


def test_results_do_not_depend_on_the_number_of_workers(table3):
    one, two = ({r.allocator: r for r in compare(table3, ["curve"], 1, jobs=jobs)} for jobs in (1, 2))
    assert set(one) == set(two) == set(lines(table3, "curve"))
    for name, result in one.items():
        assert result.to_frame().equals(two[name].to_frame())
        assert np.array_equal(result.latency.counts, two[name].latency.counts)


def test_workers_answer_each_call_once_and_in_other_processes():
    answers = dict(in_parallel(_told, [(number,) for number in range(7)], jobs=2))
    assert {index: number for index, (number, _) in answers.items()} == {index: index for index in range(7)}
    assert os.getpid() not in {process for _, process in answers.values()}


def test_stopping_early_ends_the_workers():
    others = set(multiprocessing.active_children())
    answers = in_parallel(_told, [(number,) for number in range(5)], jobs=2)
    _, (_, process) = next(answers)
    answers.close()
    assert set(multiprocessing.active_children()) <= others
    assert not psutil.pid_exists(process)


def test_an_error_in_a_worker_keeps_its_message():
    with pytest.raises(orric.BudgetError, match="slot 3: the budget of 1 MACs is below the 2 MACs"):
        dict(in_parallel(_raise, [(3,), (3,)], jobs=2))


def _told(number: int) -> tuple[int, int]:
    return number, os.getpid()


def _raise(slot: int) -> None:
    raise orric.BudgetError(slot, 1.0, 2.0)


@pytest.fixture
def installed(monkeypatch):
    """Register entry points for the length of a test."""

    def register(**targets):
        points = [importlib.metadata.EntryPoint(name, target, "orric.allocators") for name, target in targets.items()]
        others = importlib.metadata.entry_points

        # Whoever else loads its plug-ins meanwhile finds them.
        def entry_points(**wanted):
            return points if wanted == {"group": "orric.allocators"} else others(**wanted)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        allocators._installed.cache_clear()

    yield register
    allocators._installed.cache_clear()


def test_an_edited_allocator_of_another_package_is_another_version(installed, tmp_path, monkeypatch):
    """Its name and its package's version alone stood for what was kept of it."""
    code = tmp_path / "edited/inner.py"
    code.parent.mkdir()
    (code.parent / "__init__.py").touch()
    code.write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed(mine="edited.inner:Mine")
    plan.allocator_version.cache_clear()
    before = plan.allocator_version("adwin+mine")
    assert plan.allocator_version("adwin+mine") == before
    code.write_text("class Mine: 'edited'\n")
    plan.allocator_version.cache_clear()
    assert plan.allocator_version("adwin+mine") != before
    assert plan.allocator_version("orric") == "orric"


def test_an_allocator_of_another_package_is_found_by_its_entry_point(installed):
    installed(third=f"{__name__}:ThirdParty")
    assert isinstance(orric.make_allocator("third"), ThirdParty)
    with pytest.raises(orric.ScenarioError, match="did you mean 'third'"):
        orric.make_allocator("thirt")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_package:Allocator", "raised ModuleNotFoundError: No module named 'no_such_package'; mend"),
        (f"{__name__}:NoSuchClass", "raised AttributeError: "),
        (f"{__name__}:lines", "raised TypeError: lines() missing 2 required positional arguments"),
        (f"{__name__}:os.getpid", "is of the type int; inherit from orric.Allocator"),
    ],
)
def test_an_allocator_of_a_broken_package_is_told_when_it_is_used_and_not_before(installed, table3, target, message):
    installed(broken=target, third=f"{__name__}:ThirdParty")
    assert orric.make_allocator("third").name == "third-party"
    names = {"allocators": ("third", "broken")}
    assert orric.Scenario.model_validate({**table3.model_dump(), **names})
    scenario = table3.model_copy(update=names)
    found = {one.allocator: one for one in compare(scenario, ["curve"], 1, jobs=1)}
    assert found["third"].inference.size == 50
    assert str(found["broken"].error).startswith(f"allocator 'broken', before slot 1: {message}")


def test_a_result_goes_by_the_name_asked_for(installed, table3):
    installed(third=f"{__name__}:ThirdParty")
    for name in ("student-only", "third"):
        assert simulate_line(table3, "curve", name, 1).allocator == name


class ThirdParty(InferenceOnly):
    """An allocator that is registered elsewhere."""

    name = "third-party"


def test_a_server_does_not_depend_on_the_number_of_workers() -> None:
    scenario = orric.load_scenario(ROOT / "simulations/edge-server.toml")
    one, two = (
        sorted(compare(scenario, ["curve"], 3, jobs=jobs), key=lambda result: result.allocator) for jobs in (1, 2)
    )
    for first, second in zip(one, two, strict=True):
        assert first.to_frame().equals(second.to_frame())
        assert first.events == second.events
        for name, values in first.gpu_columns.items():
            assert values.tobytes() == second.gpu_columns[name].tobytes()
        for name, phases in first.latencies.items():
            assert [part.counts.tolist() for part in phases] == [p.counts.tolist() for p in second.latencies[name]]
