"""The shape of the package, read off its syntax trees: imports point one way, and nothing slips past the rules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orric

from .builders import ROOT

PACKAGE = ROOT / "orric"
# Left to right; what stands in one place does not import one another.
MAIN = [
    ["exceptions"],
    ["complaint", "durable", "workers"],
    ["section"],
    ["csv_rows", "configuration", "randomness", "folders"],
    ["instants"],
    ["csv_chunks"],
    ["local_times", "waiting"],
    ["learning", "trace", "timestamps", "drift", "latency", "compiled", "statistics", "devices", "timeliness"],
    ["interval_counts", "workload", "description", "budgets", "processes", "overload"],
    ["arrivals"],
    ["importers", "cameras"],
    ["by_drift", "transfer", "real_models"],
    ["profile"],
    ["shipped", "templates"],
    ["observation"],
    ["records"],
    ["objective"],
    ["allocators"],
    ["slot_model"],
    ["competitive"],
    ["accuracy"],
    ["scenario"],
    ["simulation"],
    ["report"],
]
# Beside it, from what lies left of `scenario`.
REAL = [["vision"], ["selection"], ["retraining"], ["calibration", "explanation", "valuation"]]
RANK = {part: rank for rank, parts in enumerate(MAIN) for part in parts}
REAL_RANK = {part: rank for rank, parts in enumerate(REAL) for part in parts}


def every_module_but(*names: str) -> pytest.MarkDecorator:
    """Run a test once for each module of the package, but for those named."""
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    kept = [name for name in modules if name not in names]
    return pytest.mark.parametrize("path", [modules[name] for name in kept], ids=kept)


every_module = every_module_but()


def tree_of(path: Path) -> ast.Module:
    """Parse a module."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def part_of(path: Path) -> str:
    """Return the folder or module right below the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the dotted names that a module imports anywhere in it, with their lines."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it points"
            assert node.module is not None
            # `from orric import simulation` and `from orric.simulation import engine` name a submodule each.
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def allowed(part: str, target: str) -> bool:
    """Say whether one part of the package may import another."""
    if part == target or part in ("cli", "__main__"):
        return True
    if part == "sweep":
        return target == "comparison" or RANK.get(target, len(MAIN)) < RANK["report"]
    if part == "edge":
        return target not in ("simulation", "sweep", "cli", "comparison", "report")
    if part == "comparison":
        return (target in RANK and target != "report") or target in REAL_RANK
    if part in REAL_RANK:
        return REAL_RANK.get(target, len(REAL)) < REAL_RANK[part] or RANK.get(target, len(MAIN)) < RANK["scenario"]
    return RANK.get(target, len(MAIN)) < RANK[part]


@every_module_but("__init__.py")  # which names everything, lazily
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in {*RANK, *REAL_RANK, "comparison", "edge", "sweep", "cli", "__main__"}, (
        f"give {part!r} its place in this test"
    )
    for name, line in imported(path):
        package, _, rest = name.partition(".")
        if package != "orric":
            continue
        target = rest.partition(".")[0]
        if target == "__version__":
            continue
        where = f"{path.relative_to(ROOT)}:{line}"
        assert (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").exists(), (
            f"{where}: import {target!r} from the module that holds it"
        )
        assert allowed(part, target), f"{where}: {part} must not import {target}"


def test_the_rule_refuses_what_it_should() -> None:
    assert not allowed("learning", "trace")
    assert not allowed("simulation", "retraining")
    assert not allowed("calibration", "scenario")
    assert not allowed("vision", "retraining")
    assert not allowed("allocators", "simulation")
    assert not allowed("report", "cli")
    assert allowed("comparison", "retraining")
    assert allowed("calibration", "retraining")
    assert allowed("retraining", "selection")
    assert not allowed("selection", "retraining")
    assert not allowed("explanation", "calibration")
    assert allowed("report", "records")


@every_module
def test_only_the_simulation_imports_simpy(path: Path) -> None:
    if any(name.split(".")[0] == "simpy" for name, _ in imported(path)):
        assert part_of(path) == "simulation"


@every_module
def test_no_global_randomness(path: Path) -> None:
    fine = {"Generator", "SeedSequence", "default_rng"}
    for node in ast.walk(tree_of(path)):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in fine, f"{where}: numpy.random.{node.attr} draws from a global state"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
            assert node.args, f"{where}: default_rng() without a seed differs from run to run"
    for name, line in imported(path):
        assert name.split(".")[0] not in ("random", "secrets"), f"{path}:{line}: {name}"
        if name.startswith("numpy.random."):
            assert name.split(".")[2] in fine, f"{path}:{line}: {name}"


@every_module
def test_only_the_command_line_prints(path: Path) -> None:
    if part_of(path) == "cli":
        return
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path.relative_to(ROOT)}:{node.lineno}: prints"


@every_module
def test_allocators_have_no_clock_and_no_files(path: Path) -> None:
    if part_of(path) != "allocators":
        return
    forbidden = {"time", "datetime", "os", "io", "pathlib", "socket", "subprocess", "tempfile", "threading"}
    assert not {name.split(".")[0] for name, _ in imported(path)} & forbidden


@every_module
def test_module_is_documented_and_of_a_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    if text.strip():
        assert ast.get_docstring(tree_of(path)), f"{path.relative_to(ROOT)} has no docstring"


def test_public_names_resolve() -> None:
    assert len(set(orric.__all__)) == len(orric.__all__)
    for name in orric.__all__:
        assert getattr(orric, name) is not None
        assert name in dir(orric)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = orric.no_such_name


def test_lists_of_public_names_agree() -> None:
    homes = {(module, name) for module, names in orric._HOMES.items() for name in names}
    assert {name for _, name in homes} == set(orric.__all__)
    assert len(homes) == len(orric.__all__)
    for node in tree_of(PACKAGE / "__init__.py").body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            typed = {(one.module, alias.name) for one in node.body for alias in one.names}  # type: ignore[attr-defined]
            assert typed == homes
            break
    else:
        pytest.fail("orric/__init__.py has no TYPE_CHECKING imports")


def run_python(code: str) -> str:
    """Run code in a new interpreter and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=60
    ).stdout


def test_importing_orric_loads_nothing_heavy() -> None:
    loaded = set(run_python("import sys, orric; print(*{name.split('.')[0] for name in sys.modules})").split())
    heavy = {
        "torch",
        "onnx",
        "onnxruntime",
        "simpy",
        "pandas",
        "pyarrow",
        "matplotlib",
        "scipy",
        "pydantic",
        "sklearn",
        "PIL",
    }
    assert "orric" in loaded
    assert not loaded & heavy


def test_slot_model_needs_no_extra() -> None:
    """The core alone loads a profile and evaluates; only numpy, pydantic and the like come with it."""
    code = """
import sys, orric
profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
orric.evaluate(profile, orric.Trace(requests=[10], budget_macs=[1e9]), orric.Orric())
print(*{name.split(".")[0] for name in sys.modules})
"""
    extras = {"torch", "onnx", "onnxruntime", "simpy", "pandas", "pyarrow", "matplotlib", "joblib", "sklearn", "PIL"}
    assert not set(run_python(code).split()) & extras


def test_nothing_is_reported_to_the_makers_of_onnx_runtime() -> None:
    """Unless whoever runs it says so: the variable must stand before the first import of that package."""
    code = "import orric, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code) == "1\n"
    assert run_python(f"import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; {code}") == "0\n"
