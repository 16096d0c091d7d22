"""What the daemon decided and saw, on disk before it counts: one line a record, each with its checksum."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from orric.durable import write_whole
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
        self._descriptor: int | None = None
        self.records: list[Record] = []
        self.episode = self.dropped = self._end = 0
        for number in sorted((int(path.stem) for path in folder.glob("[0-9]*.jsonl")), reverse=True):
            records, whole = read_journal(self._path(number))
            if not records:  # nothing of it was ever accepted
                self._path(number).unlink()
                continue
            self.episode, self.records, self._end = number, records, whole
            self.dropped = self._path(number).stat().st_size - whole
            break

    def begin(self, record: Record) -> None:
        """Begin an episode with its first record; the file appears with it, or not at all.

        Raises:
            OSError: It could not be written; the episode before is still the present one.
        """
        line = _line(record)
        write_whole(
            self._path(self.episode + 1), line, lasting=True, passing=lambda step: point(f"journal.begin.{step}")
        )  # fmt: skip
        self.close()
        self.episode, self.records, self._end, self.dropped = self.episode + 1, [record], len(line), 0
        for old in sorted(self._folder.glob("[0-9]*.jsonl"))[:-KEPT]:
            old.unlink(missing_ok=True)

    def append(self, record: Record) -> None:
        """Add a record; it is on the disk when this returns.

        Raises:
            OSError: It could not be written; nothing of it is left.
        """
        assert self.episode, "an episode was begun"
        line = _line(record)
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
        if self._descriptor is None:
            descriptor = os.open(self._path(self.episode), os.O_WRONLY | os.O_APPEND)
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
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        found: Record = json.loads(line[9:])
    except ValueError:
        return None
    return found
