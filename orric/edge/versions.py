"""Which version of the student serves: checked before it does, on probation then, taken back when it is worse."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from orric.edge.config import EdgeConfig
from orric.edge.identity import Given
from orric.edge.retraining import Candidate
from orric.edge.serving import Batcher, Model
from orric.edge.store import MODEL, WEIGHTS, Current, ModelStore, Version
from orric.exceptions import EdgeError
from orric.retraining.evidence import Comparison, Probation, objection
from orric.retraining.fallback import LOOKED_AT, Fallback
from orric.vision.arrays import Labels
from orric.vision.datasets import Pixels, to_input

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
        fallback: What is known of the student as it was given beside the newest.
        fallen_back: Whether the student as it was given serves the slot, though a newer one is there.
    """

    def __init__(self, config: EdgeConfig, store: ModelStore, provider: str, resolutions_px: tuple[int, ...]) -> None:
        self._config, self.store = config, store
        self._provider, self._resolutions_px = provider, resolutions_px
        self.swaps = self.rollbacks = 0
        self.model: Model | None = None
        self._batcher: Batcher | None = None
        # Slots are counted over all episodes.
        self._probation = Probation()
        self._good: Model | None = None
        # Where the profile falls back on it.
        self._given: Model | None = None
        self.fallback, self.fallen_back = Fallback(), False
        # A slot begins in one thread, and what was learnt takes over in another.
        self._serving = threading.Lock()

    @property
    def current(self) -> Current:
        """Which versions count."""
        assert self.store.current is not None, "the daemon begins with a version"
        return self.store.current

    def begin(self, first: Callable[[], Candidate | bytes], identity: Given | None) -> list[str]:
        """Load the version that counts, or keep and load the given student.

        Args:
            first: Returns the given student: as the retraining process has it, or the file of one that only serves.
            identity: What is given; where the store was begun with another student or teacher, this one takes over.

        Returns:
            What to tell of it.

        Raises:
            EdgeError: The given student does not load, or the store cannot be written.
        """
        try:
            return self._begin(first, identity)
        except OSError as error:
            raise EdgeError("store.folder", f"cannot be written ({error.strerror})", "make room, or mend it") from None

    def _begin(self, first: Callable[[], Candidate | bytes], identity: Given | None) -> list[str]:
        told, begun = [*self.store.told], self.store.identity
        goes_on = identity == begun or (identity is not None and begun is not None and identity.continues(begun))
        if self.store.current is not None and not goes_on:
            told.append(
                "what the store was begun with is not known: the given student takes over" if begun is None
                else "the given student or teacher is another than the store was begun with"
            )  # fmt: skip
        if self.store.current is None or not goes_on:
            given = first()
            files = {MODEL: given} if isinstance(given, bytes) else given.files
            model = self._open(files[MODEL], 1)
            if isinstance(given, Candidate):
                self._compare(model, given)
            version = self.store.keep(files, 0, None)
            self.store.point_at(Current(version.number, version.number))
            told.append(f"began with the given student as version {version.number}")
        if identity is not None and (not goes_on or identity.after(begun) != begun):
            self.store.begun_with(identity.after(begun if goes_on else None))
        version, files = self.store.load(self.current.serving)
        self.model = self._open(files[MODEL], self.current.serving)
        if self.current.good != self.current.serving:
            self._probation.begin(self.current.serving, version.slot)
        told.append(f"serving version {self.current.serving}")
        if self.store.keeps_given:
            number = self.store.given_version()
            if number is None:
                told.append("the given student is not in the store any more, so that nothing falls back on it")
            else:
                self._given = self._open(self.store.load(number)[1][MODEL], number)
        return told

    def configure(self, config: EdgeConfig) -> None:
        """Take over other margins."""
        self._config = config

    def attach(self, batcher: Batcher) -> None:
        """Swap in this batcher from now on."""
        self._batcher = batcher

    def fall_back(self, images: Pixels, resolution_px: int) -> bool:
        """Let the given student serve from now on where it is expected to be right more often, elsewhere the newest.

        Args:
            images: That came last, shape (n, height, width, 3); at most `LOOKED_AT` of them are looked at. Where there
                are none, it stays as it is.
            resolution_px: At which they are served.

        Returns:
            Whether it is another one that serves now.
        """
        given, newest, before = self._given, self.model, self.fallen_back
        if given is None or newest is None:
            return False
        back = before
        if newest.version == given.version or self.current.pinned:
            back = False
        elif len(images):
            inputs = to_input(images[:LOOKED_AT], resolution_px)
            back = self.fallback.chooses(resolution_px, given.logits(inputs), newest.logits(inputs))
        with self._serving:
            if self.model is not newest:
                return False  # another one has taken over meanwhile, and serves
            self.fallen_back = back
            if self._batcher is not None:
                self._batcher.model = given if back else newest
        return back != before

    def learn_from(self, number: int, images: Pixels, labels: Labels) -> None:
        """Compare the given student with a version on labelled samples, to fall back on it where it is better.

        Args:
            number: The version that served when the samples were labelled; nothing is learnt of any but the newest.
            images: In an order drawn at random, shape (n, height, width, 3), none of which the version was trained on;
                at most `LOOKED_AT` of them are looked at.
            labels: True ones where they are known, else the teacher's.
        """
        given, newest = self._given, self.model
        if given is None or newest is None or newest.version != number or number == given.version or not len(images):
            return
        for px in self._resolutions_px:
            inputs = to_input(images[:LOOKED_AT], px)
            self.fallback.learn(px, given.logits(inputs), newest.logits(inputs), labels[:LOOKED_AT])

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
        evidence = self._config.evidence
        against = objection(
            candidate.held_out, candidate.anchors, self._config.fewest_compared, self._config.retraining.margin,
            evidence.anchor_loss,
        )  # fmt: skip
        if against is not None:
            raise EdgeError("new version", against)
        version = self.store.keep(candidate.files, slot, candidate.agreement)
        good = self.current.good if self._config.store.canary_slots else version.number
        self.store.proving = self._probation.oldest
        self.store.point_at(Current(version.number, good))
        if self._config.store.canary_slots:
            self._probation.begin(version.number, slot)
        self._swap(replace(model, version=version.number))
        return version

    def compare(self, number: int, images: Pixels, labels: Labels) -> Comparison | None:
        """Compare a version on probation with the last one that proved itself, on the same labelled samples.

        On the same samples, because a drift makes both of them worse.

        Args:
            number: The version that served when the samples were labelled.
            images: Shape (n, height, width, 3).
            labels: True ones where they are known, else the teacher's.

        Returns:
            The version beside that one; None where it is not on probation, or not loaded.
        """
        model, good = self.model, self.current.good
        if number not in self._probation or model is None or model.version != number or number == good:
            return None
        if self._good is None or self._good.version != good:
            try:
                self._good = self._open(self.store.load(good)[1][MODEL], good)
            except EdgeError:
                return None
        inputs = to_input(images, self._resolutions_px[-1])
        ours = model.logits(inputs).argmax(axis=1) == labels
        theirs = self._good.logits(inputs).argmax(axis=1) == labels
        return Comparison(len(labels), int((theirs & ~ours).sum()), int((ours & ~theirs).sum()))

    def judge(self, slot: int, number: int, found: Comparison | None) -> str | None:
        """Look at the version that served in a slot; roll back, or let those that have proved themselves count.

        To prove itself takes time, `store.canary_slots`, and evidence: as many compared samples as find a loss with the
        wished power. Those of later versions count for it, too, since they were trained from it.

        Args:
            slot: Counted over all episodes.
            number: The version that served at its begin.
            found: From `compare`.

        Returns:
            What to tell of it, None for nothing.
        """
        self._probation.keep(set(self.store.versions()))
        if number in self._probation and found is not None:
            worse_by = self._probation.add(number, found, self._config.store.canary_margin)
            if worse_by is not None:
                version = self.roll_back()
                return (
                    f"version {number} agrees less with the teacher than version {version}, by {worse_by:.1%} or "
                    "more: rolled back"
                )
        best = self._probation.proved(slot, self._config.store.canary_slots, self._config.fewest_compared)
        if best is None:
            return None
        self.store.proving = self._probation.oldest
        self.store.point_at(replace(self.current, good=best))
        return f"version {best} has proved itself"

    def roll_back(self) -> int:
        """Let the last version that proved itself serve; where that one serves, the one before it. Newer ones go.

        Raises:
            EdgeError: There is no earlier one.
        """
        current = self.current
        older = [number for number in self.store.versions() if number < current.serving]
        target = current.good if current.good < current.serving else max(older, default=0)
        if not target:
            raise EdgeError("roll back", "there is no earlier version")
        self.take(target)
        self.rollbacks += 1  # it serves from here on, even where the newer ones cannot be removed
        self.store.forget_after(target)
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
        self.fallback = Fallback()  # what is known is known of another
        self._swap(model)

    def unpin(self) -> None:
        """Let retraining take over again."""
        self.store.point_at(replace(self.current, pinned=False))

    def _swap(self, model: Model) -> None:
        with self._serving:
            self.model, self.fallen_back = model, False
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
