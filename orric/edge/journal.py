"""What the daemon decided and saw, on disk before it counts: one line a record, each with its checksum."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orric.durable import open_regular, sync_folder, write_whole
from orric.edge.faults import point
from orric.exceptions import EdgeError
from orric.section import readable

Record = dict[str, Any]
# Says whether a record may stand behind those before it.
Follows = Callable[[Sequence[Record], Record], bool]
# Episodes whose journals are kept.
KEPT = 10
# Bytes of a line, of a journal, and of what is set aside, at most.
MOST_LINE, MOST_BYTES, MOST_ASIDE = 16 << 20, 2 << 30, 64 << 20
_NAME = re.compile(r"([0-9]{6,15})\.jsonl")
_ASIDE = re.compile(r"([0-9]{6,15})\.damaged(-[0-9]+)?")


def _anything(records: Sequence[Record], record: Record) -> bool:
    return True


@dataclass(frozen=True)
class Found:
    """What a journal's file holds.

    Attributes:
        records: Whole ones, up to the first that is not.
        end: Bytes that they take.
        behind: Bytes behind them.
        damaged: Whether what lies there is more than a last line cut short.
    """

    records: list[Record]
    end: int
    behind: int
    damaged: bool


class Journal:
    """The journal of the present episode; those of earlier ones lie beside it.

    A line is a checksum and a record. A last line that is cut short is dropped: whoever was killed while writing it had
    not been told that it was written. Where a record in the middle is damaged, those before it count; what follows is
    set aside in a file beside the journal. What the daemon did not write is passed over, and never removed.

    Args:
        folder: Where the journals lie; made if need be.
        follows: Says of a record that was read whether it is one, and may stand there.

    Attributes:
        records: Those of the present episode, from the disk.
        dropped: Bytes at its end that were no whole record.
        damaged: How many journals were damaged.
        told: What was found wrong at the start, in words.

    Raises:
        EdgeError: The folder cannot be used, or the present journal cannot be read.
    """

    def __init__(self, folder: Path, follows: Follows = _anything) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder.is_symlink():
                raise EdgeError(str(folder), "is a link", "a store has folders of its own; let store.folder lead there")
            numbers = self._numbers()
        except OSError as error:
            raise EdgeError("store.folder", f"cannot be used ({error.strerror})", "choose another") from None
        self._descriptor: int | None = None
        self.records: list[Record] = []
        self.episode = self.dropped = self.damaged = self._end = 0
        self.told = self._strays()
        # A damaged part that has not been set aside yet.
        self._aside = False
        for number in reversed(numbers):
            found = whole_records(self._path(number), follows)
            if not found.records:
                self._pass_over(number, found)
                continue
            self.episode, self.records, self._end = number, found.records, found.end
            if found.damaged:
                self.damaged += 1
                self._aside = True
                count = len(found.records)
                self.told.append(
                    f"record {count + 1} of {self._path(number).name} is damaged: the episode goes on behind the "
                    f"{count} before it, and what follows is set aside"
                )
                with suppress(OSError):  # where there is no room, before the next record is written
                    self._set_aside()
            else:
                self.dropped = found.behind
            break

    def begin(self, record: Record) -> None:
        """Begin an episode with its first record; the file appears with it, or not at all.

        Raises:
            OSError: It could not be written; the episode before is still the present one.
        """
        line = _line(record)
        numbers = self._numbers()
        # A name that something else has taken is left to it.
        number = max([self.episode, *self._taken()]) + 1
        write_whole(
            self._path(number), line, lasting=True, passing=lambda step: point(f"journal.begin.{step}")
        )  # fmt: skip
        self.close()
        self.episode, self.records, self._end, self.dropped = number, [record], len(line), 0
        self._aside = False
        for old in [*numbers, number][:-KEPT]:
            aside = (path for path in self._folder.glob(f"{old:06d}.damaged*") if _ASIDE.fullmatch(path.name))
            for path in (self._path(old), *aside):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OSError: It could not be written; nothing of it is left.
        """
        assert self.episode, "an episode was begun"
        line = _line(record)
        if len(line) > MOST_LINE or self._end + len(line) > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # it could not be read again
        try:
            descriptor = self._opened()
            point("journal.before")
            # In two parts, so that a kill between them leaves what a kill in the middle of one would.
            half = len(line) // 2
            _write(descriptor, line[:half])
            point("journal.half")
            _write(descriptor, line[half:])
            point("journal.written")
            os.fsync(descriptor)
            point("journal.synced")
        except OSError:
            self.close()  # whatever was written of it is cut off when the file is opened again
            raise
        self.records.append(record)
        self._end += len(line)

    def _opened(self) -> int:
        """Return the file, cut off behind the last whole record, to write on."""
        if self._aside:
            self._set_aside()
        if self._descriptor is None:
            descriptor = os.open(self._path(self.episode), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                os.ftruncate(descriptor, self._end)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _path(self, episode: int) -> Path:
        return self._folder / f"{episode:06d}.jsonl"

    def _numbers(self) -> list[int]:
        """Return the episodes whose journals are files, ascending."""
        return sorted(
            number for number in self._taken() if self._path(number).is_file() and not self._path(number).is_symlink()
        )

    def _taken(self) -> list[int]:
        """Return the episodes whose names are taken, whatever by."""
        found = (_NAME.fullmatch(name) for name in os.listdir(self._folder))  # noqa: PTH208 (names, and no paths)
        return [int(one[1]) for one in found if one and one[0] == self._path(int(one[1])).name]

    def _strays(self) -> list[str]:
        """Tell of what does not belong here."""
        strays = []
        for path in sorted(self._folder.iterdir()):
            number = _NAME.fullmatch(path.name)
            ours = number and self._path(int(number[1])).name == path.name and path.is_file() and not path.is_symlink()
            if not ours and not _ASIDE.fullmatch(path.name) and not path.name.startswith("."):
                strays.append(path.name)
        return passed_over(self._folder.name, strays)

    def _pass_over(self, number: int, found: Found) -> None:
        """Put a journal out of the way that has no whole record."""
        path = self._path(number)
        try:
            if found.damaged:
                self.damaged += 1
                self.told.append(f"record 1 of {path.name} is damaged: set aside with all that follows")
                path.rename(self._free(number))
            else:
                path.unlink()  # nothing of it was ever accepted
        except OSError as error:
            raise EdgeError(str(path), f"cannot be set aside ({error.strerror})", "move it away") from None

    def _set_aside(self) -> None:
        """Keep what lies behind the last whole record in a file beside the journal, and cut the journal there."""
        path, aside = self._path(self.episode), self._free(self.episode)
        partial = aside.with_name(f".{aside.name}.partial")
        partial.unlink(missing_ok=True)
        with open_regular(path) as source, partial.open("xb") as target:
            source.seek(self._end)
            left = MOST_ASIDE
            while left and (content := source.read(min(left, 1 << 20))):
                target.write(content)
                left -= len(content)
            target.flush()
            os.fsync(target.fileno())
        partial.rename(aside)
        sync_folder(self._folder)
        self._aside = False
        self._opened()

    def _free(self, number: int) -> Path:
        """Return a name that is not taken for what is set aside of an episode."""
        stem = f"{number:06d}.damaged"
        names = itertools.chain([stem], (f"{stem}-{more}" for more in itertools.count(2)))
        return next(path for name in names if not os.path.lexists(path := self._folder / name))


def passed_over(folder: str, names: Sequence[str]) -> list[str]:
    """Tell of names in a folder of a store that do not belong there, in one line however many there are."""
    if not names:
        return []
    shown = ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [f"passed over what does not belong in {folder}: {shown}"]


def whole_records(path: Path, follows: Follows = _anything) -> Found:
    """Return the records of an episode's journal up to the first that is not whole.

    Args:
        path: The journal.
        follows: As `Journal` has it.

    Raises:
        EdgeError: It cannot be read.
    """
    records: list[Record] = []
    end = 0
    with readable(path, EdgeError), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        line = b""
        while end < MOST_BYTES:
            line = file.readline(MOST_LINE)
            record = _record(line[:-1]) if line.endswith(b"\n") else None
            if record is None or not follows(records, record):
                break
            records.append(record)
            end += len(line)
            line = b""
    return Found(records, end, size - end, end + len(line) < size)


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Return the whole records of an episode's journal, and the bytes that they take.

    Raises:
        EdgeError: It cannot be read.
    """
    found = whole_records(path)
    return found.records, found.end


def _write(descriptor: int, content: bytes) -> None:
    """Write all of it, without a buffer that could be written later."""
    while content:
        content = content[os.write(descriptor, content) :]


def _line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _record(line: bytes) -> Record | None:
    """Return the record of a line, None where it is not whole."""
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        found = json.loads(line[9:], parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
