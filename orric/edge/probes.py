"""How much of a device is ours in the next slot."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from orric.edge.config import Budget, EdgeConfig
from orric.exceptions import EdgeError, extra

# Each call returns the part of the device that others left since the call before, in [0, 1].
Probe = Callable[[], float]
# Of a slot, that it waits for a probe at most.
PATIENCE_PART = 0.25
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


class Patient:
    """Asks a probe in a thread of its own, and waits for it no longer than a slot can spare.

    What a probe says too late is what the next call returns; it is not asked a second time meanwhile.

    Args:
        probe: May take long, or hang.
        patience_s: How long a call waits.
    """

    def __init__(self, probe: Probe, patience_s: float) -> None:
        self._probe, self._patience_s = probe, patience_s
        self._lock = threading.Lock()
        self._asked: Future[float] | None = None

    def __call__(self) -> float:
        """Return what the probe says.

        Raises:
            EdgeError: It says nothing in time.
        """
        with self._lock:
            if self._asked is None:
                asked = self._asked = Future[float]()
                threading.Thread(target=self._ask, args=(asked,), name="probe", daemon=True).start()
            else:
                asked = self._asked
            try:
                found = asked.result(self._patience_s)
            except TimeoutError:
                if asked.done():  # it raised this itself
                    self._asked = None
                raise EdgeError("budget probe", f"did not answer within {self._patience_s:.3g} s") from None
            except BaseException:
                self._asked = None
                raise
            self._asked = None
            return found

    def _ask(self, asked: Future[float]) -> None:
        try:
            asked.set_result(self._probe())
        except BaseException as error:
            asked.set_exception(error)


def probe_of(budget: Budget) -> Probe:
    """Return the probe that a configuration names.

    Raises:
        EdgeError: There is nothing to probe on this machine.
    """
    if budget.probe == "fixed":
        return lambda: budget.fraction
    if budget.probe == "command":
        return lambda: _printed(budget)
    return processor() if budget.probe == "processor" else nvidia(budget.gpu)


def patient(config: EdgeConfig) -> Probe:
    """Return a configuration's probe such that a slot waits for it for a quarter of its length at most.

    Raises:
        EdgeError: There is nothing to probe on this machine.
    """
    budget, probe = config.budget, probe_of(config.budget)
    return probe if budget.probe == "fixed" else Patient(probe, min(budget.timeout_s, PATIENCE_PART * config.slot_s))


def own_cgroup(groups: Path = CGROUPS, own: Path = OWN_CGROUP) -> Path:
    """Return the folder of this process's cgroup (version 2), the root where it is not known."""
    try:
        for line in own.read_text().splitlines():
            if line.startswith("0::/"):
                return groups / line.removeprefix("0::/")
    except OSError:
        pass
    return groups


def processor(cgroup: Path | None = None) -> Probe:
    """Probe the cores: what other processes left of them, and no more than the cgroup's quota.

    Args:
        cgroup: The folder of this process's cgroup.
    """
    with extra("edge"):
        import psutil
    own = psutil.Process()
    cores = psutil.cpu_count() or 1

    def times() -> tuple[float, float, float]:
        """Return seconds of all cores: worked, worked by this process and its children, and passed."""
        whole = psutil.cpu_times()
        passed = float(sum(whole))
        used = own.cpu_times()
        # Children that have ended count, too: what they worked was ours.
        mine = used.user + used.system + used.children_user + used.children_system
        for one in own.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                used = one.cpu_times()
                mine += used.user + used.system
        return passed - whole.idle - float(getattr(whole, "iowait", 0.0)), mine, passed

    before = times()

    def free() -> float:
        nonlocal before
        after = times()
        worked, mine, passed = (now - then for now, then in zip(after, before, strict=True))
        before = after
        left = 1.0 - max(worked - mine, 0.0) / passed if passed > 0 else 1.0
        return min(max(left, 0.0), quota_cores(cgroup or own_cgroup(), cores) / cores)

    return free


def quota_cores(cgroup: Path, cores: int) -> float:
    """Return how many cores' time a cgroup and those around it may use, all of them where there is no quota."""
    least = float(cores)
    for folder in (cgroup, *cgroup.parents):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                least = min(least, float(quota) / float(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return least


def nvidia(index: int) -> Probe:
    """Probe a GPU of NVIDIA: what its other processes left of it.

    Raises:
        EdgeError: There is no driver, or no such GPU.
    """
    import os

    with extra("edge"):
        import psutil
        import pynvml
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        found = f"NVIDIA GPU {index} cannot be asked ({error})"
        raise EdgeError("budget.probe", found, 'install the driver, or set probe = "fixed"') from None
    since = [0]

    def free() -> float:
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since[0])
        except pynvml.NVMLError as error:
            if isinstance(error, pynvml.NVMLError_NotFound):  # nobody used it
                return 1.0
            raise EdgeError("budget probe", f"the GPU cannot be asked ({error})") from None
        since[0] = max((one.timeStamp for one in samples), default=since[0])
        by_process: dict[int, list[int]] = {}
        for one in samples:
            by_process.setdefault(one.pid, []).append(one.smUtil)
        ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        others = sum(sum(used) / len(used) for pid, used in by_process.items() if pid not in ours)
        return min(max(1.0 - others / 100, 0.0), 1.0)

    return free


def _printed(budget: Budget) -> float:
    """Run the command, and read the part that it prints."""
    where = f"budget command {budget.command[0]!r}"
    try:
        done = subprocess.run(
            budget.command,
            capture_output=True,
            text=True,
            timeout=budget.timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise EdgeError(where, f"did not end within {budget.timeout_s:g} s") from None
    except OSError as error:
        raise EdgeError(where, f"cannot be run ({error.strerror})") from None
    if done.returncode:
        raise EdgeError(where, f"ended with status {done.returncode}")
    try:
        part = float(done.stdout)
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise EdgeError(where, f"printed {done.stdout.strip()[:40]!r}", "print a part from 0 to 1")
    return part
