"""The student's versions on disk: staged, checked, and put in place whole; what is damaged is never loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orric.durable import sync_folder, write_whole
from orric.edge.faults import point
from orric.exceptions import EdgeError

ABOUT, CURRENT, GIVEN, STAGING = "version.json", "current.json", "given", "staging"
MODEL, WEIGHTS = "model.onnx", "weights.safetensors"


@dataclass(frozen=True)
class Version:
    """A version of the student that is wholly on disk.

    Attributes:
        number: From 1, ascending.
        slot: Slot, counted over all episodes, whose samples it was retrained on; 0 for the one that was given.
        agreement: Of its forerunner with the teacher on the samples that it was made from, None without.
        hashes: SHA-256 of each of its files.
    """

    number: int
    slot: int
    agreement: float | None
    hashes: dict[str, str]


@dataclass(frozen=True)
class Current:
    """Which versions count.

    Attributes:
        serving: The one that serves.
        good: The last that has proved itself; a version on probation falls back to it.
        pinned: Whether the operator fixed the one that serves.
        last: The largest number that was ever given, so that none is given twice.
    """

    serving: int
    good: int
    pinned: bool = False
    last: int = 0


class ModelStore:
    """The versions in a folder, and which of them count.

    A version is a folder of its own that gets its name when all of it has reached the disk. What is found staged at the
    start was left by a daemon that was killed, and is removed; so is a version that no pointer counts any more.

    Args:
        folder: Made if need be.
        keep: How many versions are kept.

    Attributes:
        told: What was found wrong at the start, in words.

    Raises:
        EdgeError: The folder cannot be used.
    """

    def __init__(self, folder: Path, keep: int = 5) -> None:
        self._folder, self._keep = folder, keep
        self.told: list[str] = []
        try:
            (folder / "versions").mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{STAGING}*"):
                shutil.rmtree(left)
                self.told.append("removed a version that was left half-written")
            for left in folder.glob(".*.partial"):
                left.unlink()
        except OSError as error:
            raise EdgeError("store.folder", f"cannot be used ({error.strerror})", "choose another") from None
        self.current: Current | None = self._read_current()
        if self.current is not None:
            self._settle(self.current)
        self._forget_others()

    def versions(self) -> list[int]:
        """Return the numbers of the versions on disk, ascending."""
        return sorted(int(path.name) for path in (self._folder / "versions").glob("[0-9]*"))

    def load(self, number: int) -> tuple[Version, dict[str, bytes]]:
        """Return a version and its files.

        Raises:
            EdgeError: It is missing, incomplete or damaged.
        """
        folder = self._path(number)
        try:
            about = json.loads((folder / ABOUT).read_bytes())
            version = Version(**about)
            files = {name: (folder / name).read_bytes() for name in version.hashes}
        except (OSError, ValueError, TypeError):
            raise EdgeError(f"version {number}", "is not whole", "another is taken") from None
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != version.hashes[name]:
                raise EdgeError(f"version {number}", f"{name} is damaged", "another is taken")
        return version, files

    def keep(self, files: Mapping[str, bytes], slot: int, agreement: float | None) -> Version:
        """Put a new version on the disk, wholly; it does not serve yet.

        Raises:
            OSError: The disk is full, or the like; nothing of it is left.
        """
        number = max([*self.versions(), self.current.last if self.current else 0]) + 1
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        version = Version(number, slot, agreement, hashes)
        staging = self._folder / STAGING
        try:
            staging.mkdir()
            point("store.staged")
            about = json.dumps(asdict(version)).encode()
            for name, content in {**files, ABOUT: about}.items():
                write_whole(staging / name, content, passing=_points(f"store.{name}"))
            sync_folder(staging)
            point("store.whole")
            staging.rename(self._path(number))
            point("store.named")
            sync_folder(self._folder / "versions")
            point("store.lasting")
        except OSError:
            with suppress(OSError):
                shutil.rmtree(staging)
            raise
        return version

    def point_at(self, current: Current) -> None:
        """Let other versions count from now on.

        Raises:
            OSError: It cannot be written; those that counted before still do.
        """
        current = replace(current, last=max([current.last, *self.versions()]))
        content = json.dumps(asdict(current)).encode()
        write_whole(self._folder / CURRENT, content, lasting=True, passing=_points("store.current"))
        self.current = current
        self._forget_old()

    def _read_current(self) -> Current | None:
        try:
            return Current(**json.loads((self._folder / CURRENT).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            self.told.append("the pointer to the current version was damaged; taking the newest whole one")
            numbers = self.versions()
            return Current(numbers[-1], numbers[-1]) if numbers else None

    @property
    def identity(self) -> str | None:
        """What the store was begun with, None where that is not known."""
        try:
            return (self._folder / GIVEN).read_text(encoding="utf-8").strip() or None
        except (OSError, ValueError):
            return None

    def begun_with(self, identity: str) -> None:
        """Write down what the store was begun with."""
        write_whole(self._folder / GIVEN, identity.encode(), lasting=True, passing=_points("store.given"))

    def forget_after(self, number: int) -> None:
        """Remove the versions after one: they were rolled back, and must not serve again."""
        for newer in self.versions():
            if newer > number:
                self._remove(newer)

    def _settle(self, current: Current) -> None:
        """Let the last version that proved itself serve, or one before it, where the one that served does not load."""
        older = [number for number in reversed(self.versions()) if number < min(current.good, current.serving)]
        for number in dict.fromkeys([current.serving, current.good, *older]):
            try:
                self.load(number)
            except EdgeError as error:
                self.told.append(f"{error.args[0]} {error.args[1]}")
                continue
            if number != current.serving:
                self.told.append(f"serving version {number}")
                self.point_at(Current(number, number, last=current.last))
            return
        self.told.append("no version is whole; beginning anew with the given student")
        self.current = None

    def _forget_others(self) -> None:
        """Remove versions that never came to serve: their making was not finished."""
        if self.current is None:
            last = 0
        elif self.current.pinned:
            last = self.current.last  # the operator chose an older one, and may choose a newer one yet
        else:
            last = max(self.current.serving, self.current.good)
        for number in self.versions():
            if number > last:
                self._remove(number)
                self.told.append(f"removed version {number}, which does not count")

    def _forget_old(self) -> None:
        assert self.current is not None, "there is a current version"
        kept = {self.current.serving, self.current.good}
        others = [number for number in self.versions() if number not in kept and number < self.current.serving]
        for number in others[: max(len(others) - (self._keep - len(kept)), 0)]:
            self._remove(number)

    def _remove(self, number: int) -> None:
        # The name goes first, so that no version is ever seen half-removed.
        gone = self._folder / f"{STAGING}-old-{number}"
        self._path(number).rename(gone)
        point("store.removing")
        shutil.rmtree(gone)

    def _path(self, number: int) -> Path:
        return self._folder / "versions" / f"{number:06d}"


def _points(name: str) -> Callable[[str], str | None]:
    return lambda step: point(f"{name}.{step}")
