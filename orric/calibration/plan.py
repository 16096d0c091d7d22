"""What a calibration is to measure, and the learning runs that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from orric.calibration.checkpoint import Checkpoint
from orric.calibration.learning_run import (
    CLEAN,
    SPELLS,
    Assignment,
    LearningRun,
    Plan,
    Progress,
    learning_runs,
)
from orric.calibration.pretraining import RESOLUTIONS_PX
from orric.exceptions import ScenarioError, nearest
from orric.profile import Profile
from orric.real_models import Training
from orric.vision.corruptions import CORRUPTIONS
from orric.workers import in_parallel

RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MIDDLE_RATIOS = (0.2, 0.3, 0.5)
# The simplest form of a curve has three parameters, and its residuals a variance.
LEAST_POINTS = 6
# Samples of small slots; and corruptions whose streams of other kinds are validated.
SMALL_SLOTS = (20, 60)
CHECKED = 2
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "weather": ("snow", "frost", "fog", "brightness", "spatter"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
    "all": tuple(CORRUPTIONS),
}
# Digits have no colours to saturate and are drawn too coarsely for most of the others.
USUAL_CORRUPTIONS = {"digits": tuple(CORRUPTIONS)[:5]}


@dataclass(frozen=True)
class Calibration:
    """How much to measure.

    Attributes:
        dataset: Name of the data set.
        student: Weights of the student, or its ONNX model.
        teacher: Weights of the teacher, or its ONNX model.
        data: Where the data set's files lie, None for an embedded one.
        name: Of the profile; the data set's when left out.
        corruptions: What streams drift through.
        ratios: Sampling ratios of the retraining configurations; 0 is one of them.
        resolutions_px: Of the inference configurations, the largest first.
        slots: Slots of every learning run.
        per_slot: Samples per slot.
        seeds: Seeds of the learning runs; the one after the last validates.
        training: How the student is retrained.
        jobs: Worker processes.
    """

    dataset: str
    student: Path
    teacher: Path
    data: Path | None = None
    name: str | None = None
    corruptions: tuple[str, ...] = USUAL_CORRUPTIONS["digits"]
    ratios: tuple[float, ...] = RATIOS
    resolutions_px: tuple[int, ...] = RESOLUTIONS_PX
    slots: int = 25
    per_slot: int = 200
    seeds: tuple[int, ...] = (1,)
    training: Training = field(default_factory=Training)
    jobs: int = 2

    @property
    def fullest_ratio(self) -> float:
        """The largest sampling ratio."""
        return max(self.ratios)

    def __post_init__(self) -> None:
        """Refuse what could not be fitted in the end.

        Raises:
            ScenarioError: There are too few ratios and seeds, or 0 is not among the ratios.
        """
        if len(self.ratios) * len(self.seeds) < LEAST_POINTS:
            found = f"{len(self.ratios)} ratios and {len(self.seeds)} seeds are too few points for a curve"
            raise ScenarioError("calibration", found, f"give {LEAST_POINTS} in all, more ratios or more seeds")
        if min(self.ratios) != 0:
            raise ScenarioError("calibration", f"the least ratio is {min(self.ratios):g}", "0 must be one of them")
        if round(self.fullest_ratio * self.per_slot) < 1:
            found = f"the largest ratio, {self.fullest_ratio:g}, takes none of {self.per_slot} samples"
            raise ScenarioError("calibration", found, "give a larger one")

    def plans(self) -> tuple[Plan, ...]:
        """Return how the students of a fitted stream are retrained.

        What profits and the accuracy table rest on is measured at every resolution.
        """
        fixed = (Plan(one, everywhere=True, looked_at=one == self.middle_ratio) for one in self.measured_ratios)
        return (*fixed, Plan(SPELLS))

    @property
    def middle_ratio(self) -> float:
        """The ratio at which students are looked at under other drifts: one in the middle."""
        between = [ratio for ratio in self.ratios if ratio in MIDDLE_RATIOS]
        return between[len(between) // 2] if between else min(ratio for ratio in self.ratios if ratio > 0)

    @property
    def measured_ratios(self) -> tuple[float, ...]:
        """The ratios that students are retrained at: all, or of many the ends, the least and a middle one.

        A curve bends below the least ratio and is all but straight above it, so that a second seed tells more of it
        than further ratios do.
        """
        above = [ratio for ratio in self.ratios if ratio > 0]
        some = {0.0, min(above), self.middle_ratio, max(above)}
        return tuple(sorted(some)) if len(some) * len(self.seeds) >= LEAST_POINTS else self.ratios

    def fitted_streams(self) -> list[Assignment]:
        """Return the streams that curves and tables are made of: through the severities of every corruption, and clean.

        Students are measured in every inference configuration, since it is not known yet which one is the best.
        """
        plans, corruptions = self.plans(), self.corruptions
        fitted = [Assignment(c, seed, plans, looked_at=corruptions) for c in corruptions for seed in self.seeds]
        return fitted + [Assignment(CLEAN, seed, plans[:-1], looked_at=corruptions) for seed in self.seeds]

    def other_streams(self, inference: str) -> list[Assignment]:
        """Return the streams that validate, and those of few samples a slot and of few classes.

        Of the latter two there are some to fit and some to validate; of spells without retraining, of turns and of
        returns to clean images some to validate.

        Args:
            inference: The configuration that they are measured in.
        """
        corruptions, first, fresh = self.corruptions, self.seeds[0], self.seeds[-1] + 1
        validating = [Assignment(c, fresh, (Plan(SPELLS),)) for c in corruptions]
        middle = (Plan(self.middle_ratio),)
        both = (*middle, Plan(SPELLS))
        special: list[Assignment] = []
        for c in corruptions:
            special += [Assignment(c, first, middle, per_slot=few) for few in self.few]
            special += [Assignment(c, first, (Plan(0.0), *middle), slots=self.slots // 2, few_classes=True)]
        for c in corruptions[:CHECKED]:
            others = tuple(one for one in corruptions if one != c)
            special += [Assignment(c, fresh, both, per_slot=few) for few in self.few]
            special += [
                Assignment(c, fresh, both, slots=self.slots // 2, few_classes=True),
                Assignment(c, fresh, both, "turns", others), Assignment(c, fresh, both, "returns"),
            ]  # fmt: skip
        return [replace(one, inference=inference) for one in (*validating, *special)]

    @property
    def few(self) -> tuple[int, ...]:
        """Samples of the slots that are smaller than usual."""
        return tuple(few for few in SMALL_SLOTS if few < self.per_slot)


def named_corruptions(names: Sequence[str]) -> tuple[str, ...]:
    """Return corruptions by their names and those of groups, each once, in order.

    Raises:
        ScenarioError: A name is unknown.

    >>> named_corruptions(["fog", "noise"])
    ('fog', 'gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise')
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in GROUPS and name not in CORRUPTIONS:
            raise ScenarioError("corruptions", f"{name!r} is unknown", nearest(name, [*GROUPS, *CORRUPTIONS]))
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    return tuple(found)


def conditions(profile: Profile, slots: int, per_slot: int, hashes: dict[str, str], versions: dict[str, Any]) -> Any:
    """Return what measured accuracies depend on, as plain values."""
    assert profile.models is not None
    return {
        "models": profile.models.model_dump(exclude={"student", "teacher", "data"}),
        "training": profile.training.model_dump(),
        "selector": {name: one.model_dump(exclude={"curve"}) for name, one in profile.selector.items()},
        "slots": slots,
        "per_slot": per_slot,
        "hashes": hashes,
        "versions": versions,
    }


def measured_runs(
    profile: Profile,
    work: Sequence[Assignment],
    slots: int,
    per_slot: int,
    jobs: int,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[LearningRun]:
    """Make learning runs on several cores, or take those up that were made before an interruption.

    Args:
        profile: With [models].
        work: The streams.
        slots: Slots of every stream.
        per_slot: Samples per slot.
        jobs: Worker processes.
        checkpoint: Keeps every stream when it is done; None keeps nothing.
        progress: Called with what is being done and the part that is done.

    Returns:
        The runs in the order of the work, whichever worker was quicker.
    """
    parts = [asdict(assignment) for assignment in work]
    known: dict[int, Any] = {}
    if checkpoint is not None:
        known = {index: found for index, part in enumerate(parts) if (found := checkpoint.load(part)) is not None}
    missing = [index for index in range(len(work)) if index not in known]
    if known:
        progress(f"going on after {len(known)} of {len(work)} streams", len(known) / len(work))
    calls = [(profile, work[index], slots, per_slot) for index in missing]
    for place, runs in in_parallel(learning_runs, calls, jobs):
        index = missing[place]
        known[index] = [run.as_table() for run in runs]
        if checkpoint is not None:
            checkpoint.keep(parts[index], known[index])
        corruption = work[index].corruption
        what = "retraining on clean images" if corruption == CLEAN else f"retraining under {corruption}"
        progress(what, len(known) / len(work))
    return [LearningRun.from_table(table) for index in range(len(work)) for table in known[index]]
