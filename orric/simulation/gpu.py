"""What a GPU's budget and an allocation's shares mean in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from orric.configuration import InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.profile import Profile
from orric.scenario import Scenario


@dataclass(frozen=True)
class Work:
    """The work of one slot at the speeds that its shares give.

    Attributes:
        service_s: Time to serve one request, infinity at share 0.
        labelling_s: Time for the teacher to label the samples.
        training_s: Time for the student to train on them.
    """

    service_s: float
    labelling_s: float
    training_s: float

    @property
    def retraining_s(self) -> float:
        """Time of the whole retraining."""
        return self.labelling_s + self.training_s


def work_of(
    scenario: Scenario,
    profile: Profile,
    decided: StreamAllocation,
    retraining: RetrainingConfiguration,
    inference: InferenceConfiguration,
    requests: float,
    budget_macs: float,
) -> Work:
    """Turn a slot's allocation into times.

    Shares are parts of the whole GPU. A share left out is what the configuration costs of the budget; what
    then remains of the budget idles or speeds up inference, as the scenario's `spare` says. A request takes
    latency_s / share, where the profile measured it (scaled from the measured device to this GPU), and
    cost_macs / (capacity x share) elsewhere.

    Args:
        scenario: Capacity, slot length and `spare`.
        profile: Teacher's cost and measured device.
        decided: The allocation.
        retraining: Its retraining configuration.
        inference: Its inference configuration.
        requests: The number of requests that the decision was made for.
        budget_macs: C(t).
    """
    gpu = scenario.gpu[0]
    whole = gpu.macs_per_s * scenario.slot_s
    retraining_macs = requests * retraining.cost_macs
    retraining_share = decided.retraining_share
    if retraining_share is None:
        retraining_share = retraining_macs / whole
    inference_share = decided.inference_share
    if inference_share is None:
        inference_share = requests * inference.cost_macs / whole
        if scenario.spare == "inference":
            inference_share = max(budget_macs / whole - retraining_share, inference_share)
        # An overloaded slot asks for more than there is.
        inference_share = min(inference_share, budget_macs / whole)
    if inference.cost_macs == 0 and inference.latency_s is None:
        service_s = 0.0
    elif inference_share <= 0:
        service_s = float("inf")
    elif inference.latency_s is not None:
        scale = profile.device.macs_per_s / gpu.macs_per_s if profile.device else 1.0
        service_s = inference.latency_s * scale / inference_share
    else:
        service_s = inference.cost_macs / (gpu.macs_per_s * inference_share)
    if retraining_macs == 0:
        return Work(service_s, 0.0, 0.0)
    retraining_s = retraining_macs / (gpu.macs_per_s * retraining_share) if retraining_share > 0 else float("inf")
    labelling_part = 0.0
    if profile.teacher and profile.models:
        labelling_part = min(
            profile.models.sampling_ratio[retraining.name] * profile.teacher.cost_macs / retraining.cost_macs, 1.0
        )
    return Work(service_s, retraining_s * labelling_part, retraining_s * (1 - labelling_part))
