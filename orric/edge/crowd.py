"""All connections of a listener: how many there may be, how long they may take, and which go first."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from orric.edge.config import Server
from orric.edge.log import tell
from orric.edge.sender import Senders
from orric.exceptions import EdgeError

if TYPE_CHECKING:
    from orric.edge.connection import Connection

# How often deadlines are looked at: no request has a timer of its own.
SWEEP_S = 0.25
# Files beside connections: models, the store and its journal, pipes of the retraining process, probes, libraries.
RESERVED_FILES = 160
FEWEST = 16


class Phase(IntEnum):
    """Where a connection stands; those before UNDER_WAY may be closed when there are too many."""

    CLOSING = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    UNDER_WAY = 4
    CLOSED = 5


@dataclass(frozen=True)
class Bounds:
    """What a listener's connections may take; see `Server`."""

    connections: int
    per_address: int
    buffer_bytes: int
    body_bytes: int
    head_bytes: int
    headers: int
    head_s: float
    body_s: float
    answer_s: float
    idle_s: float

    @classmethod
    def of(cls, server: Server, files: int) -> Bounds:
        """Return what is configured, lowered to what so many open files allow.

        Raises:
            EdgeError: They allow next to nothing.
        """
        allowed = files - RESERVED_FILES
        if allowed < FEWEST:
            where = "limit of open files"
            raise EdgeError(where, f"is {files}", f"raise it to {RESERVED_FILES + FEWEST} at least (ulimit -n)")
        return cls(
            min(server.connections, allowed), server.connections_per_address,
            max(server.buffer_bytes, server.body_bytes), server.body_bytes, server.head_bytes, server.headers,
            server.head_s, server.body_s, server.answer_s, server.idle_s,
        )  # fmt: skip


def open_files() -> int:
    """Return how many files this process may open, after raising that as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass  # what there is must do
    limit = wanted if soft == resource.RLIM_INFINITY else soft
    # Those that are open already, but for the few that the reserve is for, are no connections of ours.
    return limit - max(len(list(Path("/proc/self/fd").iterdir())) - 64, 0) if Path("/proc/self/fd").exists() else limit


class Crowd:
    """The connections of one listener; everything here runs in its event loop.

    Args:
        bounds: What they may take.
        senders: Knows the trusted proxies, whose connections are many clients'.
        closed: Called with the reason when one is closed that would have stayed.
    """

    def __init__(self, bounds: Bounds, senders: Senders, closed: Callable[[str], None]) -> None:
        self.bounds, self.closed = bounds, closed
        self._senders = senders
        # Of each address, the one that was busy longest ago first.
        self._by_address: dict[str, dict[Connection, None]] = {}
        self.count = 0
        # Those that a request of was answered: a flood of new ones does not drive them out.
        self._proven: WeakSet[Connection] = WeakSet()
        self.buffered_bytes = 0
        # When the shutdown began: requests whose first byte came before are answered.
        self.drained_s: float | None = None

    def __iter__(self) -> Iterator[Connection]:
        return iter([one for own in self._by_address.values() for one in own])

    def admit(self, connection: Connection) -> bool:
        """Take a connection in, if need be in the place of another; False where none may go."""
        own = self._by_address.get(connection.address, {})
        room = True
        if len(own) >= self.bounds.per_address and not self._senders.trusts(connection.peer):
            room = self._close_one(own)
        elif self.count >= self.bounds.connections:
            room = self._close_one(max(self._by_address.values(), key=len)) or self._close_one(own)
        if room:
            self._by_address.setdefault(connection.address, {})[connection] = None
            self.count += 1
        return room

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        own = self._by_address.get(connection.address)
        if own is not None and connection in own:
            del own[connection]
            self.count -= 1
            if not own:
                del self._by_address[connection.address]

    def rest(self, connection: Connection) -> None:
        """Note that a connection was busy just now: others go before it."""
        self._proven.add(connection)
        own = self._by_address.get(connection.address)
        if own is not None and connection in own:
            del own[connection]
            own[connection] = None

    def hold(self, size: int) -> None:
        """Count bytes of a body that are held, and make room for them where they are too many."""
        self.buffered_bytes += size
        while self.buffered_bytes > self.bounds.buffer_bytes:
            # Of whoever holds most, so that many bodies of one client's are not kept for the one of another's.
            held = [one for one in self if one.phase == Phase.BODY]
            if not held:
                return  # whoever asks next is told to come again
            sums = {one.address: 0 for one in held}
            for address in sums:
                sums[address] = sum(one.held_bytes for one in self._by_address[address])
            largest = max(held, key=lambda one: (sums[one.address], one.held_bytes))
            self.closed("buffer")
            largest.make_room()

    @property
    def is_full(self) -> bool:
        """Whether so many bytes are held that no more may come."""
        return self.buffered_bytes > self.bounds.buffer_bytes

    def release(self, size: int) -> None:
        """Count bytes that are held no more."""
        self.buffered_bytes -= size

    def _close_one(self, own: dict[Connection, None]) -> bool:
        """Close the one that was of use longest ago, first of those that never were; none that is being answered."""
        idle = [one for one in own if one.phase < Phase.UNDER_WAY]
        if not idle:
            return False
        found = next((one for one in idle if one not in self._proven), idle[0])
        self.closed("crowd")
        found.give_way()
        return True

    async def watch(self, swept: Callable[[], None]) -> None:
        """Look at deadlines, again and again.

        Args:
            swept: Called each time.
        """
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for one in self:
                if now_s > one.deadline_s:
                    try:
                        one.expire()
                    except Exception as error:  # of one connection, whose deadline is all that it may cost
                        one.deadline_s = inf
                        tell("error", "deadline", error=f"{type(error).__name__}: {error}")
            swept()
