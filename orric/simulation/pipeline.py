"""Retraining of one stream, stage by stage: sample, label, train, swap."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from orric.configuration import RetrainingConfiguration
from orric.exceptions import extra
from orric.simulation.sharing import STILL, Pace

with extra("sim"):
    import simpy


class Job:
    """One retraining, from the samples to the swap.

    Its pace may change at any time; it then goes on with what is left. It ends by being done or by being stopped.

    Args:
        environment: Keeps the time.
        slot: Whose allocation it is, from 1.
        collected: The slot whose samples it takes.
        retraining: The configuration.
        requests: D(t) that it was decided for.
        stages: Seconds of each stage at the whole GPU, in order.
        done: Called when the last stage ends.
    """

    def __init__(
        self,
        environment: simpy.Environment,
        slot: int,
        collected: int,
        retraining: RetrainingConfiguration,
        requests: float,
        stages: dict[str, float],
        done: Callable[[Job], None],
    ) -> None:
        self.environment = environment
        self.slot, self.collected, self.retraining = slot, collected, retraining
        self._stages, self._done = {stage: work_s for stage, work_s in stages.items() if work_s > 0}, done
        self.whole_s, self.whole_macs = sum(stages.values()), requests * retraining.cost_macs
        self._told = 0.0
        # By stage, in seconds of the whole GPU.
        self.used_s = dict.fromkeys(stages, 0.0)
        self.pace, self._since_s = STILL, environment.now
        self._changed = environment.event()
        self.expected_s = float("inf")
        self.process = environment.process(self._run())

    @property
    def stage(self) -> str:
        """The stage that it is in."""
        return next(iter(self._stages), "done")

    @property
    def left_s(self) -> float:
        """What is left of it, in seconds at the whole GPU, when its pace last changed."""
        return sum(self._stages.values())

    def change(self, pace: Pace, now_s: float) -> None:
        """Go on at another pace."""
        self.account(now_s)
        self.pace = pace
        self._expect()
        changed, self._changed = self._changed, self.environment.event()
        changed.succeed()

    def scale(self, factor: float) -> None:
        """Let what is left take so many times as long: it goes on elsewhere."""
        self._stages = {stage: left_s * factor for stage, left_s in self._stages.items()}
        self.whole_s *= factor
        self.pace = STILL

    def account(self, now_s: float) -> None:
        """Write down what was done until now."""
        while self._stages and now_s > self._since_s:
            stage = self.stage
            finish_s = self.pace.finish(self._since_s, self._stages[stage])
            until_s = min(finish_s, now_s)
            left_s, used_s = self.pace.left(self._since_s, until_s, self._stages[stage])
            self.used_s[stage] += used_s
            self._since_s = until_s
            if finish_s > now_s:
                self._stages[stage] = left_s
                return
            del self._stages[stage]
        self._since_s = max(self._since_s, now_s)

    def _expect(self) -> None:
        """Say when it will be done at the present pace."""
        self.expected_s = self.pace.finish(self._since_s, self.left_s)

    def progress(self) -> float:
        """Return which part of the whole was done since it was last asked."""
        done = 1 - self.left_s / self.whole_s
        part, self._told = done - self._told, done
        return part

    def stop(self) -> None:
        """Give it up."""
        if self.process.is_alive:
            self.process.interrupt("over")

    def complete(self) -> None:
        """Be done now: but for rounding it is."""
        self.stop()
        self._finish()

    def _run(self) -> Generator[simpy.Event, Any, None]:
        try:
            while True:
                wait_s = self.expected_s - self.environment.now
                if wait_s == float("inf"):
                    yield self._changed
                    continue
                due, changed = self.environment.timeout(max(wait_s, 0.0)), self._changed
                yield due | changed
                if due.processed and not changed.triggered:
                    break
        except simpy.Interrupt:
            return
        self._finish()

    def _finish(self) -> None:
        for stage, left_s in self._stages.items():
            # Shares in use do not change within a pace, so what was left tells the use.
            self.used_s[stage] += left_s * (self.pace.usage / self.pace.speed if self.pace.speed else 0.0)
        self._stages.clear()
        self._since_s = self.environment.now
        self._done(self)
