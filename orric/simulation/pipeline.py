"""Retraining, stage by stage: sample, label, train, swap; what every stream's has left, and when it will be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.compiled import compiled
from orric.configuration import RetrainingConfiguration
from orric.simulation.queueing import END_S, SPEED, USAGE, finished
from orric.simulation.work import STAGES

Array = np.ndarray[Any, Any]
COLUMNS = 7


@dataclass(eq=False)
class Job:
    """One retraining on a GPU.

    Attributes:
        slot: Whose allocation it is, from 1.
        collected: The slot whose samples it takes.
        retraining: The configuration.
        whole_macs: What it costs.
        stages: Seconds of each stage at the whole GPU, in order.
        told: Which part of it has been counted as work of a slot.
    """

    slot: int
    collected: int
    retraining: RetrainingConfiguration
    whole_macs: float
    stages: dict[str, float]
    told: float = 0.0


@compiled
def _do(stages: Array, used_s: Array, k: int, work_s: float, use: float) -> None:
    """Do so much of a retraining, stage by stage, at so many seconds of the whole GPU for each second of work."""
    for stage in range(stages.shape[1]):
        done_s = min(stages[k, stage], work_s)
        stages[k, stage] -= done_s
        used_s[k, stage] += done_s * use
        work_s -= done_s


@compiled
def _account(stages: Array, used_s: Array, paces: Array, since_s: Array, which: Array, now_s: float) -> None:
    """Write down what was done until now."""
    for n in range(len(which)):
        k = which[n]
        if now_s > since_s[k]:
            left_s = stages[k].sum()
            if left_s > 0.0 and paces[k, SPEED] > 0.0:
                row = paces[k : k + 1].copy()
                row[0, END_S] = now_s
                rest_s = finished(row, 0.0, 0, since_s[k], left_s)[1]
                _do(stages, used_s, k, left_s - rest_s, paces[k, USAGE] / paces[k, SPEED])
            since_s[k] = now_s


@compiled
def _expect(stages: Array, paces: Array, since_s: Array, expected_s: Array, which: Array) -> None:
    """Say when each will be done at its pace."""
    for n in range(len(which)):
        k = which[n]
        row = paces[k : k + 1].copy()
        row[0, END_S] = np.inf
        expected_s[k] = finished(row, 0.0, 0, since_s[k], stages[k].sum())[0]


class Retrainings:
    """What the retraining of every stream on its GPU has left; one row per stream.

    Args:
        count: Number of streams.

    Attributes:
        jobs: Those under way, by the number of the stream.
        under_way: Whether there is one, shape (count,).
        used_s: By stage, in seconds at the whole GPU, since this was last set to 0, shape (count, stages).
        expected_s: When each will be done at its pace; infinity for never and for none, shape (count,).
    """

    def __init__(self, count: int) -> None:
        self.jobs: dict[int, Job] = {}
        self.under_way = np.zeros(count, bool)
        self.stages, self.used_s = np.zeros((count, len(STAGES))), np.zeros((count, len(STAGES)))
        self._paces, self._since_s = np.zeros((count, COLUMNS)), np.zeros(count)
        self.expected_s = np.full(count, np.inf)

    def begin(self, k: int, job: Job, now_s: float) -> None:
        """Begin a stream's retraining, which stands still until it is given a pace."""
        self.jobs[k], self.under_way[k] = job, True
        self.stages[k] = [job.stages[stage] for stage in STAGES]
        self._paces[k], self._since_s[k], self.expected_s[k] = 0.0, now_s, np.inf

    def end(self, k: int) -> Job:
        """Forget a stream's retraining."""
        self.stages[k], self.expected_s[k], self.under_way[k] = 0.0, np.inf, False
        return self.jobs.pop(k)

    def change(self, which: Array, paces: Array, now_s: float) -> None:
        """Let some go on at other paces from now on.

        Args:
            which: Numbers of the streams, shape (n,).
            paces: Columns as in `queueing`, but for the first, shape (n, 6).
            now_s: The time.
        """
        self.account(which, now_s)
        self._paces[which, 1:] = paces
        _expect(self.stages, self._paces, self._since_s, self.expected_s, which)

    def account(self, which: Array, now_s: float) -> None:
        """Write down what some have done until now."""
        _account(self.stages, self.used_s, self._paces, self._since_s, which, now_s)

    def do(self, k: int, work_s: float) -> None:
        """Write down work that was done at one second of the whole GPU for each of its own."""
        _do(self.stages, self.used_s, k, work_s, 1.0)

    def complete(self, k: int) -> None:
        """Let a stream's retraining be done, but for rounding it is."""
        speed, usage = self._paces[k, SPEED], self._paces[k, USAGE]
        _do(self.stages, self.used_s, k, np.inf, usage / speed if speed else 1.0)

    def scale(self, k: int, factor: float) -> None:
        """Let what is left take so many times as long: it goes on elsewhere."""
        job = self.jobs[k]
        self.stages[k] *= factor
        job.stages = {stage: whole_s * factor for stage, whole_s in job.stages.items()}
        self._paces[k], self.expected_s[k] = 0.0, np.inf

    def stage(self, k: int) -> str:
        """Return the stage that a stream's retraining is in."""
        return next(
            (stage for stage, left_s in zip(STAGES, self.stages[k].tolist(), strict=True) if left_s > 0), "done"
        )

    def progress_macs(self, k: int) -> float:
        """Return what was done of a stream's retraining since this was last asked, in MACs."""
        job = self.jobs[k]
        done = 1 - float(self.stages[k].sum()) / sum(job.stages.values())
        part, job.told = done - job.told, done
        return part * job.whole_macs
