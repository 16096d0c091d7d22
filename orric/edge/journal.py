"""What the daemon decided and saw, on disk before it counts: one line a record, each with its checksum."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from orric.durable import sync_folder
from orric.edge.faults import point
from orric.exceptions import EdgeError
from orric.section import readable

Record = dict[str, Any]
# Episodes whose journals are kept.
KEPT = 10


class Journal:
    """The journal of the present episode; those of earlier ones lie beside it.

    A line is a checksum and a record. A line that is cut short can only be the last: whoever was killed while writing
    it had not been told that it was written, so it is dropped.

    Args:
        folder: Where the journals lie; made if need be.

    Attributes:
        records: Those of the present episode, from the disk.
        dropped: Bytes at its end that were no whole record.

    Raises:
        EdgeError: The folder cannot be used, or a record in the middle is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeError("store.folder", f"cannot be used ({error.strerror})", "choose another") from None
        numbers = sorted(int(path.stem) for path in folder.glob("[0-9]*.jsonl"))
        self.episode = numbers[-1] if numbers else 0
        self.records: list[Record] = []
        self.dropped = 0
        if numbers:
            self.records, whole = self._read(self.episode)
            size = self._path(self.episode).stat().st_size
            self.dropped = size - whole
            if self.dropped:
                with self._path(self.episode).open("r+b") as file:
                    file.truncate(whole)
                    os.fsync(file.fileno())
            if not self.records:
                # Killed before the first record of a new episode was there: the one before it is the present one.
                self._path(self.episode).unlink()
                self.__init__(folder)  # type: ignore[misc]
                return
        self._file: IO[bytes] | None = None

    def begin(self, record: Record) -> None:
        """Begin an episode with its first record."""
        self.close()
        self.episode += 1
        point("journal.begin")
        self._file = self._path(self.episode).open("ab")
        sync_folder(self._folder)
        self.records = []
        self.append(record)
        for old in sorted(self._folder.glob("[0-9]*.jsonl"))[:-KEPT]:
            old.unlink(missing_ok=True)

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OSError: It could not be written; nothing of it is left.
        """
        assert self.episode, "an episode was begun"
        line = _line(record)
        if self._file is None:
            self._file = self._path(self.episode).open("ab")
        end = self._file.tell()
        try:
            point("journal.before")
            # In two parts, so that a kill between them leaves what a kill in the middle of one would.
            half = len(line) // 2
            self._file.write(line[:half])
            self._file.flush()
            point("journal.half")
            self._file.write(line[half:])
            self._file.flush()
            point("journal.written")
            os.fsync(self._file.fileno())
            point("journal.synced")
        except OSError:
            self._cut(end)
            raise
        self.records.append(record)

    def _cut(self, end: int) -> None:
        """Take a line back that did not fit."""
        path = self._path(self.episode)
        assert self._file is not None, "the caller has it open"
        os.ftruncate(self._file.fileno(), end)
        self._file.close()
        self._file = path.open("ab")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def earlier(self) -> Iterator[Record]:
        """Yield the records of the episodes before the present one, as far as they are kept."""
        for number in sorted(int(path.stem) for path in self._folder.glob("[0-9]*.jsonl")):
            if number < self.episode:
                yield from self._read(number)[0]

    def _path(self, episode: int) -> Path:
        return self._folder / f"{episode:06d}.jsonl"

    def _read(self, episode: int) -> tuple[list[Record], int]:
        return read_journal(self._path(episode))


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Return the records of an episode's journal, and the bytes that they take: a last line cut short is left out.

    Raises:
        EdgeError: It cannot be read, or a record in the middle is damaged.
    """
    with readable(path, EdgeError):
        content = path.read_bytes()
    at = 0
    records: list[Record] = []
    while at < len(content):
        end = content.find(b"\n", at)
        record = _record(content[at:end]) if end >= 0 else None
        if record is None:
            if 0 <= end < len(content) - 1:
                found = f"record {len(records) + 1} is damaged, and others follow it"
                raise EdgeError(str(path), found, "put back a copy, or move it away to begin anew")
            break
        records.append(record)
        at = end + 1
    return records, at


def _line(record: Record) -> bytes:
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _record(line: bytes) -> Record | None:
    """Return the record of a line, None where it is not whole."""
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        found: Record = json.loads(line[9:])
    except ValueError:
        return None
    return found
