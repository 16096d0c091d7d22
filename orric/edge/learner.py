"""What is learnt beside the slots: retraining, the check of what came of it, and the process that it needs.

Nothing here keeps a slot from beginning or ending in time. Whatever may take long, as starting the process, training,
and writing a version, happens in threads of its own, and a slot asks only what has come of it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.configuration import RetrainingConfiguration
from orric.edge.backoff import Backoff
from orric.edge.config import EdgeConfig
from orric.edge.retraining import Candidate, EndedError, RetrainingProcess, Wanted
from orric.edge.samples import Drawn
from orric.edge.uploads import Uploads
from orric.edge.versions import Versions
from orric.exceptions import EdgeError, OrricError
from orric.retraining.evidence import Comparison
from orric.selection.sampling import Sampling

Tell = Callable[..., None]


@dataclass
class Outcome:
    """What came of a slot's retraining."""

    agreement: float | None = None
    # On how many samples it was measured.
    labels: int = 0
    # Part of the decided retraining that finished.
    retrained: float = 0.0
    version: int | None = None
    failed: str | None = None
    # Why nothing was learnt, where it was tried.
    unlearnt: str | None = None
    # What was executed instead of what was decided, and why; None where that is the same.
    executed: str | None = None
    stepped_back: str | None = None


@dataclass(frozen=True)
class Lesson:
    """A slot's retraining.

    Attributes:
        slot: Of the episode, and counted over all.
        version: That served at the slot's begin.
        decided: By the allocator.
        executed: Of that.
        until_s: When it must have ended, by `time.monotonic`.
        outcome: Filled in.
    """

    slot: int
    total: int
    version: int
    decided: RetrainingConfiguration
    executed: RetrainingConfiguration
    until_s: float
    outcome: Outcome


class Learner:
    """Retrains beside the slots.

    Args:
        config: The daemon's.
        versions: The student's.
        uploads: Images.
        process: Retrains; None where the student only serves.
        failures: Counted here under "retraining" and "validation".
        tell: Writes a line of the log: level, event, and values.

    Attributes:
        backoff: Caps what is executed after retraining was ended by force.
        outcomes: Samples since the start by what became of them.
        anchor_accuracy: The newest student's.
    """

    def __init__(
        self,
        config: EdgeConfig,
        versions: Versions,
        uploads: Uploads,
        process: RetrainingProcess | None,
        failures: dict[str, int],
        tell: Tell,
    ) -> None:
        self.config, self.process = config, process
        self._versions, self._uploads, self._failures, self._tell = versions, uploads, failures, tell
        self.backoff = Backoff(config.profiles[0].retraining)
        self.outcomes: Counter[str] = Counter()
        self.anchor_accuracy: float | None = None
        self._job: threading.Thread | None = None
        self._starting: threading.Thread | None = None
        self._closing = False
        # Of what the learner keeps itself, held for a moment; and of versions, held while one is written.
        self._lock, self._choosing = threading.Lock(), threading.RLock()
        # How often the operator or a judgement chose a version: one that was begun before does not take over.
        self._ruled = 0
        # Whether the next retraining must first go back to the version that serves.
        self._stale = False
        # Comparisons that no judgement has seen yet, with the version that was compared.
        self._evidence: list[tuple[int, Comparison]] = []

    # --- the process --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Have the process started where it does not run; it is ready some time after this returns."""
        with self._lock:
            process = self.process
            busy = self._starting is not None and self._starting.is_alive()
            # In the last slot without retraining it is started again, so that it is ready for the next one.
            if process is None or self._closing or busy or self.backoff.rest > 1 or process.ready:
                return
            self._starting = threading.Thread(target=self._start, args=(process,), name="warm-up", daemon=True)
            self._starting.start()

    def _start(self, process: RetrainingProcess) -> None:
        try:
            process.warm_up()
        except Exception as error:
            if not self._closing:
                self._step_back(None, f"the process did not start: {error}")
                self._failures["retraining"] += 1
                self._tell("error", "retraining process", error=str(error))

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when nothing is under way any more, or the time is over."""
        if self._job is not None:
            self._job.join(timeout_s)
        if self._starting is not None:  # which a job that failed begins
            self._starting.join(timeout_s)

    def end(self) -> None:
        """Let what is under way fail, and begin nothing any more: it would not be served."""
        self._closing = True
        if self.process is not None:
            self.process.kill()

    # --- a slot -------------------------------------------------------------------------------------------------

    def begin(self, name: str, slot: int, total: int, version: int, late_s: float, outcome: Outcome) -> None:
        """Begin a slot's retraining.

        Args:
            name: Of the configuration that was decided.
            slot: Of the episode.
            total: Counted over all episodes.
            version: That serves.
            late_s: By how much the slot began late; its retraining must end in time all the same.
            outcome: Filled in as it is known.
        """
        profile, process = self.config.profiles[0], self.process
        decided = next(one for one in profile.retraining if one.name == name)
        if not Sampling.of(profile, name).ratio or process is None or self._versions.current.pinned:
            return
        executed = self.backoff.executed(decided)
        if executed.name != name:
            outcome.executed, outcome.stepped_back = executed.name, self.backoff.why
        sampling = Sampling.of(profile, executed.name)
        if not sampling.ratio:
            return
        if self._job is not None and self._job.is_alive():
            outcome.unlearnt = "the retraining of an earlier slot is still under way"
            return
        if not process.ready:
            self.prepare()
            outcome.unlearnt = "the retraining process starts"
            return
        counts = [(0, 0)]

        def looked(there: int) -> int:
            counts[0] = sampling.counts(there)
            return counts[0][0]

        # With room for what is held out and set aside.
        fewest = 2 * self.config.evidence.fewest_trained
        drawn = self._uploads.drawn(looked, np.random.default_rng([self.config.seed, total]), fewest)
        count = min(counts[0][1], len(drawn.images))
        if not count:
            return
        until_s = time.monotonic() + self.config.retraining.deadline * self.config.slot_s - late_s
        lesson = Lesson(slot, total, version, decided, executed, until_s, outcome)
        work = process, drawn, Wanted(count, sampling.selector.name, sampling.labels), lesson
        self._job = threading.Thread(target=self._retrain, args=work, name="retraining", daemon=True)
        self._job.start()

    def pass_slot(self) -> None:
        """Take note that a slot has ended, and see to the process for the next one."""
        if self.process is not None:
            self.backoff.pass_slot()
            self.prepare()

    def _step_back(self, executed: RetrainingConfiguration | None, why: str) -> None:
        before = self.backoff.most
        self.backoff.ended(executed, why)
        self._tell(
            "warning", "retraining steps back", why=why, before=before, most=self.backoff.most, rest=self.backoff.rest
        )  # fmt: skip

    def _retrain(self, process: RetrainingProcess, drawn: Drawn, wanted: Wanted, lesson: Lesson) -> None:
        """Retrain and, where the new student is fit, let it serve; whatever goes wrong is told."""
        try:
            self._try_to_retrain(process, drawn, wanted, lesson)
        except Exception as error:
            if self._closing:
                return
            expected = isinstance(error, OrricError)
            lesson.outcome.failed = str(error) if expected else f"{type(error).__name__}: {error}"
            self._failures["retraining"] += 1
            self._tell("error", "retraining failed", slot=lesson.slot, error=lesson.outcome.failed)
            if isinstance(error, EndedError):
                self._step_back(lesson.executed, f"{lesson.executed.name}: {error.args[1]}")
            elif not expected:
                self._stale = True  # whatever was trained is not what serves
            self.prepare()

    def _try_to_retrain(self, process: RetrainingProcess, drawn: Drawn, wanted: Wanted, lesson: Lesson) -> None:
        with self._choosing:
            ruled, stale = self._ruled, self._stale
            self._stale = False
        if stale:
            self._restore(process)
        outcome = lesson.outcome
        found = process.retrain(drawn, wanted, lesson.total, max(lesson.until_s - time.monotonic(), 0.0))
        self.backoff.succeeded()
        outcome.agreement = found.agreement
        outcome.labels = 0 if found.agreement is None else len(found.standing)
        self.outcomes.update(found.outcomes)
        if len(found.standing):
            with self._choosing:
                standing = drawn.images[found.standing]
                self._versions.learn_from(lesson.version, standing, found.labels)
                compared = self._versions.compare(lesson.version, standing, found.labels)
                if compared is not None:
                    self._evidence.append((lesson.version, compared))
        if not isinstance(found, Candidate):
            outcome.unlearnt = found.why
            self._tell("info", "nothing learnt", slot=lesson.slot, why=found.why)
            return
        if found.anchors is not None:
            self.anchor_accuracy = found.anchors.accuracy
        accepted = False
        with self._choosing:
            overruled = self._ruled != ruled
            try:
                if overruled:
                    raise EdgeError("new version", "the operator, or a rollback, chose another one meanwhile")
                version = self._versions.adopt(found, lesson.total)
                accepted = True
                decided, executed = lesson.decided, lesson.executed
                outcome.retrained = min(executed.profit / decided.profit, 1.0) if decided.profit else 1.0
                outcome.version = version.number
                held_out = found.held_out
                self._tell(
                    "info", "swap", version=version.number, compared=held_out.count, lost=held_out.lost,
                    gained=held_out.gained, anchors=self.anchor_accuracy,
                )  # fmt: skip
            except (OrricError, OSError) as error:
                self._failures["validation"] += 1
                outcome.failed = str(error)
                self._tell("error", "new version refused", slot=lesson.slot, error=str(error))
        try:
            process.settle(accepted)
        except OrricError as error:
            self._tell("error", "retraining process", error=str(error))
        with self._choosing:
            overruled = overruled or self._ruled != ruled
        if overruled:
            self._restore(process)

    def _restore(self, process: RetrainingProcess) -> None:
        weights = self._versions.weights()
        if weights is not None:
            try:
                process.restore(weights)
            except OrricError as error:
                self._tell("error", "retraining process", error=str(error))

    # --- versions -----------------------------------------------------------------------------------------------

    def judge(self, total: int, version: int) -> None:
        """Judge by what was compared so far; where a version is just being written, the next slot does.

        Args:
            total: The slot, counted over all episodes.
            version: That served at its begin.
        """
        if not self._choosing.acquire(blocking=False):
            return
        try:
            evidence, self._evidence = self._evidence, []
            unseen: list[tuple[int, Comparison | None]] = [*evidence] or [(version, None)]
            for number, compared in unseen:
                before = self._versions.rollbacks
                try:
                    told = self._versions.judge(total, number, compared)
                except (OSError, EdgeError) as error:
                    self._tell("error", "versions", error=str(error))
                    told = None
                rolled_back = self._versions.rollbacks > before
                if told:
                    self._tell("warning" if rolled_back else "info", "versions", what=told)
                if rolled_back:
                    self._overrule()
        finally:
            self._choosing.release()

    def choose(self, what: str, version: int | None = None) -> str:
        """Do what the operator asks: "pause", "pin", "unpin" or "rollback".

        Returns:
            What was done.

        Raises:
            EdgeError: It cannot be done.
        """
        with self._choosing:
            if what == "unpin":
                self._versions.unpin()
                return "retraining may take over again"
            if what == "pause":
                self._ruled += 1  # what is under way changes nothing any more
                return "paused: decisions are written down and change nothing"
            if what == "pin":
                number = version if version is not None else self._versions.current.serving
                self._versions.take(number, pinned=True)
                done = f"version {number} is pinned"
            else:
                done = f"rolled back to version {self._versions.roll_back()}"
            self._overrule()
            return done

    def _overrule(self) -> None:
        self._ruled += 1
        self._stale = True

    def state(self) -> dict[str, Any]:
        """Return what the status page shows of it."""
        backoff = self.backoff
        return {
            "ready": self.process is not None and self.process.ready, "steps_back": backoff.steps,
            "most": backoff.most, "rest_slots": backoff.rest, "why": backoff.why,
        }  # fmt: skip
