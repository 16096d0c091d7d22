"""Heuristics that serve one purpose first and give the other what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Indices, SingleStreamAllocator, Task, best_affordable


class _Greedy(SingleStreamAllocator):
    """Chooses by the configurations alone: slots of different tasks are alike."""

    def choose_many(
        self, tasks: Sequence[Task], rngs: Sequence[np.random.Generator], requests: Array, budgets_macs: Array
    ) -> tuple[Indices, Indices]:
        self.reset(tasks[0], rngs[0])
        return self.choose(np.arange(1, len(requests) + 1), requests, budgets_macs)


class InferenceGreedy(_Greedy):
    """Best affordable inference, the rest to retraining (a heuristic of the ORRIC paper).

    O(M + N) per slot.
    """

    name: ClassVar[str] = "inference-greedy"

    def choose(self, slots: Array, requests: Array, budgets_macs: Array) -> tuple[Indices, Indices]:
        requests, budgets_macs = requests[:, None], budgets_macs[:, None]
        every_i, every_j = np.arange(len(self.retraining_profits)), np.arange(len(self.inference_profits))
        inference = best_affordable(self.affordable(requests, budgets_macs, 0, every_j))
        retraining = best_affordable(self.affordable(requests, budgets_macs, every_i, inference[:, None]))
        return retraining, inference


class InferenceOnly(InferenceGreedy):
    """Best affordable inference by a frozen student (Student-Only, Inference-Only in the ORRIC paper)."""

    name: ClassVar[str] = "inference-only"

    def choose(self, slots: Array, requests: Array, budgets_macs: Array) -> tuple[Indices, Indices]:
        _, inference = super().choose(slots, requests, budgets_macs)
        return np.zeros_like(inference), inference

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        """Take the inference of which most is right and in time; of equals the better one."""
        every = np.arange(len(self.inference_profits))
        fits = self.affordable(requests[:, None], budgets_macs[:, None], 0, every)
        worth = np.where(fits, self.inference_profits * in_time[:, 0], -np.inf)
        inference = np.where(fits[:, 0], len(every) - 1 - worth[:, ::-1].argmax(axis=1), 0)
        return np.zeros_like(inference), inference


class RetrainingGreedy(_Greedy):
    """Best affordable retraining, the rest to inference: Inference-Greedy with the roles exchanged."""

    name: ClassVar[str] = "retraining-greedy"

    def choose(self, slots: Array, requests: Array, budgets_macs: Array) -> tuple[Indices, Indices]:
        requests, budgets_macs = requests[:, None], budgets_macs[:, None]
        every_i, every_j = np.arange(len(self.retraining_profits)), np.arange(len(self.inference_profits))
        retraining = best_affordable(self.affordable(requests, budgets_macs, every_i, 0))
        inference = best_affordable(self.affordable(requests, budgets_macs, retraining[:, None], every_j))
        return retraining, inference


class KnowledgeDistillation(RetrainingGreedy):
    """Best retraining and best inference, for ample budgets (a heuristic of the ORRIC paper).

    Where that pair does not fit, retraining is its first preference: it takes the dearest retraining that
    does fit and then the best inference beside it. On one stream it therefore decides as Retraining-Greedy
    does; the paper names them for the regimes in which ORRIC turns into them.
    """

    name: ClassVar[str] = "knowledge-distillation"
