"""Which version of the student serves: checked before it does, on probation then, taken back when it is worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from orric.edge.config import EdgeConfig
from orric.edge.retraining import Candidate
from orric.edge.serving import Batcher, Model
from orric.edge.store import MODEL, WEIGHTS, Current, ModelStore, Version
from orric.exceptions import EdgeError

# As in `orric.vision.onnx_export.check_outputs`, which needs torch.
TOLERANCE = 1e-4


class Versions:
    """The store, the model that serves, and the rules between them.

    Args:
        config: Margins, probation, the execution provider.
        store: The versions on disk.
        provider: ONNX Runtime's name of it.
        resolutions_px: At which every version must run.

    Attributes:
        model: What serves.
        swaps: How often another version took over.
        rollbacks: How often an older one did.
    """

    def __init__(self, config: EdgeConfig, store: ModelStore, provider: str, resolutions_px: tuple[int, ...]) -> None:
        self._config, self.store = config, store
        self._provider, self._resolutions_px = provider, resolutions_px
        self.swaps = self.rollbacks = 0
        self.model: Model | None = None
        self._batcher: Batcher | None = None
        # Slot (counted over all episodes) in which each version on probation began to serve, and what it is held to.
        self._probation: dict[int, tuple[int, float | None]] = {}

    @property
    def current(self) -> Current:
        """Which versions count."""
        assert self.store.current is not None, "the daemon begins with a version"
        return self.store.current

    def begin(self, first: Callable[[], Candidate | bytes]) -> list[str]:
        """Load the version that counts, or keep and load the given student.

        Args:
            first: Returns the given student: as the retraining process has it, or the file of one that only serves.

        Returns:
            What to tell of it.
        """
        told = [*self.store.told]
        if self.store.current is None:
            given = first()
            files = {MODEL: given} if isinstance(given, bytes) else given.files
            model = self._open(files[MODEL], 1)
            if isinstance(given, Candidate):
                self._compare(model, given)
            version = self.store.keep(files, 0, None)
            self.store.point_at(Current(version.number, version.number))
            told.append(f"began with the given student as version {version.number}")
        _, files = self.store.load(self.current.serving)
        self.model = self._open(files[MODEL], self.current.serving)
        if self.current.good != self.current.serving:
            self._probation[self.current.serving] = (0, None)
        told.append(f"serving version {self.current.serving}")
        return told

    def configure(self, config: EdgeConfig) -> None:
        """Take over other margins."""
        self._config = config

    def attach(self, batcher: Batcher) -> None:
        """Swap in this batcher from now on."""
        self._batcher = batcher

    def weights(self) -> bytes | None:
        """Return the weights of the version that serves, for training to go on from."""
        _, files = self.store.load(self.current.serving)
        return files.get(WEIGHTS)

    def adopt(self, candidate: Candidate, slot: int) -> Version:
        """Check a new student, keep it, and let it serve.

        Args:
            candidate: From the retraining process.
            slot: Counted over all episodes.

        Raises:
            EdgeError: It is not fit to serve: another one goes on.
            OSError: It could not be kept.
        """
        if self.current.pinned:
            raise EdgeError("new version", "the operator has pinned another")
        model = self._open(candidate.files[MODEL], 0)
        self._compare(model, candidate)
        if candidate.worse_by > self._config.retraining.margin:
            found = (
                f"lost the teacher's agreement on {candidate.lost} of {candidate.held_out} held-out samples and gained "
                f"it on {candidate.gained}"
            )
            raise EdgeError("new version", found, f"{self._config.retraining.margin:.0%} less are allowed")
        version = self.store.keep(candidate.files, slot, candidate.agreement)
        good = self.current.good if self._config.store.canary_slots else version.number
        self.store.point_at(Current(version.number, good))
        self._probation[version.number] = (slot, candidate.agreement)
        self._swap(replace(model, version=version.number))
        return version

    def judge(self, slot: int, agreement: float | None) -> str | None:
        """Look at the version that serves after a slot; roll back, or let those that have proved themselves count.

        Args:
            slot: Counted over all episodes.
            agreement: Of the version that served with the teacher in that slot, None where nothing was labelled.

        Returns:
            What to tell of it, None for nothing.
        """
        serving = self.current.serving
        asked = self._probation.get(serving)
        since, held_to = asked if asked is not None else (slot, None)
        worse = agreement is not None and held_to is not None and agreement < held_to - self._config.store.canary_margin
        if worse and since < slot:
            version = self.roll_back()
            return (
                f"version {serving} agrees with the teacher on {agreement:.1%}, its forerunner on {held_to:.1%}: "
                f"rolled back to version {version}"
            )
        proved = [
            number for number, (since, _) in self._probation.items() if since + self._config.store.canary_slots <= slot
        ]
        if not proved:
            return None
        for number in proved:
            del self._probation[number]
        if max(proved) in self.store.versions():
            self.store.point_at(Current(serving, max(proved), self.current.pinned))
        return f"version {max(proved)} has proved itself"

    def roll_back(self) -> int:
        """Let the last version that proved itself serve; where that one serves, the one before it.

        Raises:
            EdgeError: There is no earlier one.
        """
        current = self.current
        older = [number for number in self.store.versions() if number < current.serving]
        target = current.good if current.good != current.serving else max(older, default=0)
        if not target:
            raise EdgeError("roll back", "there is no earlier version")
        self.take(target)
        self.rollbacks += 1
        return target

    def take(self, number: int, pinned: bool = False) -> None:
        """Let a version from the store serve.

        Raises:
            EdgeError: It is missing or damaged.
        """
        _, files = self.store.load(number)
        model = self._open(files[MODEL], number)
        self.store.point_at(Current(number, number, pinned))
        self._probation.clear()
        self._swap(model)

    def unpin(self) -> None:
        """Let retraining take over again."""
        self.store.point_at(Current(self.current.serving, self.current.good))

    def _swap(self, model: Model) -> None:
        self.model = model
        self.swaps += 1
        if self._batcher is not None:
            self._batcher.model = model  # a batch under way goes on with the one that it began with

    def _open(self, content: bytes, number: int) -> Model:
        return Model.open(content, number, self._provider, self._config.server.threads, self._resolutions_px)

    def _compare(self, model: Model, candidate: Candidate) -> None:
        """Refuse a model that does not give what torch gave for the same inputs."""
        found: np.ndarray[Any, Any] = model.session.run(None, {model.name: candidate.inputs})[0]
        difference = float(np.abs(found - candidate.expected).max(initial=0.0))
        tolerance = TOLERANCE * max(1.0, float(np.abs(candidate.expected).max(initial=0.0)))
        if not difference <= tolerance:
            raise EdgeError("new version", f"its outputs differ from torch's by {difference:.3g}", "it is not served")
