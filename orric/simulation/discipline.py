"""How a stream's queue serves, and whom it turns away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Discipline:
    """How a queue serves.

    Attributes:
        workers: Batches in service at once, c.
        most: Requests in a batch at most.
        wait_s: How long the first request waits at most for a batch to fill.
        limit: Requests that may wait, those in service not counted; whoever comes then first lets a batch start, if one
            can.
        deadline_s: Requests served later than this after their arrival are late.
        shed: Who is turned away when the queue is full: the newcomer ("even", "newest"), who has waited longest
            ("oldest"), or all who wait, whatever the limit ("keep-latest").
        patience_s: How long requests wait at most for their service to begin, times a draw.
        clients: Of a closed stream: how many ask, wait for their answer, and think before they ask again.
        thinking_s: How long they think on average.
    """

    workers: int = 1
    most: int = 1
    wait_s: float = 0.0
    limit: int = 2**62
    deadline_s: float = float("inf")
    shed: str = "even"
    patience_s: float = float("inf")
    clients: int = 0
    thinking_s: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether `Queue` can serve so: whoever is in is served, and whoever finds no room is turned away."""
        return self.shed in ("even", "newest") and self.patience_s == float("inf") and not self.clients
