"""Points at which tests let the daemon die or fail: named places, and nothing else, in everyday use."""

from __future__ import annotations

import errno
import os
import signal
import time

VARIABLE = "ORRIC_FAULT"
_counts: dict[str, int] = {}


def point(name: str) -> str | None:
    """Pass a named point.

    The environment variable ORRIC_FAULT = "NAME:ACTION" or "NAME:ACTION:N" lets the N-th passing (the first when left
    out) of a point "kill" the process, "hang" it, find the disk "full", or do what the place itself knows.

    Returns:
        The action where the place must do it itself, else None.
    """
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return None
    where, action, *number = asked.split(":")
    if where not in (name, "*"):
        return None
    _counts[where] = _counts.get(where, 0) + 1
    if _counts[where] != int(number[0] if number else 1):
        return None
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "hang":
        time.sleep(3600)
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return action
