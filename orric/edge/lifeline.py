"""A pipe by which a process notices that the one which started it has gone, whatever it does meanwhile."""

from __future__ import annotations

import os
import threading


class Lifeline:
    """The starting side: as long as it lives and does not let go, the other side lives.

    PR_SET_PDEATHSIG alone would not do: it follows the thread that forked, and the threads which start the retraining
    process end while it works. The writing end is held here alone: the system closes it however this process ends.

    Attributes:
        descriptor: The reading end, for the process that is started; close it here with `started`.
    """

    def __init__(self) -> None:
        self.descriptor, self._held = os.pipe()

    def started(self) -> None:
        """Close the reading end, which the other process has by now."""
        os.close(self.descriptor)

    def let_go(self) -> None:
        """End the other process."""
        os.close(self._held)


def hang_on(descriptor: int) -> None:
    """End this process, in the midst of whatever it does, when the other side has gone.

    Args:
        descriptor: The reading end.
    """

    def watch() -> None:
        os.read(descriptor, 1)  # until the writing end is closed: nobody ever writes
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
