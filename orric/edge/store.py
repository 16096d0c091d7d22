"""The student's versions on disk: staged, checked, and put in place whole; what is damaged is never loaded."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from orric.durable import read_bounded, sync_folder, write_whole
from orric.edge.faults import point
from orric.edge.identity import Given
from orric.edge.journal import passed_over
from orric.exceptions import EdgeError
from orric.folders import result_folder_around

# Of the whole store. It rises when an orric of before would misread or harm what is written from then on.
FORMAT = 2
STORE, VERSIONS, JOURNAL = "store.json", "versions", "journal"
ABOUT, CURRENT, GIVEN, STAGING = "version.json", "current.json", "given", "staging"
MODEL, WEIGHTS = "model.onnx", "weights.safetensors"
# Bytes of a description and of a model or its weights, at most.
MOST_TOLD, MOST_KEPT = 64 << 10, 1 << 30
# What the operating system says where nothing follows of the file itself.
UNTOLD = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_NUMBER = re.compile(r"[0-9]{6,15}")
_LEFT = re.compile(rf"{STAGING}(-old-[0-9]{{1,15}})?|\.({STORE}|{CURRENT}|{GIVEN})\.partial")

Number = Annotated[int, Field(ge=1, lt=10**15)]
Count = Annotated[int, Field(ge=0, lt=10**15)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CLOSED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Version:
    """A version of the student that is wholly on disk.

    Attributes:
        number: From 1, ascending.
        slot: Slot, counted over all episodes, whose samples it was retrained on; 0 for the one that was given.
        agreement: Of its forerunner with the teacher on the samples that it was made from, None without.
        hashes: SHA-256 of each of its files.
    """

    __pydantic_config__: ClassVar[ConfigDict] = CLOSED
    number: Number
    slot: Count
    agreement: Annotated[float, Field(ge=0, le=1)] | None
    hashes: dict[FileName, Sha256]


@dataclass(frozen=True)
class Current:
    """Which versions count.

    Attributes:
        serving: The one that serves.
        good: The last that has proved itself; a version on probation falls back to it.
        pinned: Whether the operator fixed the one that serves.
        last: The largest number that was ever given, so that none is given twice.
    """

    __pydantic_config__: ClassVar[ConfigDict] = CLOSED
    serving: Number
    good: Number
    pinned: bool = False
    last: Count = 0


_VERSION, _CURRENT = TypeAdapter(Version), TypeAdapter(Current)


def recognise(folder: Path) -> None:
    """Refuse a folder that is no store, and a store of a newer orric; nothing in it is touched.

    An empty folder may become a store, and so may one with hidden names and the exported models alone, or the root of a
    disk of its own. Stores of before have no format.

    Raises:
        EdgeError: It is such a folder, or cannot be read.
    """
    with _usable():
        try:
            names = set(os.listdir(folder))  # noqa: PTH208 (names, and no paths)
        except FileNotFoundError:
            names = set()
    if STORE in names:
        _check_format(folder / STORE)
    elif not names & {VERSIONS, JOURNAL, CURRENT, GIVEN} or not _written_before(folder):
        around = result_folder_around(folder)
        if around is not None:
            found = "is a folder of results" if around == folder.resolve() else f"lies in {around}, a folder of results"
            raise EdgeError("store.folder", f"{folder} {found}", "choose a place of its own")
        cache = Path(os.environ.get("ORRIC_CACHE", "")).absolute()  # which a container may have here
        ours = {"lost+found", cache.name if cache.parent == folder.absolute() else STAGING}
        ours |= {VERSIONS, JOURNAL, CURRENT, GIVEN}
        others = sorted(name for name in names - ours if name[0] != "." and not _LEFT.fullmatch(name))
        if others:
            found = f"{folder} is no store of orric, and is not empty (it has {others[0]!r})"
            raise EdgeError("store.folder", found, "choose an empty folder, or one that is not there")


def _written_before(folder: Path) -> bool:
    """Say whether a daemon of before there was a format wrote to a folder: others have files of such names, too."""
    if (folder / GIVEN).is_file() or (folder / CURRENT).is_file():
        return True
    with suppress(OSError):
        if any((path / ABOUT).is_file() for path in (folder / VERSIONS).iterdir() if _NUMBER.fullmatch(path.name)):
            return True
    with suppress(OSError):
        return any(_NUMBER.fullmatch(path.stem) and path.suffix == ".jsonl" for path in (folder / JOURNAL).iterdir())
    return False


def _check_format(path: Path) -> None:
    remedy = f"if this orric wrote it, let the file say {json.dumps({'format': FORMAT})}; else choose another folder"
    try:
        table = json.loads(read_bounded(path, MOST_TOLD))
        version = table["format"]
        if type(version) is not int or version < 1:
            raise ValueError(version)
    except OSError as error:
        raise EdgeError(str(path), f"cannot be read ({error.strerror})", remedy) from None
    except (ValueError, RecursionError, KeyError, TypeError):
        raise EdgeError(str(path), "tells no format", remedy) from None
    if version > FORMAT:
        found = f"the store was written by a newer orric (format {version})"
        raise EdgeError(str(path), found, f"this one knows format {FORMAT}: upgrade it, or choose another folder")


def begin_store(folder: Path) -> None:
    """Write down the format of a store that has none yet, or an older one; whoever calls it holds the store.

    Raises:
        EdgeError: It cannot be written.
    """
    written = json.dumps({"format": FORMAT}).encode() + b"\n"
    with _usable():
        if not os.path.lexists(folder / STORE) or read_bounded(folder / STORE, MOST_TOLD) != written:
            write_whole(folder / STORE, written, lasting=True)


class UnreadableError(EdgeError):
    """A file of a store may be sound and cannot be read now: nothing must be concluded from that."""


def _read(path: Path, most: int) -> bytes:
    try:
        return read_bounded(path, most)
    except OSError as error:
        if error.errno in UNTOLD:
            remedy = "mend that; the store is as it was"
            raise UnreadableError(str(path), f"cannot be read ({error.strerror})", remedy) from None
        raise


@contextmanager
def _usable() -> Iterator[None]:
    """Let what the operating system refuses be one line."""
    try:
        yield
    except OSError as error:
        raise EdgeError("store.folder", f"cannot be used ({error.strerror})", "choose another") from None


class ModelStore:
    """The versions in a folder, and which of them count.

    A version is a folder of its own that gets its name when all of it has reached the disk. What is found staged at the
    start was left by a daemon that was killed, and is removed; so is a version that no pointer counts any more. What
    the daemon did not write is passed over, and never removed.

    Args:
        folder: Made if need be.
        keep: How many versions are kept.
        keeps_given: Whether the student as it was given stays among them, to be fallen back on.

    Attributes:
        told: What was found wrong at the start, in words.

    Raises:
        EdgeError: The folder cannot be used.
    """

    def __init__(self, folder: Path, keep: int = 5, keeps_given: bool = False) -> None:
        self._folder, self._keep, self.keeps_given = folder, keep, keeps_given
        self.told: list[str] = []
        # The oldest version on probation, which stays until it has proved itself.
        self.proving: int | None = None
        self.current: Current | None = None
        with _usable():
            (folder / VERSIONS).mkdir(parents=True, exist_ok=True)
            if (folder / VERSIONS).is_symlink():
                remedy = "a store has folders of its own; let store.folder lead there"
                raise EdgeError(str(folder / VERSIONS), "is a link", remedy)
            self._clear()
            strays = [path.name for path in sorted((folder / VERSIONS).iterdir()) if not _is_version(path)]
            self.told += passed_over(VERSIONS, strays)
            self.current = self._read_current()
            if self.current is not None:
                self._settle(self.current)
            self._forget_others()

    def _clear(self) -> None:
        """Remove what was left half-written."""
        for left in sorted(self._folder.iterdir()):
            if not _LEFT.fullmatch(left.name):
                continue
            if left.name.startswith("."):
                left.unlink()
            elif left.is_symlink() or not left.is_dir():
                raise EdgeError(str(left), "is no folder, and stands where versions are made", "move it away")
            else:
                shutil.rmtree(left)
                self.told.append("removed a version that was left half-written")

    def versions(self) -> list[int]:
        """Return the numbers of the versions on disk, ascending."""
        return sorted(int(path.name) for path in (self._folder / VERSIONS).iterdir() if _is_version(path))

    def load(self, number: int) -> tuple[Version, dict[str, bytes]]:
        """Return a version and its files.

        Raises:
            EdgeError: It is missing, incomplete or damaged.
        """
        folder = self._path(number)
        try:
            if not _is_version(folder):
                raise FileNotFoundError
            version = _VERSION.validate_json(_read(folder / ABOUT, MOST_TOLD))
            if version.number != number or MODEL not in version.hashes:
                raise FileNotFoundError
            files = {name: _read(folder / name, MOST_KEPT) for name in version.hashes}
        except (OSError, ValidationError):
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
        # A name that something else has taken is left to it.
        taken = [int(path.name) for path in (self._folder / VERSIONS).iterdir() if _has_name(path)]
        number = max([*taken, self.current.last if self.current else 0]) + 1
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
            sync_folder(self._folder / VERSIONS)
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
        with suppress(OSError):  # what cannot be removed now is removed later: the pointer is what counts
            self._forget_old()

    def _read_current(self) -> Current | None:
        try:
            return _CURRENT.validate_json(_read(self._folder / CURRENT, MOST_TOLD))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            self.told.append("the pointer to the current version was damaged; taking the newest whole one")
            numbers = self.versions()
            return Current(numbers[-1], numbers[-1]) if numbers else None

    @property
    def identity(self) -> Given | None:
        """What the store was begun with, None where that is not known.

        Raises:
            EdgeError: It is of a newer format, or may not be read.
        """
        try:
            return Given.read(_read(self._folder / GIVEN, MOST_TOLD))
        except OSError:
            return None

    def begun_with(self, given: Given) -> None:
        """Write down what the store was begun with."""
        write_whole(self._folder / GIVEN, given.written(), lasting=True, passing=_points("store.given"))

    def given_version(self) -> int | None:
        """Return the number of the student as it was given last, None where it is not in the store any more."""
        for number in reversed(self.versions()):
            with suppress(OSError, ValidationError):
                if _VERSION.validate_json(_read(self._path(number) / ABOUT, MOST_TOLD)).slot == 0:
                    return number
        return None

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
            except UnreadableError:
                raise  # rather than remove what may be whole
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
        given = self.given_version() if self.keeps_given else None
        kept = {self.current.serving, self.current.good, self.proving, given} & set(self.versions())
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
        return self._folder / VERSIONS / f"{number:06d}"


def _is_version(path: Path) -> bool:
    return _has_name(path) and path.is_dir() and not path.is_symlink()


def _has_name(path: Path) -> bool:
    """Say whether a name is one that versions get."""
    return bool(_NUMBER.fullmatch(path.name)) and path.name == f"{int(path.name):06d}" and path.name != "000000"


def _points(name: str) -> Callable[[str], str | None]:
    return lambda step: point(f"{name}.{step}")
