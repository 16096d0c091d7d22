"""Control groups of our own: serving in one, retraining in another, which is worth less where both want the processor.

Niceness is of threads, so that a retraining of many threads outweighs a serving of few; a group's weight is that of all
threads in it together. Groups can be made where the service's own was delegated to it (systemd's `Delegate=cpu`).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orric.edge.probes import own_cgroup
from orric.exceptions import EdgeError

SERVING, RETRAINING = "serving", "retraining"
# The kernel's own, which serving keeps.
SERVING_WEIGHT = 100


def divide(weight: int, cgroup: Path | None = None) -> Path:
    """Put all processes of our group into one for serving, beside an empty one for retraining.

    Args:
        weight: Of retraining, 1 to 10000; serving has the kernel's own of 100.
        cgroup: Our group; left out, that of this process.

    Returns:
        The group for retraining.

    Raises:
        EdgeError: The group is not ours to divide.
    """
    own = cgroup or own_cgroup()
    where, remedy = f"control group {own}", "let systemd delegate it (Delegate=cpu, ProtectControlGroups=no)"
    try:
        if "cpu" not in (own / "cgroup.controllers").read_text().split():
            raise EdgeError(where, "has no controller of the processor", remedy)
        for name in (SERVING, RETRAINING):
            (own / name).mkdir(exist_ok=True)
        # The kernel gives controllers to the groups in a group only where no process is in it itself.
        moved = (own / "cgroup.procs").read_text().split()
        try:
            for process in moved:
                enter(own / SERVING, int(process))
            (own / "cgroup.subtree_control").write_text("+cpu")
            (own / RETRAINING / "cpu.weight").write_text(str(weight))
        except OSError:
            with suppress(OSError):
                for process in moved:
                    enter(own, int(process))
            raise
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise EdgeError(where, f"cannot be divided ({found})", remedy) from None
    return own / RETRAINING


def enter(group: Path, process: int) -> None:
    """Put a process into a group, with all that it starts from now on; one that has ended needs none."""
    with suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(process))
