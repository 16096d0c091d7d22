"""Retraining of one stream in the cloud: up the link, labelled and trained on there, and down again."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from orric.configuration import RetrainingConfiguration
from orric.exceptions import extra
from orric.scenario.cloud import Cloud

with extra("sim"):
    import simpy


class Link:
    """The two directions of the link; transfers wait for their turn."""

    def __init__(self, environment: simpy.Environment) -> None:
        self.up, self.down = simpy.Resource(environment), simpy.Resource(environment)


class CloudJob:
    """One retraining in the cloud. It asks nothing of a GPU, and goes on whatever becomes of the slot.

    Args:
        environment: Keeps the time.
        slot: Whose allocation it is, from 1.
        collected: The slot whose samples it takes.
        retraining: The configuration.
        requests: D(t) that it was decided for.
        samples: How many of them are sent.
        cloud: Bandwidths, delay and sizes.
        link: Shared with the other streams.
        done: Called when the weights are there.
    """

    def __init__(
        self,
        environment: simpy.Environment,
        slot: int,
        collected: int,
        retraining: RetrainingConfiguration,
        requests: float,
        samples: int,
        cloud: Cloud,
        link: Link,
        done: Callable[[CloudJob], None],
    ) -> None:
        self.environment, self._cloud, self._link, self._done = environment, cloud, link, done
        self.slot, self.collected, self.retraining = slot, collected, retraining
        self._sent_s = samples * cloud.sample_bytes / cloud.uplink_bytes_per_s
        self._worked_s = requests * retraining.cost_macs / cloud.macs_per_s
        self.stage = "upload"
        self.expected_s = float("inf")
        self.process = environment.process(self._run())

    def _run(self) -> Generator[simpy.Event, Any, None]:
        cloud, timeout = self._cloud, self.environment.timeout
        try:
            with self._link.up.request() as turn:
                yield turn
                yield timeout(self._sent_s)
            self.stage = "retraining in the cloud"
            yield timeout(cloud.delay_s + self._worked_s)
            self.stage = "download"
            with self._link.down.request() as turn:
                yield turn
                yield timeout(cloud.weights_bytes / cloud.downlink_bytes_per_s)
            # Nothing can hold the last leg up, so its end is known.
            self.expected_s = self.environment.now + cloud.delay_s
            yield timeout(cloud.delay_s)
        except simpy.Interrupt:
            return
        self._done(self)

    def stop(self) -> None:
        """Give it up."""
        if self.process.is_alive:
            self.process.interrupt("over")

    def complete(self) -> None:
        """Be done now: but for the order of what happens at one instant it is."""
        self.stop()
        self._done(self)
