"""A student that is served by ONNX Runtime while it is retrained by torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from orric.exceptions import CalibrationError, ProfileError
from orric.profile import Profile
from orric.retraining.acceptance import Acceptance, Version, compared
from orric.retraining.fallback import LOOKED_AT, Fallback
from orric.retraining.models import ServedNetwork, classes_of, exported, with_features
from orric.retraining.training import (
    copied_statistics,
    optimizer_for,
    put_statistics,
    refresh_statistics,
    single_threaded,
    take_statistics,
    too_few,
    train,
)
from orric.selection.candidates import Candidates
from orric.selection.network_gradients import last_layer
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX as FULL_PX
from orric.vision.datasets import Dataset, Pixels, load_dataset, to_input
from orric.vision.onnx_export import check_outputs, outputs_of
from orric.vision.onnx_sessions import Array, batches, open_session, run

Update = Literal["weights", "statistics"]
Statistics = list[tuple[Tensor, Tensor]]
# The same weights with the statistics of other resolutions, by these.
Others = dict[int, tuple[Any, Statistics]]
PROBES = 4


@dataclass(frozen=True)
class Staged:
    """Weights that wait to serve.

    Attributes:
        session: With them.
        inputs: For the check at the swap.
        expected: What torch gave for these.
        version: With the session's others; where nothing is accepted or refused, without weights.
        rollbacks: How often an older version had taken over when they were trained.
    """

    session: Any
    inputs: Array
    expected: Array
    version: Version
    rollbacks: int


class Student:
    """The student of one stream: serve, label, retrain, check, swap.

    Args:
        profile: Names the weights, the data set and the resolutions.
        update: "weights" retrains; "statistics" only refreshes the batch norms, the ablation.
        probes: Images on which ONNX Runtime is compared with torch, shape (n, height, width, 3). Left out, they are
            held-out ones of the data set, whose classes the models must know; given, no data set is needed.

    Attributes:
        classes: Number of classes.
        swaps: Number of swaps so far.
        largest_difference: Largest difference between ONNX Runtime and torch seen at any swap.
        fallback: What is known of the student as it was given beside the newest.
        acceptance: Which student serves, None where every new one does.
    """

    def __init__(self, profile: Profile, update: Update = "weights", probes: Pixels | None = None) -> None:
        assert profile.models is not None, "the scenario or the calibration checks this"
        models = profile.models
        self._profile = profile
        self.resolutions_px: Sequence[int] = sorted(set(models.resolution_px.values()) | {FULL_PX})
        self.update: Update = update
        self.swaps, self.largest_difference = 0, 0.0
        self.fallback = Fallback()
        student, teacher = profile.beside(models.student), profile.beside(models.teacher)
        if probes is None:
            probes = self.dataset.images[self.dataset.held_out[:PROBES]]
            classes = len(self.dataset.classes)
        else:
            classes = classes_of(student, "student")
        self.classes = classes
        self._student = ServedNetwork.load(student, "student", classes, self.resolutions_px)
        self._training = profile.training
        if profile.training.device == "cuda" and not torch.cuda.is_available():
            raise ProfileError("training.device", 'is "cuda" and there is no such device', 'set it to "cpu"')
        self._student.network.to(profile.training.device)
        self._optimizer = optimizer_for(self._student.network, profile.training)
        # What serves and the newest weights, with the statistics of other resolutions, where there are several to serve
        # at.
        self._others: Others = {}
        self._newest_others: Others = {}
        # The student as it was given stays at hand, to fall back on.
        self._given = self._serving = open_session(self._student.model.SerializeToString())
        self._teacher_model = exported(teacher, "teacher", classes)
        self._teacher = open_session(self._teacher_model)
        self._staged: Staged | None = None
        self._versions = 0
        # What torch gave for the newest weights at the full resolution, for the check at the swap.
        self._expected: tuple[Array, Array] | None = None
        self._probes = probes
        self._check(self._serving, probes, "loading the student", self.resolutions_px)
        self.acceptance = Acceptance(self._version(self._given)) if self._training.acceptance else None
        # One model serves all: after every retraining it is compared at the full resolution and at another in turn.
        self._checked_px = itertools.cycle([px for px in self.resolutions_px if px != FULL_PX] or [FULL_PX])

    @cached_property
    def dataset(self) -> Dataset:
        """The data set that the profile names."""
        assert self._profile.models is not None, "see above"
        return load_dataset(self._profile.models.dataset, self._profile.data)

    @property
    def network(self) -> nn.Module:
        """The network that is trained, with its present weights."""
        return self._student.network

    @property
    def guarded(self) -> bool:
        """Whether the given student serves where it is expected to be right more often than the newest one."""
        return self._training.fallback

    def logits(self, inputs: Array, given: bool = False) -> Array:
        """Return the outputs of the newest weights, or of those that were given, for inputs of any resolution.

        Args:
            inputs: Shape (n, 3, height, width).
            given: Whether of those that were given.
        """
        if given:
            return run(self._given, inputs)
        session, _ = self._others.get(inputs.shape[-1], (self._serving, None))
        return run(session, inputs)

    def classify(self, images: Pixels, resolution_px: int, given: bool = False) -> Labels:
        """Classify images of shape (n, height, width, 3) with the newest weights, or with those that were given."""
        labels: Labels = self.logits(to_input(images, resolution_px), given).argmax(axis=1)
        return labels

    def falls_back(self, images: Pixels, resolution_px: int) -> bool:
        """Say whether the given student is to serve a slot in place of the newest one; see `orric.retraining.fallback`.

        Args:
            images: The slot's first, shape (n, height, width, 3); at most `LOOKED_AT` of them are looked at.
            resolution_px: At which they are served.
        """
        if not self._training.fallback or self._serving is self._given or not len(images):
            return False
        inputs = to_input(images[:LOOKED_AT], resolution_px)
        return self.fallback.chooses(resolution_px, self.logits(inputs, given=True), self.logits(inputs))

    def compare(self, images: Pixels, labels: Labels) -> None:
        """Compare the newest student on labelled samples that it is not trained on yet.

        Beside the last one that proved itself, which takes over where it is better, and beside the given one, which may
        serve a slot.

        Args:
            images: In an order drawn at random, shape (n, height, width, 3); beside the given one at most `LOOKED_AT`
                of them are looked at, at every resolution that serves.
            labels: The teacher's, shape (n,).
        """
        if self.acceptance is not None and len(images):
            self._judge(self.acceptance, images, labels)
        if not self._training.fallback or self._serving is self._given or not len(images):
            return
        for px in self.resolutions_px:
            inputs = to_input(images[:LOOKED_AT], px)
            self.fallback.learn(px, self.logits(inputs, given=True), self.logits(inputs), labels[:LOOKED_AT])

    def label(self, images: Pixels) -> Labels:
        """Return the teacher's pseudo-labels for images of shape (n, height, width, 3)."""
        labels: Labels = run(self._teacher, to_input(images, FULL_PX)).argmax(axis=1)
        return labels

    def taught(self, images: Pixels) -> tuple[Labels, Array]:
        """Return the teacher's pseudo-labels for images, and its features of them.

        Args:
            images: Shape (n, height, width, 3), n at least 1.

        Returns:
            Labels of shape (n,), and what goes into the teacher's last layer, shape (n, d): its logits where that
            cannot be told.
        """
        parts = [self._feature_session.run(None, {self._teacher.get_inputs()[0].name: part}) for part in batches(
            to_input(images, FULL_PX)
        )]  # fmt: skip
        logits, *others = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        features = others[0] if others and others[0].ndim == 2 else logits
        return logits.argmax(axis=1), features

    @cached_property
    def _feature_session(self) -> Any:
        return open_session(with_features(self._teacher_model))

    def agreement(self, images: Pixels, labels: Labels, resolution_px: int = FULL_PX) -> float:
        """Return the part of images on which the student that serves now agrees with the teacher's labels.

        Args:
            images: Shape (n, height, width, 3), n at least 1.
            labels: The teacher's, shape (n,).
            resolution_px: At which the student looks at them.
        """
        given = self.falls_back(images, resolution_px)
        return float((self.classify(images, resolution_px, given) == labels).mean())

    def candidates(self, images: Pixels, labels: Labels | None = None) -> Candidates:
        """Return what the weights in training make of images, for a selector.

        Args:
            images: Shape (n, height, width, 3), n at least 1.
            labels: The teacher's, shape (n,); left out, the student's own predictions.

        Raises:
            SelectionError: The student does not end in a linear layer, or gives what is not finite.
        """
        inputs = torch.from_numpy(to_input(images, FULL_PX)).to(self._training.device)
        with single_threaded():
            return Candidates(*last_layer(self.network, inputs), labels)

    def classify_staged(self, images: Pixels) -> Labels:
        """Classify images of shape (n, height, width, 3) with the staged weights, at the full resolution."""
        assert self._staged is not None, "the caller staged some"
        labels: Labels = run(self._staged.session, to_input(images, FULL_PX)).argmax(axis=1)
        return labels

    def served(self) -> tuple[bytes, bytes, Array, Array]:
        """Return the present weights for a store: as an ONNX model, as safetensors, and what torch gives for probes."""
        # Copies, since parameters may share memory, which the format refuses.
        weights = {name: value.cpu().contiguous().clone() for name, value in self.network.state_dict().items()}
        assert self._expected is not None, "whatever serves was checked"
        return self._student.replaced(), safetensors.torch.save(weights), *self._expected

    def restore(self, weights: bytes) -> None:
        """Take weights from a store, and serve them; training goes on from them, without momentum.

        Args:
            weights: As `served` gives them.

        Raises:
            CalibrationError: They are those of another network.
        """
        try:
            self.network.load_state_dict(safetensors.torch.load(weights))
        except (RuntimeError, safetensors.SafetensorError) as error:
            line = str(error).splitlines()[0]
            raise CalibrationError("stored weights", f"are not this student's ({line})", "begin a new store") from None
        self.network.eval()
        self._optimizer = optimizer_for(self.network, self._training)
        self._staged = None
        staged = open_session(self._student.replaced())
        self._check(staged, self._probes, "restoring the student", {FULL_PX})
        self._serving, self.fallback = staged, Fallback()
        self._others, self._newest_others = {}, {}

    def retrain(
        self,
        images: Pixels,
        rng: np.random.Generator,
        labels: Labels | None = None,
        received: Pixels | None = None,
        served_px: Sequence[int] = (FULL_PX,),
    ) -> None:
        """Label images, train on them, and stage the new weights for `swap`; do nothing when there are none.

        Where the profile says so, a part of them is held out, and nothing is staged that is the worse for it.

        Args:
            images: The sampled images, shape (n, height, width, 3).
            rng: Orders them.
            labels: The teacher's labels of them, where they are known already.
            received: All images among which they were sampled, which the batch-norm statistics are taken from where
                the profile says so; left out, those that are trained on.
            served_px: The resolutions to serve at, each of which then gets statistics of its own, where they are taken
                from all received: what is scaled down has others, above all under noise, which that smooths. The
                network is left with those of the first.

        Raises:
            CalibrationError: The exported weights do not give torch's outputs.
        """
        if not len(images):
            return
        if labels is None:
            labels = self.label(images)
        network, device = self._student.network, self._training.device
        inputs = torch.from_numpy(to_input(images, FULL_PX)).to(device)
        if too_few(network, inputs):
            return
        guard = self.acceptance if self.update == "weights" else None
        held = 0 if guard is None else guard.held_out(len(images))
        kept, known = self._version(None) if held else None, self._newest_others
        inputs, aside = inputs[held:], images[:held]
        of_all: list[Tensor] = []
        if self._training.statistics == "received" and self.update == "weights":
            everything = images if received is None else received
            of_all = [torch.from_numpy(to_input(everything, px)).to(device) for px in served_px]
        before = copied_statistics(network)
        with single_threaded():
            if self.update == "weights":
                taught = torch.from_numpy(labels[held:]).to(device)
                train(network, self._optimizer, inputs, taught, rng, self._training, of_all[0] if of_all else None)
            else:
                refresh_statistics(network, inputs)
        staged = open_session(self._student.replaced())
        self._check(staged, images[:PROBES], "before the swap", {FULL_PX, next(self._checked_px)})
        # They mix with those that the newest weights had, though these may wait for their swap.
        self._newest_others = {
            px: self._with_statistics(of_one_size, known[px][1] if px in known else before)
            for px, of_one_size in zip(served_px[1:], of_all[1:], strict=False)
        }
        if guard is not None and kept is not None:
            right = [
                run(one, to_input(aside, FULL_PX)).argmax(axis=1) == labels[:held] for one in (self._serving, staged)
            ]
            if guard.refuses(compared(*right)):
                self._go_on_from(kept)
                return
        self._versions += 1
        assert self._expected is not None, "it was checked"
        rollbacks = 0 if guard is None else guard.rollbacks
        self._staged = Staged(staged, *self._expected, self._version(staged), rollbacks)

    def _with_statistics(self, images: Tensor, before: Statistics) -> tuple[Any, Statistics]:
        """Return a session of the network with the statistics of images, and these; the network keeps its own."""
        own = copied_statistics(self.network)
        with single_threaded():
            take_statistics(self.network, images, before)
        session, taken = open_session(self._student.replaced()), copied_statistics(self.network)
        put_statistics(self.network, own)
        return session, taken

    def discard(self) -> None:
        """Refuse staged weights; training goes on from them, as the student that trains is another copy."""
        self._staged = None

    def unstaged(self) -> Staged | None:
        """Take the staged weights away, if there are any, to be staged again when their time comes."""
        staged, self._staged = self._staged, None
        return staged

    def stage(self, staged: Staged) -> None:
        """Stage weights that were taken away; those that were trained from what was taken back since are not."""
        if self.acceptance is None or staged.rollbacks == self.acceptance.rollbacks:
            self._staged = staged

    def _version(self, session: Any) -> Version:
        """Return the newest weights as a version, with copies of them where they may be gone back to."""
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        return Version(self._versions, session, self._newest_others, weights if self._training.acceptance else {})

    def _go_on_from(self, version: Version) -> None:
        """Train on from older weights, without momentum."""
        self.network.load_state_dict(version.weights)
        self._optimizer = optimizer_for(self.network, self._training)
        self._newest_others = version.others

    def _judge(self, acceptance: Acceptance, images: Pixels, labels: Labels) -> None:
        """Compare what serves on probation with the last one that proved itself, which takes over where it is better.

        On the same samples, because a drift makes both of them worse.
        """
        found = None
        if acceptance.on_probation:
            inputs = to_input(images, FULL_PX)
            sessions = acceptance.good.session, self._serving
            found = compared(*(run(one, inputs).argmax(axis=1) == labels for one in sessions))
        back = acceptance.judge(found)
        if back is not None:
            self._go_on_from(back)
            self._serving, self._others, self.fallback = back.session, back.others, Fallback()

    def swap(self) -> None:
        """Let staged weights serve from now on; do nothing when none are staged.

        Raises:
            CalibrationError: What is staged does not give the outputs that torch gave for it.
        """
        if self._staged is None:
            return
        staged, self._staged = self._staged, None
        # Others were compared when the session was opened; one is enough to tell it from any other.
        self._compare(staged.session, staged.inputs, staged.expected, "at the swap")
        self._serving, self._others = staged.session, staged.version.others
        if self.acceptance is not None:
            self.acceptance.serve(staged.version)
        self.swaps += 1

    def _check(self, session: Any, images: Pixels, where: str, resolutions_px: Iterable[int]) -> None:
        """Compare a session with torch at some resolutions, the full one among them."""
        for resolution in sorted(resolutions_px):
            inputs = to_input(images, resolution)
            with single_threaded():
                expected = outputs_of(self._student.network, inputs)
            self._compare(session, inputs, expected, where)
            if resolution == FULL_PX:
                self._expected = inputs, expected

    def _compare(self, session: Any, inputs: Array, expected: Array, where: str) -> None:
        difference = check_outputs(run(session, inputs), expected, where, self._student.relative)
        self.largest_difference = max(self.largest_difference, difference)
