"""The daemon's side of the retraining process: start it, ask it, and end it when it takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orric.edge.config import Evidence, Retraining
from orric.edge.frames import NO_MEMORY, Header, receive, send
from orric.edge.groups import enter
from orric.edge.lifeline import Lifeline
from orric.edge.samples import Drawn
from orric.edge.store import MODEL, WEIGHTS
from orric.exceptions import EdgeError
from orric.retraining.evidence import AnchorComparison, Comparison
from orric.selection.gradients import Indices
from orric.selection.sampling import Whose
from orric.vision.arrays import Labels

START_S = 120.0
# On a GPU that CUDA's MPS shares, the process steps back behind serving; elsewhere this says nothing.
BEHIND = {"CUDA_MPS_CLIENT_PRIORITY": "1"}
# How long a process may take to be gone once its pipe is closed.
GONE_S = 5.0


class EndedError(EdgeError):
    """The retraining process was ended by force, or had no memory left: less work may get through."""


@dataclass(frozen=True)
class Wanted:
    """Which of the samples that a retraining is given it shall label and train on.

    Attributes:
        count: How many, 1 to all of them; held-out ones are among them, and are the first ones whatever selects.
        selector: Name of what selects the others.
        labels: Whose labels it judges by; the "teacher"'s are asked for all samples.
    """

    count: int
    selector: str = "uniform"
    labels: Whose = "student"


@dataclass(frozen=True)
class Labelled:
    """Samples that the teacher labelled and that stand for all of the slot: drawn uniformly, not selected.

    Attributes:
        standing: Which they are of those given, indices of shape (n,).
        labels: The teacher's, shape (n,).
        agreement: Of the student that the process trains, before it was trained on any.
        why: Why nothing was learnt from them.
        outcomes: Samples by what became of them.
    """

    standing: Indices
    labels: Labels
    agreement: float | None
    why: str = ""
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A student as the retraining process made it.

    Attributes:
        files: For the store.
        inputs: Probes, shape (n, 3, height, width).
        expected: What torch gives for them, shape (n, classes).
        standing: Which samples of those given stand for all of the slot; see `Labelled`.
        labels: The teacher's, of these.
        agreement: Of the student that served with the teacher on these, None without.
        held_out: Beside the student that serves, on samples that were kept from training.
        anchors: On the anchor set, None where there is none.
        outcomes: Samples by what became of them.
    """

    files: dict[str, bytes]
    inputs: np.ndarray[Any, Any]
    expected: np.ndarray[Any, Any]
    standing: Indices = field(default_factory=lambda: np.empty(0, np.intp))
    labels: Labels = field(default_factory=lambda: np.empty(0, np.int64))
    agreement: float | None = None
    held_out: Comparison = field(default_factory=Comparison)
    anchors: AnchorComparison | None = None
    outcomes: dict[str, int] = field(default_factory=dict)


class RetrainingProcess:
    """A process of its own that holds the student in training and the teacher.

    It is started by `first` or `warm_up`, never by a retraining, whose time would pass meanwhile. What it had trained
    is lost when it dies: it goes on from the weights that serve.

    Args:
        profile: The profile's file.
        limits: Memory, deadline, and how far it steps back.
        evidence: What it needs to learn.
        fewest_compared: Samples on which a new student must be compared where there are no anchors.
        group: The control group that it runs in; left out, that of serving.
        anchors: Where the anchor set lies, None without.
        stored: Returns the weights that serve, to begin with after a start; None for the profile's own.
    """

    def __init__(
        self,
        profile: Path,
        limits: Retraining,
        stored: Any = lambda: None,
        evidence: Evidence = Evidence(),  # noqa: B008 (it is frozen)
        anchors: Path | None = None,
        fewest_compared: int = 0,
        group: Path | None = None,
    ) -> None:
        self._profile, self._limits, self._stored = profile, limits, stored
        self._evidence, self._anchors, self._fewest_compared = evidence, anchors, fewest_compared
        self._group = group
        self._process: subprocess.Popen[bytes] | None = None
        self._looked = self._over = False
        self._lock = threading.Lock()
        # Of the process that there is, which is ended while another thread waits for its answer.
        self._held = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether a retraining can begin at once."""
        process = self._process
        return process is not None and self._looked and process.poll() is None

    def first(self) -> Candidate:
        """Return the profile's own student.

        Raises:
            EdgeError: The process cannot load the models.
        """
        with self._lock:
            return self._start()

    def configure(self, limits: Retraining) -> None:
        """Take over other parts and deadlines."""
        self._limits = limits

    def warm_up(self) -> None:
        """Start where it does not run, and return when a retraining can begin.

        Raises:
            EdgeError: The process cannot load the models, or `stop` was called.
            OSError: It cannot be started.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._begin_again()
            self._look()

    def retrain(self, drawn: Drawn, wanted: Wanted, seed: int, deadline_s: float) -> Candidate | Labelled:
        """Label images and train on them.

        Args:
            drawn: Images, at least one, and true labels.
            wanted: Which of them are labelled and trained on.
            seed: Of the order of samples.
            deadline_s: Seconds after which the process is killed.

        Returns:
            The new student, which is to be accepted or refused; where the images were too few to train on, their
            labels alone.

        Raises:
            EndedError: It ran out of memory, was killed or took too long; the student is as it was.
            EdgeError: It failed; likewise.
        """
        with self._lock:
            asked = {"do": "retrain", "seed": seed, "held_out": self._limits.held_out, **asdict(wanted)}
            header, parts = self._ask(asked, deadline_s, drawn.images, drawn.truths)
            if not header["staged"]:
                standing, labels = parts
                return Labelled(standing, labels, header["agreement"], header["why"], header["outcomes"])
            standing, labels, model, weights, inputs, expected = parts
            return Candidate(
                {MODEL: model, WEIGHTS: weights}, inputs, expected, standing, labels, header["agreement"],
                Comparison(**header["held_out"]), _of_anchors(header["anchors"]), header["outcomes"],
            )  # fmt: skip

    def settle(self, accepted: bool) -> None:
        """Go on from the new student, or from the one before."""
        with self._lock:
            self._ask({"do": "accept" if accepted else "refuse"}, START_S)

    def restore(self, weights: bytes) -> None:
        """Go on from other weights: those of the version that serves from now on."""
        with self._lock:
            if self._process is not None:
                self._ask({"do": "restore"}, START_S, weights)

    def kill(self) -> None:
        """Let whatever is under way fail at once, and nothing begin any more."""
        with self._held:
            self._over = True
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        """End the process for good."""
        self.kill()
        self._drop()

    def _drop(self) -> None:
        with self._held:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._lifeline.let_go()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what was not sent yet is for nobody any more
                        pipe.close()

    def _begin_again(self) -> None:
        self._start()
        weights = self._stored()
        if weights is not None:
            self._ask({"do": "restore"}, START_S, weights)

    def _look(self) -> None:
        """Have the process see what the anchors look like under drift, once after its start."""
        if not self._looked:
            self._ask({"do": "look"}, START_S)
            self._looked = True

    def _start(self) -> Candidate:
        self._drop()
        self._looked = False
        with self._held:
            if self._over:
                raise EdgeError("retraining process", "is not started again: the daemon stops")
            lifeline = self._lifeline = Lifeline()
            command = [sys.executable, "-m", "orric.edge.worker", str(self._profile), str(lifeline.descriptor)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[lifeline.descriptor],
                env=BEHIND | os.environ,
            )  # fmt: skip
            lifeline.started()
            if self._group is not None:
                enter(self._group, self._process.pid)
        evidence = self._evidence
        numbers = {"fewest_compared": self._fewest_compared, "fewest_trained": evidence.fewest_trained}
        limits = {
            "memory_bytes": self._limits.memory_bytes, "nice": self._limits.nice, "idle": self._limits.idle,
            "anchors": None if self._anchors is None else str(self._anchors),
            "evidence": {**evidence.model_dump(exclude={"anchors"}), **numbers},
        }  # fmt: skip
        _, (model, weights, inputs, expected) = self._ask(limits, START_S)
        return Candidate({MODEL: model, WEIGHTS: weights}, inputs, expected)

    def _ask(self, header: Header, deadline_s: float, *parts: Any) -> tuple[Header, list[Any]]:
        process = self._process
        if process is None:
            raise EdgeError("retraining process", "does not run", "it is started beside the slots")
        assert process.stdin is not None, "it was started with pipes"
        assert process.stdout is not None, "it was started with pipes"
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(deadline_s, kill)
        timer.start()
        try:
            send(process.stdin, header, *parts)
            answer, found = receive(process.stdout)
        except (EOFError, OSError, ValueError):
            try:
                status = process.wait(GONE_S)
            except subprocess.TimeoutExpired:
                status = None  # it says nothing any more, and is there
            self._drop()
            why = f"did not end within {deadline_s:.3g} s" if late.is_set() else f"ended with status {status}"
            raise EndedError("retraining process", why, "serving goes on with the student that serves") from None
        finally:
            timer.cancel()
        if "error" in answer:
            kind = EndedError if answer["error"] == NO_MEMORY else EdgeError
            raise kind("retraining process", answer["error"], "serving goes on with the student that serves")
        return answer, found


def _of_anchors(told: Header | None) -> AnchorComparison | None:
    if told is None:
        return None
    return AnchorComparison(Comparison(**told["given"]), Comparison(**told["serving"]), told["right"])
