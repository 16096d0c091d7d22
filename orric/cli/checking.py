"""The commands that compare: a profile with what is measured now, corruptions with published ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orric.cli.frame import console_of_output, interruptible, print_table, progress_bars, shown

if TYPE_CHECKING:
    from orric.profile import Profile


def check(path: Path, profile: Profile, tolerance: float, jobs: int, corruption: str | None, as_json: bool) -> None:
    """Measure a part of a profile anew; the status is 1 where a number does not hold."""
    from dataclasses import asdict

    from orric.calibration.check import check_profile, decayed

    with interruptible("the profile is as it was"), progress_bars() as progress:
        findings = check_profile(profile, str(path), tolerance, jobs, corruption, shown(progress))
    gone = decayed(findings)
    if as_json:
        rows = [{**asdict(finding), "change": finding.change} for finding in findings]
        print(json.dumps({"profile": str(path), "decayed": bool(gone), "findings": rows}, allow_nan=False))
    else:
        console = console_of_output()
        texts = [
            (
                one.what,
                _figure(one.stated),
                _figure(one.found),
                one.unit,
                one.change,
                one.allowed,
                "yes" if one.holds else "NO",
            )
            for one in findings
        ]
        headings = ("number", "profile", "now", "unit", "change", "allowed", "holds")
        print_table(console, headings, texts, words=("number", "unit", "allowed", "holds"))
        for one in findings:
            if one.note:
                console.print(f"{one.what}: {one.note}", highlight=False, markup=False, soft_wrap=True)
        verdict = f"{path} holds: {len(findings)} numbers were looked at."
        if gone:
            names = ", ".join(one.what + (f" ({one.change})" if one.change else "") for one in gone)
            verdict = f"{path} has decayed in {len(gone)} of {len(findings)} numbers: {names}. Calibrate anew."
        console.print(verdict, highlight=False, markup=False, soft_wrap=True)
    if gone:
        raise typer.Exit(1)


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def compare(folder: Path, models: Path, as_json: bool) -> None:
    """Compare orric's corruptions with published ones, by distortion and by what the CIFAR-10 models make of them."""
    from dataclasses import asdict

    from orric.calibration.published_corruptions import compare_corruptions

    classify: dict[str, Any] = {}
    for role in ("student", "teacher"):
        path = models / f"cifar10-{role}.safetensors"
        if path.exists():
            classify[role] = _classifier(path, role)
    with interruptible("nothing was written"), progress_bars() as progress:
        progress.add_task("comparing", total=None)
        rows = [asdict(row) for row in compare_corruptions(folder, classify)]
    if as_json:
        print(json.dumps({"folder": str(folder), "rows": rows}, allow_nan=False))
        return
    flat = [dict(_cells(row)) for row in rows]
    headings = tuple(name.replace("_", " ") for name in flat[0])
    texts = [tuple(_figure(cell) if isinstance(cell, float) else str(cell) for cell in row.values()) for row in flat]
    print_table(console_of_output(), headings, texts, words=("corruption",))


def _cells(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the figures of a row; what each classifier gets right is a column of its own."""
    for name, cell in row.items():
        if isinstance(cell, dict):
            yield from ((f"{name} of the {role}", part) for role, part in cell.items())
        else:
            yield name, cell


def _classifier(path: Path, role: str) -> Callable[[Any], Any]:
    from orric.retraining.loop import FULL_PX
    from orric.retraining.models import exported
    from orric.vision.datasets import to_input
    from orric.vision.onnx_sessions import open_session, run

    session = open_session(exported(path, role, 10))
    return lambda images: run(session, to_input(images, FULL_PX)).argmax(axis=1)
