"""The daemon: everything put together, its life from the start to the last answer."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from orric.durable import hold
from orric.edge.clock import SlotClock
from orric.edge.config import EdgeConfig
from orric.edge.decisions import DecisionService
from orric.edge.episode import profile_hash
from orric.edge.groups import divide
from orric.edge.identity import Given, file_hash
from orric.edge.journal import Journal
from orric.edge.log import tell
from orric.edge.metrics import OUTCOMES, Metrics
from orric.edge.probes import patient
from orric.edge.recorded import follows
from orric.edge.retraining import Candidate, RetrainingProcess
from orric.edge.serving import Batcher, available
from orric.edge.slots import BEAT_S, SlotLoop
from orric.edge.store import JOURNAL, ModelStore, begin_store, recognise
from orric.edge.uploads import Uploads
from orric.edge.versions import Versions
from orric.exceptions import EdgeError, OrricError
from orric.vision.datasets import DATASETS

# How long a shutdown waits for the end of the slot, and of what is learnt beside it.
LAST_S = 10.0
# Keys that a reload cannot change while the daemon runs.
FIXED = (
    "mode", "stream", "server", "slot_s", "horizon_slots", "allocator", "shadow", "forecast", "seed", "budget",
    "evidence", "student_sha256", "teacher_sha256",
)  # fmt: skip
FIXED_WITHIN = (
    *(("retraining", key) for key in ("enabled", "memory_bytes", "nice", "idle", "cpu_weight")), ("store", "folder"),
    ("store", "versions"),
)  # fmt: skip


class Daemon:
    """One edge server.

    Args:
        config: Checked.
        path: The file that it came from, for reloads; None where there is none.
        token: That changes of state need; None forbids them.
        now: The time in seconds, which never goes back.

    Attributes:
        ready: Whether it serves.
        slot_number: Of the slot by the clock since the start, from 1; 0 before. Missed ones count.
        stopping: Whether it answers what is under way, and no more.

    Raises:
        OrricError: The store, the models or the probe cannot be used.
    """

    def __init__(
        self,
        config: EdgeConfig,
        path: Path | None = None,
        token: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.token, self._path, self._now = config, token, path, now
        self.metrics = Metrics(self.name, self, config.deadline_s(config.stream[0]))
        self.ready = self.stopping = False
        self._stopping = threading.Event()
        self._beat_s = self._slot_end_s = now()
        self.slot_number = 0
        self.loop: SlotLoop | None = None
        self.decisions: DecisionService | None = None
        self.process: RetrainingProcess | None = None
        self._held = hold_store(config.store_folder)
        try:
            if config.mode == "decisions":
                journal = Journal(config.store_folder / JOURNAL, follows)
                self.decisions = DecisionService(config, journal, patient(config))
                for line in self.decisions.recovered:
                    tell("info", "recovered", what=line)
            else:
                self._prepare()
        except BaseException:
            if self.process is not None:
                self.process.stop()
            self._held.close()
            raise

    def _prepare(self) -> None:
        """Load the models and what the journal holds."""
        config, profile = self.config, self.config.profiles[0]
        assert profile.models is not None, "the configuration checks this"
        student, teacher = profile.beside(profile.models.student), profile.beside(profile.models.teacher)
        for role, path, wanted in (
            ("student", student, config.student_sha256),
            ("teacher", teacher, config.teacher_sha256),
        ):
            check_hash(role, path, wanted)
        probe = patient(config)
        store = ModelStore(config.store_folder, config.store.versions, config.profiles[0].training.fallback)
        provider, absent = available(config.server)
        if absent is not None:
            tell("warning", "provider", what=absent)
        resolutions = tuple(sorted(set(profile.models.resolution_px.values())))
        self.versions = Versions(config, store, provider, resolutions)
        first: Callable[[], Candidate | bytes]
        if config.retraining.enabled:
            path = config._folder / config.stream[0].profile
            self.process = RetrainingProcess(
                path,
                config.retraining,
                self.versions.weights,
                config.evidence,
                config.anchors,
                config.fewest_compared,
                self._group_of_retraining(),
            )
            first = self.process.first
        else:
            first = partial(read_model, student)
        for line in config.doubts(self.token):
            tell("warning", "learning", what=line)
        for line in self.versions.begin(first, Given.of(student, teacher)):
            tell("info", "recovered", what=line)
        if config.retraining.enabled and config.anchors is not None:
            from orric.retraining.anchors import Anchors

            # Here as well as in the retraining process, which an old store lets the daemon start without.
            assert self.versions.model is not None, "one was loaded"
            Anchors.load(config.anchors, self.versions.model.classes)
        rng = np.random.default_rng(config.seed)
        deadline_s = config.deadline_s(config.stream[0])
        self.uploads = Uploads(config.samples, deadline_s, rng, self._now, config.learns_from_everybody)
        assert self.versions.model is not None, "one was loaded"
        best = max(profile.inference, key=lambda one: one.profit).name
        self.batcher = Batcher(self.versions.model, profile.models.resolution_px[best], config.server)
        self.versions.attach(self.batcher)
        journal = Journal(config.store_folder / JOURNAL, follows)
        self.loop = SlotLoop(
            config, journal, self.versions, self.uploads, self.batcher, self.process, probe, tell
        )  # fmt: skip
        for line in self.loop.recovered:
            tell("info", "recovered", what=line)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.stream[0].name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, () where they are unknown."""
        models, serving = self.config.profiles[0].models, self.versions.model
        known = DATASETS[models.dataset].classes if models is not None and models.dataset in DATASETS else ()
        return known if serving is not None and len(known) == serving.classes else ()

    def _group_of_retraining(self) -> Path | None:
        """Make the control group that retraining has a weight in, if it is wanted and can be."""
        weight = self.config.retraining.cpu_weight
        if weight is None:
            return None
        try:
            return divide(weight)
        except EdgeError as error:
            tell("warning", "priority", error=str(error), instead=f"nice {self.config.retraining.nice}")
            return None

    @property
    def serves(self) -> bool:
        """Whether requests of inference are answered, those under way at a shutdown among them."""
        return self.ready or self.stopping

    @property
    def alive(self) -> bool:
        """Whether the slot loop still beats."""
        return self.loop is None or self._now() - self._beat_s < 3 * self.config.slot_s + 30

    @property
    def retry_after_s(self) -> int:
        """When those who were turned away may come again: soon, or where the slot's budget is spent in the next one."""
        spent = self.loop is not None and self.batcher.limit is not None
        return max(math.ceil(self.left_s), 1) if spent else 1

    @property
    def left_s(self) -> float:
        """How long the present slot lasts yet."""
        return max(self._slot_end_s - self._now(), 0.0)

    def figures(self) -> dict[str, float | None]:
        """Return figures by the names of the metrics that tell them."""
        if self.loop is None:
            assert self.decisions is not None, "it serves or decides"
            return {"slot": float(self.decisions.total)}
        rows = list(self.loop.rows)
        finished = [row for row in rows if row.counts is not None]
        last = rows[-1].decision if rows else None
        agreements = [row.outcome.agreement for row in finished if row.outcome.agreement is not None]
        labelled = [row.counts for row in finished if row.counts is not None and row.counts.labelled]
        timely = [row.counts.in_time for row in finished if row.counts is not None and row.counts.arrived]
        agreed, in_time = agreements[-1] if agreements else None, timely[-1] if timely else None
        found: dict[str, float | None] = {
            "slot": float(self.loop.total),
            "model_version": float(self.versions.current.serving),
            "accuracy_estimate": agreed,
            "in_time_part": in_time,
            "in_time_accuracy_estimate": None if agreed is None or in_time is None else agreed * in_time,
            "anchor_accuracy": self.loop.learner.anchor_accuracy,
            "labelled_accuracy": labelled[-1].right / labelled[-1].labelled if labelled else None,
            "waiting_images": float(self.batcher.waiting),
            "fallback": float(self.versions.fallen_back),
            "swaps": float(self.versions.swaps),
            "rollbacks": float(self.versions.rollbacks),
            "ratio_floor": finished[-1].ratio if finished else None,
            "retraining_backoff": float(self.loop.learner.backoff.steps),
            "slot_overrun_seconds": self.loop.last_overrun_s,
            "slots_missed": float(self.loop.missed),
            "slots_overrun_seconds": self.loop.overrun_s,
        }
        if last is not None:
            found["budget_macs"] = last.budget_macs
            found["retraining_part"], found["inference_part"] = self.split(
                last.requests[0], last.budget_macs, last.streams[0]
            )
        return found

    def split(self, requests: float, budget_macs: float, stream: Any) -> tuple[float, float]:
        """Return the parts of a slot's budget that retraining and inference were given."""
        profile = self.config.profiles[0]
        retraining = next(one for one in profile.retraining if one.name == stream.retraining)
        inference = next(one for one in profile.inference if one.name == stream.inference)
        whole = max(budget_macs, 1e-300)
        return min(requests * retraining.cost_macs / whole, 1.0), min(requests * inference.cost_macs / whole, 1.0)

    def samples(self) -> dict[str, int]:
        """Return how many uploaded images became of what since the start."""
        if self.loop is None:
            return {}
        return {name: self.uploads.outcomes[name] + self.loop.learner.outcomes[name] for name in OUTCOMES}

    def failures(self) -> dict[str, int]:
        """Return what failed how often."""
        return {} if self.loop is None else dict(self.loop.failures)

    # --- life ---------------------------------------------------------------------------------------------------

    def run_slots(self) -> None:
        """Run slots by the clock until the daemon stops: each begins at its time, whatever became of those before."""
        loop = self.loop
        assert loop is not None, "a decision service has no slots of its own"
        clock, missed, counted_s = SlotClock(self.config.slot_s, self._now), 0, self._now()
        while not self._stopping.is_set():
            self.beat()
            self._slot_end_s, self.slot_number = clock.end_s, clock.index + 1
            try:
                loop.begin(max(self._now() - clock.begin_s, 0.0), missed)
            except Exception as error:  # whatever it is, serving goes on
                tell("error", "slot", error=f"{type(error).__name__}: {error}")
            self._wait_until(clock.end_s)
            try:
                ended_s = self._now()
                loop.finish(max((ended_s - counted_s) / self.config.slot_s, 1.0))
                counted_s = ended_s
            except Exception as error:
                tell("error", "slot", error=f"{type(error).__name__}: {error}")
            if self._stopping.is_set():
                break
            overrun_s, missed = clock.go_on()
            loop.overrun(overrun_s, missed)
            self._wait_until(clock.begin_s)

    def _wait_until(self, then_s: float) -> None:
        while not self._stopping.is_set() and (left_s := then_s - self._now()) > 0:
            self.beat()
            self.uploads.expire()
            self._stopping.wait(min(left_s, BEAT_S))

    def beat(self) -> None:
        """Tell the system that the slot loop is well."""
        self._beat_s = self._now()
        notify("WATCHDOG=1")

    def run(
        self,
        listening: socket.socket | None = None,
        opened: Callable[[str, int, int | None], None] = lambda host, port, health_port: None,
    ) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again. Call it in the main thread.

        Args:
            listening: From `orric.edge.http.listen`.
            opened: Called with the address and the port of health, None without one, once it serves.
        """
        from orric.edge.http import start_server

        # Threads hand over to one another at once: those that wait for the interpreter serve requests.
        sys.setswitchinterval(5e-5)
        asked: list[int] = []
        woken = threading.Event()

        def note(number: int, frame: Any) -> None:
            asked.append(number)
            woken.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, note)
        server = start_server(self, listening)
        if self.loop is not None:
            self.loop.learner.prepare()
        slots = threading.Thread(target=self.run_slots, name="slots", daemon=True)
        if self.loop is not None:
            slots.start()
        self.ready = True
        host, port = server.address
        health_port = server.health_port
        tell("info", "listening", host=host, port=port, health_port=health_port, mode=self.config.mode)
        opened(host, port, health_port)
        notify("READY=1")
        while True:
            # With a timeout, so that signals are heard everywhere.
            woken.wait(1.0)
            woken.clear()
            if self.loop is None:
                self.beat()
            while signal.SIGHUP in asked:
                asked.remove(signal.SIGHUP)
                self.reload()
            if asked:
                break
        tell("info", "stopping", what="serving what is under way")
        notify("STOPPING=1")
        self.ready, self.stopping = False, True
        server.stop(self.config.server.drain_s)
        self._stopping.set()
        if self.loop is not None:
            self.loop.learner.end()
            if slots.is_alive():
                slots.join(LAST_S)
            self.loop.learner.wait(LAST_S)
        self.stop()
        tell("info", "stopped")

    def stop(self) -> None:
        """End the threads and the retraining process."""
        self._stopping.set()
        if self.loop is not None:
            self.loop.learner.end()
        if self.process is not None:
            self.process.stop()
        if self.loop is not None:
            self.batcher.stop()
            self.loop.close()
        if self.decisions is not None:
            self.decisions.close()
        self._held.close()

    def reload(self) -> None:
        """Read the configuration again; one that is bad, or changes what cannot change, is refused, and told."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            if self._path is None:
                raise EdgeError("reload", "the configuration came from no file")
            new = EdgeConfig.load(self._path)
            token = new.token()
            for key in FIXED:
                if getattr(new, key) != getattr(self.config, key):
                    raise EdgeError(f"{self._path}: {key}", "cannot change while the daemon runs", "restart it")
            for part, key in FIXED_WITHIN:
                if getattr(getattr(new, part), key) != getattr(getattr(self.config, part), key):
                    where = f"{self._path}: {part}.{key}"
                    raise EdgeError(where, "cannot change while the daemon runs", "restart it")
            if list(map(profile_hash, new.profiles)) != list(map(profile_hash, self.config.profiles)):
                raise EdgeError(f"{self._path}: profile", "cannot change while the daemon runs", "restart it")
        except OrricError as error:
            tell("error", "reload refused", error=str(error), kept="the configuration before")
        else:
            self.config, self.token = new, token
            if self.loop is not None:
                self.loop.config = new
                self.versions.configure(new)
                self.uploads.configure(new.samples, new.learns_from_everybody)
                if self.process is not None:
                    self.process.configure(new.retraining)
            tell("info", "reloaded")
        notify("READY=1")


def hold_store(folder: Path) -> IO[str]:
    """Keep other daemons from a store; one that is new gets its format.

    Raises:
        EdgeError: One has it already, the folder cannot be used, or it is another's or a newer orric's.
    """
    recognise(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = hold(folder / ".lock")
    except OSError as error:
        raise EdgeError("store.folder", f"cannot be used ({error.strerror})", "choose another") from None
    if held is None:
        raise EdgeError("store.folder", "another daemon uses it", "stop that one, or choose another folder")
    try:
        begin_store(folder)
    except EdgeError:
        held.close()
        raise
    return held


def check_hash(role: str, path: Path, wanted: str | None) -> None:
    """Refuse a model's file that is another than the configuration says.

    Raises:
        EdgeError: It is, or cannot be read.
    """
    if wanted is None:
        return
    found = file_hash(path)
    if not found:
        raise EdgeError(str(path), "cannot be read", f"it should be the {role}")
    if found != wanted:
        raise EdgeError(f"{role}_sha256", f"{path} has {found}", "it is not the file that was meant")


def read_model(path: Path) -> bytes:
    """Read an ONNX model that only serves.

    Raises:
        EdgeError: It is none, or cannot be read.
    """
    if path.suffix.lower() != ".onnx":
        raise EdgeError(str(path), "is no ONNX model", "set retraining.enabled = true, or give the student as ONNX")
    try:
        return path.read_bytes()
    except OSError as error:
        raise EdgeError(str(path), f"cannot be read ({error.strerror})", "it should be the student") from None


def notify(state: str) -> None:
    """Tell systemd, where it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(address)
            channel.sendall(state.encode())
        except OSError:
            tell("warning", "notify", error="systemd cannot be told")
