"""An allocator from a package of its own: installed, found by name, run in a scenario, and held to the contract."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hatchling", reason="needs orric[dev]")

from ..builders import ROOT

Python = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = ROOT / "docs" / "examples" / "orric-every-other"
SCENARIO = """
format = 1
name = "plugin"
slots = 6
slot_s = 10.0
allocators = ["every-other", "gain+every-other"]
gpu = [{ name = "gpu0", macs_per_s = 1e9, budget = { kind = "constant", fraction = 0.8 } }]

[[stream]]
name = "first"
profile = "PROFILE"
requests = { kind = "constant", per_slot = 300 }

[[stream]]
name = "second"
profile = "PROFILE"
requests = { kind = "constant", per_slot = 300 }
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Install the example, without a network, into an environment of its own; return what runs Python in it."""
    folder = tmp_path_factory.mktemp("plugin")
    # What surrounds the test (pytest-xdist, say) is none of its business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, env=environment)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # orric as it stands here, and whatever it runs on as it is installed around the test.
    (site / "outer.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    shutil.copytree(EXAMPLE, folder / "source")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", site, folder / "source"],
        check=True,
        env=environment,
    )

    def run(*arguments: str | Path, cwd: Path = folder) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "venv" / "bin" / "python", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
        )

    return run


def test_it_is_found_by_name_and_composes_with_triggers(
    python: Python,
) -> None:
    code = """
import orric
print(orric.__file__)
for name in ("every-other", "gain+every-other"):
    made = orric.make_allocator(name)
    print(made.name, type(made).__module__)
try:
    orric.make_allocator("every-oter")
except orric.ScenarioError as error:
    print(error)
"""
    answer = python("-c", code)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        str(ROOT / "orric" / "__init__.py"),
        "every-other orric_every_other",
        "gain+every-other orric.allocators.triggers",
        "allocator: 'every-oter' is unknown; did you mean 'every-other'?",
    ]


def test_a_scenario_that_names_it_runs(python: Python, profile_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("simpy", reason="needs orric[sim]")
    (tmp_path / "plugin.toml").write_text(SCENARIO.replace("PROFILE", str(profile_path)))
    answer = python("-m", "orric", "run", "plugin.toml", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert '"every-other"' in answer.stdout
    assert '"gain+every-other"' in answer.stdout
    assert isinstance(json.loads(answer.stdout), dict)
    code = """
import sys, orric
result = orric.simulate(orric.load_scenario("plugin.toml"), orric.make_allocator("every-other"))
print(*result.retraining)
"""
    retraining = np.array(python("-c", code, cwd=tmp_path).stdout.split()).reshape(6, 2)
    assert ((retraining != "r0") == [[True, False], [False, True]] * 3).all()


def test_it_is_held_to_the_contract(python: Python) -> None:
    tests = [f"tests/contract/{name}.py" for name in ("test_allocators", "test_many_streams")]
    options = ("-q", "-p", "no:cacheprovider", "-k", "every-other")
    answer = python("-m", "pytest", *options, *tests, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    passed = re.search(r"(\d+) passed", answer.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20


def test_the_guide_shows_the_package_as_it_is() -> None:
    page = (ROOT / "docs" / "guides" / "allocators.md").read_text(encoding="utf-8")
    module = (EXAMPLE / "orric_every_other.py").read_text(encoding="utf-8")
    assert (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8") in page
    assert module[module.index("        pairs = []") :] in page
