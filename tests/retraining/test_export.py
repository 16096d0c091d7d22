"""Exporting: quiet, cached, and never a half-written file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from orric.retraining import models

ROOT = Path(__file__).resolve().parents[2]
STUDENT = ROOT / "traces/models/digits-student.safetensors"
PROGRAM = (
    "from pathlib import Path; from orric.retraining.models import exported; "
    f"print(len(exported(Path({str(STUDENT)!r}), 'student', 10)))"
)


def test_the_first_export_says_nothing_and_the_second_reads_the_same_model(tmp_path):
    environment = {**os.environ, "ORRIC_CACHE": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stderr == ""
    assert first.stdout == second.stdout
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORRIC_CACHE", str(tmp_path / "file" / "cache"))
    models.exported.cache_clear()
    assert models.exported(STUDENT, "student", 10)


def test_a_damaged_model_in_the_cache_is_exported_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("ORRIC_CACHE", str(tmp_path))
    models.exported.cache_clear()
    good = models.exported(STUDENT, "student", 10)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(good[: len(good) // 2])
    models.exported.cache_clear()
    assert models.exported(STUDENT, "student", 10) == good
    models.exported.cache_clear()
