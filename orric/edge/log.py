"""The daemon's log: one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

LOGGER = logging.getLogger("orric.edge")
# A reason to refuse requests is told once in so many seconds.
QUIET_S = 10.0


def tell(level: str, event: str, **values: Any) -> None:
    """Write a line of the log: a JSON object."""
    LOGGER.log(getattr(logging, level.upper()), event, extra={"values": values})


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "values", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info).splitlines()[-1]
        return json.dumps(line, default=str)


def log_to_stderr() -> None:
    """Let the log go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


class Repeated:
    """Tells of what happens again and again: at once, then once in a while with how often it happened since.

    Args:
        event: The line's name.
        now: The time in seconds.
        tell: Writes a line.
    """

    def __init__(self, event: str, now: Callable[[], float] = time.monotonic, tell: Callable[..., None] = tell) -> None:
        self._event, self._now, self._tell = event, now, tell
        self._lock = threading.Lock()
        # By reason: when it may be told again, how often it was not told, and what there was to tell.
        self._held: dict[str, tuple[float, int, dict[str, Any]]] = {}

    def note(self, reason: str, **values: Any) -> None:
        """Tell of a reason, or count it."""
        with self._lock:
            now = self._now()
            until_s, count, _ = self._held.get(reason, (0.0, 0, {}))
            told = now >= until_s
            self._held[reason] = (now + QUIET_S, 0, {}) if told else (until_s, count + 1, values)
        if told:
            self._say(reason, count, values)

    def flush(self) -> None:
        """Tell of what was counted and is due."""
        with self._lock:
            now = self._now()
            due = [(name, held) for name, held in self._held.items() if held[1] and now >= held[0]]
            self._held.update((name, (now + QUIET_S, 0, {})) for name, _ in due)
        for reason, (_, count, values) in due:
            self._say(reason, count - 1, values)

    def _say(self, reason: str, more: int, values: dict[str, Any]) -> None:
        self._tell("warning", self._event, reason=reason, **values, **({"more": more} if more else {}))
