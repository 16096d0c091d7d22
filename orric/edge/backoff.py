"""Less retraining after it was ended by force: a smaller one, then none for some slots, and more again as it succeeds.

It lies behind the allocator, which decides as if nothing had happened: it caps what is executed of a decision, and the
journal says what that was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orric.configuration import RetrainingConfiguration, undominated

# Retrainings that must get through before the next larger one is tried.
SUCCESSES = 2
# Slots without any retraining after the smallest one was ended: 1 at first, then twice as many each time, up to this.
MOST_REST = 32


class Backoff:
    """A cap on the retraining that is executed.

    Args:
        options: The profile's retraining configurations.

    Attributes:
        why: What it steps back for, None where it does not.
    """

    def __init__(self, options: Sequence[RetrainingConfiguration]) -> None:
        self._ladder = undominated(options)
        self._top = len(self._ladder) - 1
        self._cap, self._rest, self._next_rest, self._through = self._top, 0, 1, 0
        self.why: str | None = None

    @property
    def steps(self) -> int:
        """By how many configurations it steps back from the dearest; to none at all while it rests."""
        return self._top - (0 if self._rest else self._cap)

    @property
    def rest(self) -> int:
        """For how many slots more nothing is retrained."""
        return self._rest

    @property
    def most(self) -> str:
        """Name of the dearest configuration that is executed now."""
        return self._ladder[0 if self._rest else self._cap].name

    def executed(self, decided: RetrainingConfiguration) -> RetrainingConfiguration:
        """Return what is executed of a decision."""
        most = self._ladder[0 if self._rest else self._cap]
        return decided if decided.cost_macs <= most.cost_macs else most

    def pass_slot(self) -> None:
        """Take note that a slot has ended."""
        self._rest = max(self._rest - 1, 0)

    def ended(self, executed: RetrainingConfiguration | None, why: str) -> None:
        """Step back, since a retraining was ended by force.

        Args:
            executed: Of which configuration; None where the process did not even start.
            why: In words.
        """
        smaller = [
            at for at, one in enumerate(self._ladder) if executed is not None and 0 < one.cost_macs < executed.cost_macs
        ]
        if smaller:
            self._cap = min(self._cap, smaller[-1])
        else:
            # The present slot passes as well.
            self._rest, self._next_rest = self._next_rest + 1, min(2 * self._next_rest, MOST_REST)
            self._cap = min(self._cap, 1)
        self._through, self.why = 0, why

    def succeeded(self) -> None:
        """Take note that a retraining got through."""
        self._through += 1
        if self._through < SUCCESSES or not self.why:
            return
        self._through, self._next_rest = 0, 1
        self._cap = min(self._cap + 1, self._top)
        if self._cap == self._top:
            self.why = None

    def state(self) -> dict[str, Any] | None:
        """Return plain values for `resume`, None where it does not step back."""
        if self.why is None:
            return None
        return {
            "most": self._ladder[self._cap].name, "rest": self._rest, "next_rest": self._next_rest,
            "through": self._through, "why": self.why,
        }  # fmt: skip

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on where `state` was; a configuration that is not there any more counts for nothing."""
        names = [one.name for one in self._ladder]
        if state is None or state["most"] not in names:
            self._cap, self._rest, self._next_rest, self._through, self.why = self._top, 0, 1, 0, None
            return
        self._cap, self._rest, self._next_rest = names.index(state["most"]), state["rest"], state["next_rest"]
        self._through, self.why = state["through"], state["why"]
