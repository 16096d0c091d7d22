"""Compiled functions: the same as interpreted, and compiled anew when what they are made of has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="needs orric[sim]")

from orric import compiled

from .builders import ROOT

RUN = """
import orric
scenario = orric.load_scenario("simulations/rush-hour.toml")
scenario = scenario.model_copy(update={"slots": 2, "fault": ()})
result = orric.simulate(scenario, orric.make_allocator("orric"), seed=1)
print(result.latency.total_s, result.fates, result.gpu_columns["serving"].tolist())
"""


def test_interpreted_they_do_the_same() -> None:
    """Two slots of four streams on shared GPUs, with bursts; without a compiler, for debugging and coverage."""
    told = [
        subprocess.run(
            [sys.executable, "-c", RUN],
            env={**os.environ, **more},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for more in ({}, {"NUMBA_DISABLE_JIT": "1"})
    ]
    assert told[0]
    assert told[0] == told[1]


def test_a_change_in_another_file_compiles_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants come from other files, which the compiler's own cache does not look at."""
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    (tmp_path / "simulation").mkdir()
    tables = tmp_path / "simulation" / "tables.py"
    tables.write_text("FIRST, SECOND = range(2)\n")
    before = compiled._stamp()
    assert compiled._stamp() == before
    tables.write_text("FIRST, SECOND, THIRD = range(3)\n")
    assert compiled._stamp() != before

    @compiled.compiled
    def function(x: float) -> float:
        return x

    key = function._cache._index_key((), function.targetctx.codegen())  # type: ignore[attr-defined]
    assert key[-1] == compiled.STAMP
