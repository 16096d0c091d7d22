"""Equal parts and fixed configurations: the baseline that Ekya calls uniform."""

from __future__ import annotations

from typing import ClassVar

from orric.allocators.base import Slot
from orric.allocators.streams import MultiStreamAllocator, Pair
from orric.configuration import Allocation
from orric.objective import feasible


class UniformShare(MultiStreamAllocator):
    """Every stream the same part of its GPU, parted between inference and retraining in a fixed proportion.

    The uniform baseline of Ekya (Bhardwaj et al., NSDI 2022). Configurations are fixed: the best inference, and of the
    retraining configurations that cost something the middle one (of an even number the cheaper). Where the fixed one
    does not fit its part of the stream's budget, the dearest that does: at the least the cheapest inference, which may
    use the part meant for retraining, and no retraining. Equal parts are those of `parts_evenly`. O(K (M + N)) per
    slot.

    Attributes:
        inference_part: The part of a stream's budget that is for inference, in (0, 1].
    """

    name: ClassVar[str] = "uniform"
    inference_part: ClassVar[float] = 0.5

    def decide(self, slot: Slot) -> Allocation:
        parts = self.parts_evenly(slot)
        pairs = [self._pair(k, requests, parts[k]) for k, requests in enumerate(slot.requests)]
        return self.allocation(pairs, f"equal parts, {self.inference_part:.0%} to inference")

    def _pair(self, k: int, requests: float, part_macs: float) -> Pair:
        serving = self.inference_part * part_macs
        inference = self.best_inference(k, 0, requests, serving)
        beside = self.inference_costs_macs[k][inference]
        costs = self.retraining_costs_macs[k]
        for retraining in range(len(costs) // 2, 0, -1):
            # The second test is the budget's; the first alone might miss it by rounding.
            if requests * costs[retraining] <= part_macs - serving and feasible(
                requests, costs[retraining], beside, part_macs
            ):
                return retraining, inference
        return 0, inference


class Uniform30(UniformShare):
    """Uniform share with 30 % of every stream's part for inference, 70 % for retraining."""

    name: ClassVar[str] = "uniform-30"
    inference_part: ClassVar[float] = 0.3


class Uniform50(UniformShare):
    """Uniform share with half of every stream's part for inference, half for retraining."""

    name: ClassVar[str] = "uniform-50"
    inference_part: ClassVar[float] = 0.5


class Uniform90(UniformShare):
    """Uniform share with 90 % of every stream's part for inference, 10 % for retraining."""

    name: ClassVar[str] = "uniform-90"
    inference_part: ClassVar[float] = 0.9
