"""Decisions for those who serve by other means: Triton, Sedna or their own."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from orric.edge.config import EdgeConfig
from orric.edge.episode import Decider, head_of, replayed, resumed
from orric.edge.journal import Journal, Record
from orric.edge.probes import Probe
from orric.edge.told import task_of
from orric.exceptions import EdgeError, OrricError
from orric.records import Observation


class DecisionService:
    """Decides a slot whenever somebody asks.

    Args:
        config: Whose streams, allocator and episodes these are.
        journal: Written to before an answer.
        probe: Of the budget, where none is given.
    """

    def __init__(self, config: EdgeConfig, journal: Journal, probe: Probe) -> None:
        self._config, self._journal, self._probe = config, journal, probe
        self._lock = threading.Lock()
        self._free = config.budget.fraction
        self.recovered = [*journal.told]
        self.slot = self.total = 0
        records = journal.records
        if journal.dropped:
            self.recovered.append(f"dropped {journal.dropped} bytes of a record that was not whole")
        self._decider = self._new_decider()
        found = resumed(config, records, self._decider) if records else None
        if found is not None:
            self.slot, _ = found
            self.total = records[0]["total"] + self.slot
            self.recovered.append(f"went on after slot {self.slot} of episode {journal.episode}")
        else:
            self._new_episode()
            self.recovered.append("began a new episode")

    def decide(self, requests: dict[str, float], budget_macs: float | None, observed: list[dict[str, Any]]) -> Record:
        """Decide the next slot.

        Args:
            requests: Of every stream.
            budget_macs: C(t); the probe's where it is None.
            observed: Of the slot before, an observation of each stream that there is one of.

        Raises:
            EdgeError: A stream is unknown or missing, or the decision could not be written down.
        """
        names = [one.name for one in self._config.stream]
        if set(requests) != set(names):
            odd = min(set(requests) ^ set(names))
            raise EdgeError("requests", f"stream {odd!r} is unknown or missing", f"known: {', '.join(names)}")
        with self._lock:
            for given in observed:
                if given["stream"] not in names:
                    raise EdgeError("observed", f"stream {given['stream']!r} is unknown", f"known: {', '.join(names)}")
            if self.slot >= self._config.horizon_slots:
                # What was observed is of the last slot of an episode whose allocator decides nothing more.
                self._new_episode()
                observed = []
            if budget_macs is None:
                budget_macs = self._budget_macs()
            chosen, last = self._chosen(), max(self.slot, 1)
            seen = [Observation(slot=last, **chosen.get(given["stream"], {}), **given) for given in observed]
            waiting = {one.stream: one.waiting for one in seen}
            backlogs = tuple(waiting.get(name, 0.0) for name in names) if seen else ()
            try:
                for one in seen:
                    self._decider.observe(one)
                expected = tuple(requests[name] for name in names)
                decision = self._decider.decide(self.slot + 1, budget_macs, expected, backlogs)
                # In one record with what was observed, so that whoever asks again after an error repeats nothing.
                self._journal.append({**decision.record(), "observed": [asdict(one) for one in seen]})
            except (OSError, OrricError) as error:
                self._decider = self._new_decider()
                replayed(self._decider, self._journal.records)
                if isinstance(error, OSError):
                    raise _not_written(error) from None
                raise
            self.slot, self.total = self.slot + 1, self.total + 1
            whole = self._config.macs_per_s * self._config.slot_s
            streams = []
            for named, profile, allocation in zip(
                self._config.stream, self._config.profiles, decision.streams, strict=True
            ):
                retraining = next(it for it in profile.retraining if it.name == allocation.retraining)
                inference = next(it for it in profile.inference if it.name == allocation.inference)
                count = requests[named.name]
                shares = allocation.retraining_share, allocation.inference_share
                streams.append(
                    {
                        "stream": named.name,
                        "retraining": allocation.retraining,
                        "inference": allocation.inference,
                        "retraining_share": _share(shares[0], count * retraining.cost_macs, whole),
                        "inference_share": _share(shares[1], count * inference.cost_macs, whole),
                    }
                )
            return {
                "episode": self._journal.episode, "slot": self.slot, "budget_macs": budget_macs,
                "overloaded": decision.overloaded, "reason": decision.reason, "streams": streams,
            }  # fmt: skip

    def _chosen(self) -> dict[str, dict[str, Any]]:
        """Return what was decided last, as observations tell it, by stream; nothing at the begin of an episode."""
        last = next((one for one in reversed(self._journal.records) if one["kind"] == "decision"), None)
        return {} if last is None else {
            named.name: {kind: one[kind] for kind in ("retraining", "inference", "inference_share")}
            | {"budget_macs": last["budget_macs"], "told": told}
            for named, one, told in zip(self._config.stream, last["streams"], last["requests"], strict=True)
        }  # fmt: skip

    def _budget_macs(self) -> float:
        """Ask the probe; where it fails, the last budget holds."""
        with suppress(OrricError, OSError):
            self._free = self._probe()
        return self._free * self._config.macs_per_s * self._config.slot_s

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _new_episode(self) -> None:
        head = {"kind": "episode", "total": self.total, "of": head_of(self._config), "paused": False, "forecast": None}
        try:
            self._journal.begin(head)
        except OSError as error:
            raise _not_written(error) from None
        self.slot = 0
        self._decider = self._new_decider()

    def _new_decider(self) -> Decider:
        config = self._config
        return Decider(task_of(config), config.profiles, config.allocator, (), config.seed, self._journal.episode)


def _not_written(error: OSError) -> EdgeError:
    return EdgeError("journal", f"cannot be written ({error.strerror})", "make room")


def _share(given: float | None, macs: float, whole_macs: float) -> float:
    """Return a share of the device: the given one, or what the work costs of it, all of it at most."""
    return min(macs / whole_macs, 1.0) if given is None else given
