"""What `orric calibrate --selectors-of` does: measure selectors, and tell what they are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from orric.calibration.calibrate import finished
from orric.calibration.plan import named_corruptions
from orric.calibration.selectors import with_selectors
from orric.cli.frame import console_of_output, interruptible, print_table, progress_bars
from orric.profile import Profile
from orric.real_models import SelectorFigures
from orric.selection import selector


def measure_selectors(
    profile: Profile,
    where: str,
    target: Path,
    names: Sequence[str],
    pool: float,
    judge: Literal["student", "teacher"],
    seeds: int,
    slots: int,
    per_slot: int,
    jobs: int,
    corruptions: Sequence[str],
    remains: str,
    as_json: bool,
) -> None:
    """Measure selectors on a profile's models, write the profile with them, and print what they are worth.

    Args:
        profile: With [models].
        where: Its file.
        target: Where the new one is written.
        names: Of selectors.
        pool: Samples looked at for each one chosen.
        judge: Whose labels they judge by.
        seeds: How many.
        slots: Of every stream.
        per_slot: Samples per slot.
        jobs: Worker processes.
        corruptions: Names of corruptions or of groups; none for those of the profile.
        remains: What is left of an interrupted run, in words.
        as_json: For machines.
    """
    of_teacher = "-by-teacher" if judge == "teacher" else ""
    known = [selector(name.strip()).name for name in names]
    figures = {f"{name}{of_teacher}": SelectorFigures(method=name, pool=pool, labels=judge) for name in known}
    drifts = named_corruptions(corruptions)
    with interruptible(remains), progress_bars() as progress:
        bar = progress.add_task("measuring", total=1.0)
        found = with_selectors(
            profile, where, target, figures, tuple(range(1, seeds + 1)), slots, per_slot, jobs, drifts,
            lambda what, part: progress.update(bar, completed=part, description=what),
        )  # fmt: skip
        found.save(target)
        finished(target)
    rows = list(_rows(found, figures))
    if as_json:
        print(json.dumps({"profile": str(target), "configurations": rows}, allow_nan=False))
        return
    headings = ("retraining", "trained on", "worth", "cost (MACs per sample)", "accuracy against uniform (points)")
    texts = [
        (
            row["retraining"], f"{row['ratio']:.0%}", f"{row['profit']:.1%}", f"{row['cost_macs']:.3g}",
            _points(row["gain"]),
        )
        for row in rows
    ]  # fmt: skip
    console = console_of_output()
    print_table(console, headings, texts, words=("retraining",))
    said = "worth: the part of the samples that uniform drawing needs for the same accuracy"
    console.print(f"{said}\nprofile: {target}", highlight=False, markup=False, soft_wrap=True)


def _rows(profile: Profile, figures: dict[str, SelectorFigures]) -> list[dict[str, Any]]:
    models, gains = profile.models, profile.provenance["selectors"]["gain"]
    assert models is not None, "it was measured"
    return [
        {
            "retraining": one.name,
            "ratio": models.sampling_ratio[one.name],
            "profit": one.profit,
            "cost_macs": one.cost_macs,
            "gain": gains[name][one.name.removesuffix(f" {name}")],
        }
        for name in figures
        for one in profile.retraining
        if models.selector.get(one.name) == name
    ]


def _points(gain: dict[str, float]) -> str:
    """Phrase a difference of accuracies, with its interval where there is one."""
    text = f"{100 * gain['accuracy']:+.2f}"
    return text if "low" not in gain else f"{text} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"
