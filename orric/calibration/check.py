"""Measure a part of a profile anew and say whether it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orric.calibration.colocation import Served
from orric.calibration.learning_run import Assignment, LearningRun, Plan, Progress
from orric.calibration.measurement import accuracies_by_resolution, latencies, package_versions
from orric.calibration.plan import measured_runs
from orric.calibration.table import fullest_ratio
from orric.drift import SEVERITIES
from orric.exceptions import CalibrationError, OrricError, ProfileError, ScenarioError, nearest
from orric.profile import Profile
from orric.retraining.models import exported, load_network, macs_of, sha256
from orric.vision.datasets import Dataset, load_dataset

SIGMAS = 4.0
ROLES = ("student", "teacher")


@dataclass(frozen=True)
class Finding:
    """One number of a profile, measured anew.

    Attributes:
        what: Which number.
        stated: What the profile says.
        found: What was measured now.
        unit: Of both, "" for words.
        allowed: By how much the two may differ and the number still hold.
        holds: Whether it does.
        note: What else there is to say.
    """

    what: str
    stated: float | str
    found: float | str
    unit: str
    allowed: str
    holds: bool
    note: str = ""

    @property
    def change(self) -> str:
        """By how much it has changed, in words; "" where nothing has."""
        if isinstance(self.stated, str) or isinstance(self.found, str):
            return "" if self.holds else "changed"
        if self.unit == "%":
            return f"{self.found - self.stated:+.2f} points"
        return f"{100 * (self.found / self.stated - 1):+.1f} %" if self.stated else ""


def check_profile(
    profile: Profile,
    where: str,
    tolerance: float = 0.3,
    jobs: int = 2,
    corruption: str | None = None,
    progress: Progress = lambda what, part: None,
) -> list[Finding]:
    """Measure a part of a profile anew.

    That is: the files of the models, the packages, the MACs, the accuracy on clean images and the latency at every
    resolution, and one drifting stream, frozen and retrained at the largest ratio.

    Args:
        profile: Made by `orric calibrate`.
        where: Its file, for errors.
        tolerance: Part by which latencies may have changed; they do, from day to day.
        jobs: Worker processes.
        corruption: What the stream drifts through; the profile's first when left out.
        progress: Called with what is being done and the part that is done.

    Returns:
        One finding per number. Where a model cannot be loaded, what depends on it is left out.

    Raises:
        ProfileError: The profile names no models, or does not say how it was measured.
    """
    facts, models = profile.provenance, profile.models
    if models is None or not {"student_sha256", "teacher_sha256", "seeds", "slots", "samples_per_slot"} <= set(facts):
        raise ProfileError(where, "does not say what it was measured on", "use a profile made by orric calibrate")
    known = list(dict.fromkeys(entry.corruption for entry in profile.table if entry.severity))
    if corruption is not None and corruption not in known:
        raise ScenarioError("corruption", f"{corruption!r} is not in the table of {where}", nearest(corruption, known))
    progress("models and packages", 0.0)
    dataset = load_dataset(models.dataset, profile.data)
    findings, whole = _files(profile, len(dataset.classes))
    if "dataset_sha256" in facts:
        stated, found = str(facts["dataset_sha256"])[:12], dataset.fingerprint[:12]
        note = "" if stated == found else "these are not the images that were measured"
        findings.append(Finding("data set", stated, found, "", "none", stated == found, note))
    findings += [
        Finding(
            f"version of {name}", str(facts.get("versions", {}).get(name, "unknown")), found, "", "told only", True,
            "" if found == facts.get("versions", {}).get(name) else "differs: look at the latencies",
        )
        for name, found in package_versions().items()
        if found != facts.get("versions", {}).get(name)
    ]  # fmt: skip
    if "student" in whole:
        progress("accuracy and latency at every resolution", 0.1)
        findings += _macs(profile, dataset) + _clean(profile, dataset) + _latencies(profile, dataset, tolerance)
    if len(whole) == len(ROLES) and known:
        progress("one drifting stream", 0.3)
        try:
            findings += _stream(profile, jobs, corruption or known[0])
        except CalibrationError as error:
            findings.append(Finding("one drifting stream", "runs", "fails", "", "none", False, str(error)))
    progress("done", 1.0)
    return findings


def _files(profile: Profile, classes: int) -> tuple[list[Finding], set[str]]:
    """Return what became of the files of the models, and whose can be loaded."""
    findings, whole = [], set()
    for role in ROLES:
        path = profile.beside(getattr(profile.models, role))
        stated, what = str(profile.provenance[f"{role}_sha256"])[:12], f"{role}'s file"
        try:
            found = sha256(path)[:12]
        except OSError:
            findings.append(Finding(what, stated, "missing", "", "none", False, f"{path} cannot be read"))
            continue
        note = "" if found == stated else f"{path} is not the file that was measured"
        try:
            if role == "student":
                load_network(path, role, classes)
            exported(path, role, classes)
            whole.add(role)
        except OrricError as error:
            note = str(error)
        findings.append(Finding(what, stated, found, "", "none", found == stated and role in whole, note))
    return findings, whole


def _macs(profile: Profile, dataset: Dataset) -> list[Finding]:
    assert profile.models is not None
    path, findings = profile.beside(profile.models.student), []
    for one in profile.inference:
        found = macs_of(path, "student", len(dataset.classes), profile.models.resolution_px[one.name])
        same = found == one.cost_macs
        findings.append(Finding(f"MACs, {one.name}", one.cost_macs / 1e6, found / 1e6, "M", "none", same))
    return findings


def _clean(profile: Profile, dataset: Dataset) -> list[Finding]:
    """Compare accuracies on the very images that were measured: only rounding may move a few of them."""
    assert profile.models is not None
    stated = profile.provenance.get("clean_accuracy", {})
    model = exported(profile.beside(profile.models.student), "student", len(dataset.classes))
    names = {profile.models.resolution_px[name]: name for name in stated}
    found = accuracies_by_resolution(model, dataset, list(names), profile.provenance["seeds"][0])
    return [
        Finding(
            f"accuracy on clean images, {name}", 100 * stated[name], 100 * found[px], "%", "0.5 points",
            abs(stated[name] - found[px]) <= 0.005,
        )
        for px, name in names.items()
    ]  # fmt: skip


def _latencies(profile: Profile, dataset: Dataset, tolerance: float) -> list[Finding]:
    assert profile.models is not None
    model = exported(profile.beside(profile.models.student), "student", len(dataset.classes))
    findings = []
    measured = [one for one in profile.inference if one.latency_s is not None]
    served = [Served(model, profile.models.resolution_px[one.name]) for one in measured]
    for one, now in zip(measured, latencies(profile, served), strict=True):
        assert one.latency_s is not None
        found = now.usual_s
        holds = 1 / (1 + tolerance) <= found / one.latency_s <= 1 + tolerance
        stated_us, found_us = 1e6 * one.latency_s, 1e6 * found
        allowed = f"{100 * tolerance:g} %"
        findings.append(Finding(f"latency per image, {one.name}", stated_us, found_us, "us", allowed, holds))
    return findings


def _stream(profile: Profile, jobs: int, corruption: str) -> list[Finding]:
    """Compare one stream's accuracies, frozen and retrained, with the table's; more than chance is a change."""
    facts, models = profile.provenance, profile.models
    assert models is not None
    slots, per_slot, seed = facts["slots"], facts["samples_per_slot"], facts["seeds"][0]
    fullest = fullest_ratio(profile)
    work = [Assignment(corruption, seed, (Plan(ratio, everywhere=True),)) for ratio in (0.0, fullest)]
    # Nothing is kept: what is measured anew must not come from an earlier measurement.
    runs = measured_runs(profile, work, slots, per_slot, jobs, None, lambda what, part: None)
    findings = []
    for run in runs:
        for inference in models.resolution_px:
            findings.append(_of_run(profile, run, inference, run.plan.ratio == 0.0, len(facts["seeds"]), per_slot))
    return findings


def _of_run(profile: Profile, run: LearningRun, inference: str, frozen: bool, seeds: int, per_slot: int) -> Finding:
    entries = {
        one.severity: one for one in profile.table if (one.corruption, one.inference) == (run.corruption, inference)
    }
    said = [entries[severity].accuracy if frozen else entries[severity].retrained or 0.0 for severity in SEVERITIES]
    parts = [run.at(severity, inference) for severity in SEVERITIES]
    stated, found = float(np.mean(said)), float(np.mean([part.mean() for part in parts]))
    samples = sum(len(part) for part in parts) * per_slot
    # The stated mean is over all seeds, this stream among them.
    sigma = float(np.sqrt(stated * (1 - stated) / samples * (1 + 1 / seeds)))
    allowed = SIGMAS * sigma + 0.005
    what = f"{run.corruption}, {'frozen' if frozen else 'retrained'}, {inference}"
    return Finding(
        what, 100 * stated, 100 * found, "%", f"{100 * allowed:.2f} points", abs(stated - found) <= allowed
    )  # fmt: skip


def decayed(findings: Sequence[Finding]) -> list[Finding]:
    """Return the numbers that no longer hold."""
    return [finding for finding in findings if not finding.holds]
