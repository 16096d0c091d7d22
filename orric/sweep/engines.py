"""Where chunks are computed: on this machine's cores by joblib, or on a cluster by Ray. Both call the same function."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from orric.exceptions import ScenarioError, SimulationError, extra

# A cluster that does not answer is given up on after this.
REACH_S = 5.0
RETRIES = 10

Engine = Callable[[Callable[..., Any], Any, Sequence[Any]], Iterator[tuple[int, Any]]]


def on_cores(jobs: int | None = None) -> Engine:
    """Return the engine of this machine.

    Args:
        jobs: Worker processes; as many as there are cores when left out. With 1 none is started.
    """
    count = jobs or os.cpu_count() or 1

    def compute(function: Callable[..., Any], shared: Any, calls: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if count == 1 or len(calls) <= 1:
            for index, call in enumerate(calls):
                yield index, function(shared, call)
            return
        with extra("sim"):
            import joblib
            from joblib.externals.loky.process_executor import TerminatedWorkerError
        parallel = joblib.Parallel(n_jobs=min(count, len(calls)), return_as="generator_unordered", batch_size=1)
        try:
            yield from parallel(joblib.delayed(_indexed)(function, shared, *one) for one in enumerate(calls))
        except TerminatedWorkerError:
            found, remedy = "a worker was killed, perhaps for want of memory", "take fewer --jobs and go on"
            raise SimulationError("sweep", found, remedy) from None

    return compute


def on_cluster(address: str) -> Engine:
    """Return the engine of a Ray cluster; tasks of a node that is lost are computed on another.

    Args:
        address: Of the cluster's head, as "host:6379" or "ray://host:10001"; "local" starts one on this machine.

    Raises:
        MissingExtraError: `orric[cluster]` is not installed.
        ScenarioError: Nothing answers at the address.
    """
    with extra("cluster"):
        import ray
    _connect(address)

    def compute(function: Callable[..., Any], shared: Any, calls: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        task = ray.remote(max_retries=RETRIES, retry_exceptions=False)(_indexed)
        once = ray.put(shared)
        # No more are handed over than can be under way soon: what waits on a lost node has to be handed over again.
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray leaves it unannotated
        ahead = 4 * max(int(resources.get("CPU", 1)), 1)
        waiting = list(enumerate(calls))[::-1]
        pending: list[Any] = []
        while waiting or pending:
            while waiting and len(pending) < ahead:
                pending.append(task.remote(function, once, *waiting.pop()))
            done, pending = ray.wait(pending, num_returns=1)
            try:
                answers = ray.get(done)
            except ray.exceptions.RayError as error:
                found, remedy = (
                    f"a task was lost {RETRIES + 1} times ({type(error).__name__})",
                    "look at the cluster and go on",
                )
                raise SimulationError("sweep", found, remedy) from None
            yield from answers

    return compute


def _indexed(function: Callable[..., Any], shared: Any, index: int, call: Any) -> tuple[int, Any]:
    return index, function(shared, call)


def _connect(address: str) -> None:
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "logging_level": "error"}
    if address == "local":
        ray.init(**quiet)
        return
    parts = urlsplit(address if "//" in address else f"//{address}")
    check = "check that `ray start --head` runs there, the port, and what lies between"
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ScenarioError("--ray", f"{address!r} is no address", 'give "host:port", "ray://host:port" or "local"')
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise ScenarioError("--ray", f"nothing answers at {address} ({why})", check) from None
    quiet.pop("include_dashboard")
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ScenarioError("--ray", f"{address} is no Ray cluster ({str(error).splitlines()[0]})", check) from None
