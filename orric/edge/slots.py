"""The slot loop: probe, decide, write down, retrain, swap, observe."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from orric.edge.config import EdgeConfig
from orric.edge.episode import Decider, Decision, head_of, ratio_floor, replayed, resumed
from orric.edge.heap import give_back
from orric.edge.journal import Journal, Record
from orric.edge.learner import Learner, Outcome, Tell
from orric.edge.probes import Probe
from orric.edge.retraining import RetrainingProcess
from orric.edge.serving import Batcher
from orric.edge.told import task_of
from orric.edge.uploads import Counts, Uploads
from orric.edge.versions import Versions
from orric.exceptions import EdgeError, OrricError
from orric.objective import servable
from orric.records import Observation
from orric.retraining.fallback import LOOKED_AT

EWMA_WEIGHT = 0.3
SHOWN_SLOTS = 240
# How often the loop says that it is well, in seconds at most.
BEAT_S = 5.0
# An overrun is told beyond this part of a slot.
TOLD_PART = 0.05


@dataclass
class SlotRow:
    """A slot as the status page shows it."""

    total: int
    decision: Decision
    counts: Counts | None = None
    outcome: Outcome = field(default_factory=Outcome)
    version: int = 0
    ratio: float | None = None
    late_s: float = 0.0
    # The configuration that serves: the decided one, unless decisions change nothing.
    inference: str = ""


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
        self.versions = versions
        self._config, self._journal, self._uploads, self._batcher = config, journal, uploads, batcher
        self._probe, self._tell = probe, tell
        self._profile = config.profiles[0]
        models = self._profile.models
        assert models is not None, "the configuration checks this"
        self._models = models
        self.paused = False
        self.slot = self.total = 0
        self.rows: deque[SlotRow] = deque(maxlen=SHOWN_SLOTS)
        self.failures = dict.fromkeys(("decision", "retraining", "validation", "probe", "journal"), 0)
        self.learner = Learner(config, versions, uploads, process, self.failures, tell)
        # Since the start: slots that were missed, seconds by which others were overrun, and the last of these.
        self.missed, self.overrun_s, self.last_overrun_s = 0, 0.0, 0.0
        self._forecast: float | None = None
        self._free = config.budget.fraction
        self._taken: list[tuple[float, float, str, str]] = []
        self._finished: dict[int, float] = {}
        self._limit: int | None = None
        self._lock = threading.RLock()
        self.recovered = self._recover()

    @property
    def config(self) -> EdgeConfig:
        """The daemon's configuration."""
        return self._config

    @config.setter
    def config(self, config: EdgeConfig) -> None:
        self._config = self.learner.config = config

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
            self.learner.backoff.resume(record.get("backoff"))

    def _new_episode(self) -> None:
        record = {
            "kind": "episode", "total": self.total, "of": head_of(self.config), "paused": self.paused,
            "forecast": self._forecast, "profile": self._profile.name,
        }  # fmt: skip
        self._journal.begin(record | self._stepped_back())
        self.slot, self._taken, self._finished = 0, [], {}
        self._decider = self._new_decider()

    def _stepped_back(self) -> Record:
        """Return what a record tells of the back-off, nothing while there is none."""
        backoff = self.learner.backoff.state()
        return {} if backoff is None else {"backoff": backoff}

    def _new_decider(self) -> Decider:
        config = self.config
        beside = [name for name in config.shadow if name != config.allocator]
        task = task_of(config)
        return Decider(task, config.profiles, config.allocator, beside, config.seed, self._journal.episode)

    # --- a slot -------------------------------------------------------------------------------------------------

    def overrun(self, seconds: float, missed: int) -> None:
        """Take note that the slot before was overrun: the next one begins late, or slots were missed."""
        self.missed += missed
        self.last_overrun_s = seconds
        if not missed and seconds <= TOLD_PART * self.config.slot_s:
            return
        self.overrun_s += seconds
        self._tell("warning", "slot overrun", after=self.total, overrun_s=round(seconds, 3), missed=missed)

    def begin(self, late_s: float = 0.0, missed: int = 0) -> Decision | None:
        """Decide the next slot, write it down, and set it to work.

        Args:
            late_s: By how much it begins late.
            missed: Slots before it by the clock that did not begin at all.

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
                waiting = (float(self._batcher.waiting),)
                decision = self._decider.decide(self.slot + 1, budget_macs, (float(expected),), waiting)
                clock = {"late_s": late_s} if late_s > TOLD_PART * self.config.slot_s else {}
                self._journal.append(decision.record() | clock | ({"missed": missed} if missed else {}))
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
            self.rows.append(SlotRow(self.total, decision, version=version, late_s=late_s))
            self._apply(decision)
            return decision

    def finish(self, lasted: float = 1.0) -> Observation | None:
        """End the slot: count, observe, write it down. A retraining that is still under way counts for nothing in it.

        Args:
            lasted: For how many slots' time it was counted, 1 at least.
        """
        with self._lock:
            counts = self._uploads.close_slot()
            self.learner.pass_slot()
            row = self.rows[-1] if self.rows else None
            if row is None or row.counts is not None:
                return None  # the slot was not decided
            row.counts = counts
            # No more than are expected at most: one burst would keep learning from being afforded for many slots.
            images = min(counts.arrived / lasted, self.config.stream[0].requests[1])
            if self.config.forecast == "last" or self._forecast is None:
                self._forecast = images
            else:
                self._forecast += EWMA_WEIGHT * (images - self._forecast)
            outcome = row.outcome
            name = self.config.stream[0].name
            observation = Observation(
                row.decision.slot, name, float(counts.arrived), float(counts.served), float(counts.late),
                float(counts.shed), outcome.retrained, outcome.agreement, waiting=float(self._batcher.waiting),
                retraining=row.decision.streams[0].retraining, inference=row.inference, labels=float(outcome.labels),
                inference_share=row.decision.streams[0].inference_share, budget_macs=row.decision.budget_macs,
                told=row.decision.requests[0],
            )  # fmt: skip
            self._finished[row.decision.slot] = observation.retrained
            try:
                record = {"kind": "observation", "seen": asdict(observation), "forecast": self._forecast}
                executed = {} if outcome.executed is None else {"executed": outcome.executed}
                self._journal.append(record | executed | self._stepped_back())
                self._decider.observe(observation)
            except OSError as error:
                self._not_written(error)
            except OrricError as error:
                self.failures["decision"] += 1
                self._tell("error", "observation failed", error=str(error))
            row.ratio = ratio_floor(self._profile, self._taken, self._finished)
            self.learner.judge(self.total, row.version)
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
        except Exception as error:
            self.failures["probe"] += 1
            self._tell("error", "budget probe failed", error=str(error), kept=self._free)
        return self._free * self.config.macs_per_s * self.config.slot_s

    def _apply(self, decision: Decision) -> None:
        """Set the resolution, and begin to retrain."""
        idle = self.paused or self.config.mode == "shadow"
        stream = decision.streams[0]
        best = max(self._profile.inference, key=lambda one: one.profit).name
        row = self.rows[-1]
        row.inference = best if idle else stream.inference
        self._batcher.resolution_px = self._models.resolution_px[row.inference]
        if not idle and self._profile.training.fallback:
            self._fall_back()
        limit = None
        if decision.overloaded and not idle:
            cheapest = task_of(self.config).streams[0].inference[0].cost_macs
            limit = int(servable(max(decision.requests[0], 1.0), cheapest, decision.budget_macs))
        self._limit = self._batcher.limit = limit
        if not idle:
            self.learner.begin(stream.retraining, decision.slot, row.total, row.version, row.late_s, row.outcome)

    def _fall_back(self) -> None:
        """Let the given student serve where more is expected of it, by the images of the slot before."""
        rng = np.random.default_rng([self.config.seed, self.total])
        drawn = self._uploads.drawn(lambda there: min(there, LOOKED_AT), rng)
        if self.versions.fall_back(drawn.images, self._batcher.resolution_px):
            serving = (
                "the given student, of which more is expected" if self.versions.fallen_back else "the newest version"
            )
            self._tell("info", "fallback", serving=serving)

    def _not_written(self, error: OSError) -> None:
        self.failures["journal"] += 1
        self._tell("error", "journal cannot be written", error=error.strerror)

    # --- the operator -------------------------------------------------------------------------------------------

    def control(self, what: str, version: int | None = None) -> str:
        """Do what the operator asks: "pause", "resume", "pin", "unpin" or "rollback".

        Returns:
            What was done.

        Raises:
            EdgeError: It cannot be done.
        """
        if what in ("pause", "resume"):
            with self._lock:
                try:
                    self._journal.append({"kind": "control", "what": what, "paused": what == "pause"})
                except OSError as error:
                    self._not_written(error)
                    raise EdgeError(what, "the journal cannot be written", "make room on the disk") from None
                self.paused = what == "pause"
            # What is under way may be writing a version: it is waited for here, and not within a slot.
            done = self.learner.choose("pause") if self.paused else "resumed"
        else:
            done = self.learner.choose(what, version)
        self._tell("warning", "operator", what=done)
        return done
