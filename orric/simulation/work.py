"""What serving and retraining cost in seconds at the whole GPU."""

from __future__ import annotations

from dataclasses import dataclass

from orric.configuration import InferenceConfiguration, RetrainingConfiguration
from orric.profile import Profile
from orric.scenario.gpu import Gpu

STAGES = ("sample", "label", "train", "swap")


@dataclass(frozen=True)
class BatchWork:
    """Seconds that a batch of b requests takes at the whole GPU: fixed_s + b each_s."""

    fixed_s: float
    each_s: float

    @property
    def free(self) -> bool:
        """Whether they take no time."""
        return self.fixed_s == 0 and self.each_s == 0


def batch_work(profile: Profile, inference: InferenceConfiguration, gpu: Gpu) -> BatchWork:
    """Return what batches take; see `Profile.batch_seconds`."""
    return BatchWork(*profile.batch_seconds(inference, gpu.macs_per_s))


def stages(profile: Profile, retraining: RetrainingConfiguration, requests: float, gpu: Gpu) -> dict[str, float]:
    """Return what every stage of retraining takes, in seconds at the whole GPU; together D(t) C^T_i / capacity."""
    whole = requests * retraining.cost_macs / gpu.macs_per_s
    rest = 1 - profile.swap.sampling_part - profile.swap.swapping_part
    label = 0.0
    if profile.teacher and profile.models and retraining.cost_macs:
        labelled = profile.sampling_ratio(retraining.name)
        label = min(labelled * profile.teacher.cost_macs / retraining.cost_macs, 1)
    parts = (profile.swap.sampling_part, rest * label, rest * (1 - label), profile.swap.swapping_part)
    return {stage: whole * part for stage, part in zip(STAGES, parts, strict=True)}
