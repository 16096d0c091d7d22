"""The slot loop: probe, decide, write down, retrain, swap, observe."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from orric.edge.config import EdgeConfig
from orric.edge.episode import Decider, Decision, head_of, ratio_floor, replayed, resumed, task_of
from orric.edge.evidence import Comparison
from orric.edge.heap import give_back
from orric.edge.journal import Journal, Record
from orric.edge.probes import Probe
from orric.edge.retraining import Candidate, RetrainingProcess, Wanted
from orric.edge.samples import Drawn
from orric.edge.serving import Batcher
from orric.edge.uploads import Counts, Uploads
from orric.edge.versions import Versions
from orric.exceptions import EdgeError, OrricError
from orric.objective import servable
from orric.records import Observation
from orric.selection.sampling import Sampling

EWMA_WEIGHT = 0.3
SHOWN_SLOTS = 240
# How often the loop says that it is well, in seconds at most.
BEAT_S = 5.0
Tell = Callable[..., None]


@dataclass
class Outcome:
    """What came of a slot's retraining."""

    agreement: float | None = None
    retrained: float = 0.0
    version: int | None = None
    # The version that served beside the last one that proved itself; None unknown.
    compared: Comparison | None = None
    failed: str | None = None
    # Why nothing was learnt, where it was tried.
    unlearnt: str | None = None


@dataclass
class SlotRow:
    """A slot as the status page shows it."""

    total: int
    decision: Decision
    counts: Counts | None = None
    outcome: Outcome = field(default_factory=Outcome)
    version: int = 0
    ratio: float | None = None


class SlotLoop:
    """Decides slot after slot, and sees to it that what was decided happens.

    `begin` and `finish` do the work of a slot's begin and end; whoever calls them keeps the time.

    Args:
        config: The daemon's.
        journal: Written to before anything counts.
        versions: The student's.
        uploads: Counts and images.
        batcher: Serves.
        process: Retrains; None where the student only serves.
        probe: Says which part of the device is ours.
        tell: Writes a line of the log: level, event, and values.
    """

    def __init__(
        self,
        config: EdgeConfig,
        journal: Journal,
        versions: Versions,
        uploads: Uploads,
        batcher: Batcher,
        process: RetrainingProcess | None,
        probe: Probe,
        tell: Tell,
    ) -> None:
        self.config, self.versions = config, versions
        self._journal, self._uploads, self._batcher = journal, uploads, batcher
        self._process, self._probe, self._tell = process, probe, tell
        self._profile = config.profiles[0]
        models = self._profile.models
        assert models is not None, "the configuration checks this"
        self._models = models
        self.paused = False
        self.slot = self.total = 0
        self.rows: deque[SlotRow] = deque(maxlen=SHOWN_SLOTS)
        self.failures = dict.fromkeys(("decision", "retraining", "validation", "probe", "journal"), 0)
        # Samples since the start by what became of them, and the newest student's accuracy on the anchors.
        self.outcomes: Counter[str] = Counter()
        self.anchor_accuracy: float | None = None
        self._forecast: float | None = None
        self._free = config.budget.fraction
        self._taken: list[tuple[float, float, str, str]] = []
        self._finished: dict[int, float] = {}
        self._job: threading.Thread | None = None
        # How often the operator chose a version: one that was begun before does not take over.
        self._ruled = 0
        # Whether the next retraining must first go back to the version that serves.
        self._stale = False
        self._limit: int | None = None
        # Told while the loop waits for a retraining.
        self.beat: Callable[[], None] = lambda: None
        self._lock = threading.RLock()
        self.recovered = self._recover()

    # --- recovery -----------------------------------------------------------------------------------------------

    def _recover(self) -> list[str]:
        """Go on where the journal ends."""
        told = [*self._journal.told]
        self.failures["journal"] += self._journal.damaged
        if self._journal.dropped:
            told.append(f"dropped {self._journal.dropped} bytes of a record that was not whole")
        records = self._journal.records
        for record in records:
            self._set(record)
        self._decider = self._new_decider()
        found = resumed(self.config, records, self._decider) if records else None
        if found is None:
            self.total = self._slots_before(records) if records else 0
            try:
                self._new_episode()
            except OSError as error:
                raise EdgeError("journal", f"cannot be written ({error.strerror})", "make room, or mend it") from None
            begun = "the configuration is another: began a new episode" if records else "began with the first episode"
            return [*told, begun]
        self.slot, other = found
        self.total = records[0]["total"] + self.slot
        for record in records:
            if record["kind"] == "decision":
                self._take_note(record["requests"][0], record["budget_macs"], record["streams"][0])
            elif record["kind"] == "observation":
                self._finished[record["seen"]["slot"]] = record["seen"]["retrained"]
        if other:
            told.append(f"the allocator decides otherwise now in slots {other[:5]}")
        told.append(f"went on after slot {self.slot} of episode {self._journal.episode}")
        return told

    def _slots_before(self, records: list[Record]) -> int:
        last = max((one["slot"] for one in records if one["kind"] == "decision"), default=0)
        return int(records[0]["total"]) + int(last)

    def _set(self, record: Record) -> None:
        """Take over what lasts from record to record."""
        if record["kind"] in ("episode", "control"):
            self.paused = record["paused"]
        if record["kind"] in ("episode", "observation"):
            self._forecast = record["forecast"]

    def _new_episode(self) -> None:
        record = {
            "kind": "episode", "total": self.total, "of": head_of(self.config), "paused": self.paused,
            "forecast": self._forecast, "profile": self._profile.name,
        }  # fmt: skip
        self._journal.begin(record)
        self.slot, self._taken, self._finished = 0, [], {}
        self._decider = self._new_decider()

    def _new_decider(self) -> Decider:
        config = self.config
        beside = [name for name in config.shadow if name != config.allocator]
        task = task_of(config)
        return Decider(task, config.profiles, config.allocator, beside, config.seed, self._journal.episode)

    # --- a slot -------------------------------------------------------------------------------------------------

    def begin(self) -> Decision | None:
        """Decide the next slot, write it down, and set it to work.

        Returns:
            The decision; None where it could not be made or written down: everything stays as it is then.
        """
        with self._lock:
            self._batcher.limit = self._limit  # of a new slot, whether it is decided or not
            if self.slot >= self.config.horizon_slots:
                try:
                    self._new_episode()
                except OSError as error:
                    self._not_written(error)
                    return None
                self._tell("info", "episode", number=self._journal.episode)
            budget_macs = self._budget_macs()
            low, high = self.config.stream[0].requests
            expected = min(max(self._forecast if self._forecast is not None else low, low), high)
            try:
                decision = self._decider.decide(self.slot + 1, budget_macs, (float(expected),))
                self._journal.append(decision.record())
            except (OrricError, OSError) as error:
                if isinstance(error, OSError):
                    self._not_written(error)
                else:
                    self.failures["decision"] += 1
                    self._tell("error", "decision failed", error=str(error))
                # The allocator may have decided a slot that is not written down: it begins again with those that are.
                self._decider = self._new_decider()
                replayed(self._decider, self._journal.records)
                return None
            self.slot, self.total = self.slot + 1, self.total + 1
            self._take_note(decision.requests[0], budget_macs, asdict(decision.streams[0]))
            version = self.versions.current.serving
            self.rows.append(SlotRow(self.total, decision, version=version))
            self._apply(decision)
            return decision

    def finish(self) -> Observation | None:
        """End the slot: count, observe, write it down."""
        self._join()
        with self._lock:
            counts = self._uploads.close_slot()
            row = self.rows[-1] if self.rows else None
            if row is None or row.counts is not None:
                return None  # the slot was not decided
            row.counts = counts
            # No more than are expected at most: one burst would keep learning from being afforded for many slots.
            images = min(float(counts.arrived), self.config.stream[0].requests[1])
            if self.config.forecast == "last" or self._forecast is None:
                self._forecast = images
            else:
                self._forecast += EWMA_WEIGHT * (images - self._forecast)
            outcome = row.outcome
            name = self.config.stream[0].name
            observation = Observation(
                row.decision.slot, name, float(counts.arrived), float(counts.served), float(counts.late),
                float(counts.shed), outcome.retrained, outcome.agreement,
            )  # fmt: skip
            self._finished[row.decision.slot] = outcome.retrained
            try:
                record = {"kind": "observation", "seen": asdict(observation), "forecast": self._forecast}
                self._journal.append(record)
                self._decider.observe(observation)
            except OSError as error:
                self._not_written(error)
            except OrricError as error:
                self.failures["decision"] += 1
                self._tell("error", "observation failed", error=str(error))
            row.ratio = ratio_floor(self._profile, self._taken, self._finished)
            told, before = None, self.versions.rollbacks
            try:
                told = self.versions.judge(self.total, row.version, outcome.compared)
            except (OSError, EdgeError) as error:
                self._tell("error", "versions", error=str(error))
            rolled_back = self.versions.rollbacks > before
            if told:
                self._tell("warning" if rolled_back else "info", "versions", what=told)
            if rolled_back:
                self._restore_training()
        give_back()  # what the slot's retraining and its model left, at one moment of a slot and in no request
        return observation

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _take_note(self, requests: float, budget_macs: float, stream: dict[str, Any]) -> None:
        self._taken.append((requests, budget_macs, stream["retraining"], stream["inference"]))

    def _budget_macs(self) -> float:
        try:
            self._free = self._probe()
        except (OrricError, OSError) as error:
            self.failures["probe"] += 1
            self._tell("error", "budget probe failed", error=str(error), kept=self._free)
        return self._free * self.config.budget.macs_per_s * self.config.slot_s

    def _apply(self, decision: Decision) -> None:
        """Set the resolution, and begin to retrain."""
        idle = self.paused or self.config.mode == "shadow"
        stream = decision.streams[0]
        best = max(self._profile.inference, key=lambda one: one.profit).name
        self._batcher.resolution_px = self._models.resolution_px[best if idle else stream.inference]
        limit = None
        if decision.overloaded and not idle:
            cheapest = task_of(self.config).streams[0].inference[0].cost_macs
            limit = int(servable(max(decision.requests[0], 1.0), cheapest, decision.budget_macs))
        self._limit = self._batcher.limit = limit
        sampling = Sampling.of(self._profile, stream.retraining)
        if idle or not sampling.ratio or self._process is None or self.versions.current.pinned:
            return
        counts = [(0, 0)]

        def looked(there: int) -> int:
            counts[0] = sampling.counts(there)
            return counts[0][0]

        # With room for what is held out and set aside.
        fewest = 2 * self.config.evidence.fewest_trained
        drawn = self._uploads.drawn(looked, np.random.default_rng([self.config.seed, self.total]), fewest)
        count = min(counts[0][1], len(drawn.images))
        if not count:
            return
        work = drawn, Wanted(count, sampling.selector.name, sampling.labels), self.rows[-1]
        self._job = threading.Thread(target=self._retrain, args=work, name="retraining", daemon=True)
        self._job.start()

    def _retrain(self, drawn: Drawn, wanted: Wanted, row: SlotRow) -> None:
        """Retrain and, where the new student is fit, let it serve; whatever goes wrong is told."""
        try:
            self._try_to_retrain(drawn, wanted, row)
        except Exception as error:
            self.failures["retraining"] += 1
            row.outcome.failed = f"{type(error).__name__}: {error}"
            self._tell("error", "retraining failed", slot=row.decision.slot, error=row.outcome.failed)
            self._stale = True  # whatever was trained is not what serves

    def _try_to_retrain(self, drawn: Drawn, wanted: Wanted, row: SlotRow) -> None:
        assert self._process is not None, "the caller looked"
        if self._stale:
            self._stale = False
            self._restore_training()
        ruled = self._ruled
        outcome, deadline_s = row.outcome, self.config.retraining.deadline * self.config.slot_s
        try:
            found = self._process.retrain(drawn, wanted, row.total, deadline_s)
        except OrricError as error:
            self.failures["retraining"] += 1
            outcome.failed = str(error)
            self._tell("error", "retraining failed", slot=row.decision.slot, error=str(error))
            return
        outcome.agreement = found.agreement
        self.outcomes.update(found.outcomes)
        if len(found.standing):
            outcome.compared = self.versions.compare(row.version, drawn.images[found.standing], found.labels)
        if not isinstance(found, Candidate):
            outcome.unlearnt = found.why
            self._tell("info", "nothing learnt", slot=row.decision.slot, why=found.why)
            return
        if found.anchors is not None:
            self.anchor_accuracy = found.anchors.accuracy
        accepted = False
        with self._lock:
            overruled = self._ruled != ruled
            try:
                if overruled:
                    raise EdgeError("new version", "the operator chose another one meanwhile")
                version = self.versions.adopt(found, row.total)
                accepted = True
                outcome.retrained, outcome.version = 1.0, version.number
                held_out = found.held_out
                self._tell(
                    "info", "swap", version=version.number, compared=held_out.count, lost=held_out.lost,
                    gained=held_out.gained, anchors=self.anchor_accuracy,
                )  # fmt: skip
            except (OrricError, OSError) as error:
                self.failures["validation"] += 1
                outcome.failed = str(error)
                self._tell("error", "new version refused", slot=row.decision.slot, error=str(error))
        try:
            self._process.settle(accepted)
        except OrricError as error:
            self._tell("error", "retraining process", error=str(error))
        with self._lock:
            overruled = overruled or self._ruled != ruled
        if overruled:
            self._restore_training()

    def _join(self) -> None:
        """Wait for the slot's retraining, which has a deadline of its own."""
        while self._job is not None:
            self._job.join(BEAT_S)
            self.beat()
            if not self._job.is_alive():
                self._job = None

    def _not_written(self, error: OSError) -> None:
        self.failures["journal"] += 1
        self._tell("error", "journal cannot be written", error=error.strerror)

    def _restore_training(self) -> None:
        weights = self.versions.weights()
        if self._process is not None and weights is not None:
            try:
                self._process.restore(weights)
            except OrricError as error:
                self._tell("error", "retraining process", error=str(error))

    # --- the operator -------------------------------------------------------------------------------------------

    def control(self, what: str, version: int | None = None) -> str:
        """Do what the operator asks: "pause", "resume", "pin", "unpin" or "rollback".

        Returns:
            What was done.

        Raises:
            EdgeError: It cannot be done.
        """
        with self._lock:
            if what in ("pause", "resume"):
                paused = what == "pause"
                try:
                    self._journal.append({"kind": "control", "what": what, "paused": paused})
                except OSError as error:
                    self._not_written(error)
                    raise EdgeError(what, "the journal cannot be written", "make room on the disk") from None
                self.paused = paused
                self._ruled += paused  # what is under way changes nothing any more
                done = "paused: decisions are written down and change nothing" if paused else "resumed"
            elif what == "unpin":
                self.versions.unpin()
                done = "retraining may take over again"
            else:
                if what == "pin":
                    number = version if version is not None else self.versions.current.serving
                    self.versions.take(number, pinned=True)
                    done = f"version {number} is pinned"
                else:
                    done = f"rolled back to version {self.versions.roll_back()}"
                self._ruled += 1
                self._stale = True
            self._tell("warning", "operator", what=done)
            return done
