"""An allocator for many streams in a package of its own."""

from __future__ import annotations

import orric
from orric.objective import feasible


class EveryOther(orric.MultiStreamAllocator):
    """Half of the streams retrain in odd slots, the other half in even ones.

    Every stream gets its part of its GPU's budget by demand. Whose slot it is takes the dearest retraining that fits
    beside its cheapest inference, and everybody the best inference that then fits. O(K (M + N)) per slot.
    """

    name = "every-other"

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        """Choose the configurations of every stream for a slot."""
        pairs = []
        for k, part_macs in enumerate(self.parts_by_demand(slot)):
            requests, retraining = slot.requests[k], 0
            if (slot.index + k) % 2:
                cheapest = self.inference_costs_macs[k][0]
                for i, cost_macs in enumerate(self.retraining_costs_macs[k]):
                    if feasible(requests, cost_macs, cheapest, part_macs):
                        retraining = i
            pairs.append((retraining, self.best_inference(k, retraining, requests, part_macs)))
        return self.allocation(pairs, f"streams of {'odd' if slot.index % 2 else 'even'} slots retrain")
