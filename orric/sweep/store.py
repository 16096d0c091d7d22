"""The folder of a sweep: one Parquet file per finished chunk, and the table of all runs."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.durable import hold, write_whole
from orric.exceptions import ScenarioError, SimulationError, extra
from orric.folders import Manifest, demand_free, owned, remove
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Chunk, Sweep

CHUNKS, SLOTS = "chunks", "slots"
RUNS = "runs.parquet"
MARK = "sweep.json"
# Locked while a sweep writes to the folder; before there were manifests it told such a folder from any other.
OWN = ".orric-sweep"
# Named by what they hold, such files are a sweep's own without being listed: there may be very many.
_ADDRESSED = re.compile(r"(chunks|slots)/[0-9a-f]{32}(-[0-9]+)?(\.again)?\.parquet")
# Chunks in which something failed that another call may find mended.
AGAIN = ".again"
# Bytes of a run in a chunk's file, measured; the table of all runs takes about as many again.
BYTES_PER_RUN = 120
BYTES_PER_SLOT = 20


class Store:
    """What was computed of a sweep.

    Every file appears whole or not at all, so that whoever is killed leaves finished chunks alone behind. Files that
    no sweep wrote are neither written over nor removed.

    Args:
        folder: The result folder.

    Raises:
        ScenarioError: The folder cannot be written, or holds something that is no sweep's result.
    """

    def __init__(self, folder: Path) -> None:
        with extra("sim"):
            import pyarrow  # noqa: F401
        self.folder = folder
        where = f"result folder {folder}"
        self._own = set(owned(folder, "sweep"))
        try:
            for part in (CHUNKS, SLOTS, "cases"):
                if (folder / part).is_symlink():
                    raise ScenarioError(str(folder / part), "is a link", "a sweep's folders are its own: move it away")
            (folder / CHUNKS).mkdir(parents=True, exist_ok=True)
            held = hold(folder / OWN)
        except OSError as error:
            found = f"cannot be written ({error.strerror})"
            raise ScenarioError(where, found, "choose another with --output") from None
        if held is None:
            found = "another sweep is writing to it"
            raise ScenarioError(where, found, "wait for it, or choose another with --output")
        self._lock = held
        try:
            Manifest("sweep", frozenset(self._own)).write(folder)
            for partial in [one for part in ("", CHUNKS, SLOTS, "cases") for one in (folder / part).glob(".*.partial")]:
                name = partial.with_name(partial.name[1 : -len(".partial")]).relative_to(folder).as_posix()
                if name in self._own or _ADDRESSED.fullmatch(name):
                    partial.unlink(missing_ok=True)  # of a call that was killed
            # What was said of earlier runs would be mixed with new ones, if this call did not come to its end.
            if MARK in self._own:
                remove(folder, MARK)
        except OSError as error:
            held.close()
            found = f"cannot be written ({error.strerror})"
            raise ScenarioError(where, found, "choose another with --output") from None

    def close(self) -> None:
        """Let others write to the folder."""
        self._lock.close()

    def has(self, chunk: Chunk, key: str, per_slot: bool = False) -> bool:
        """Whether a chunk is finished, and the rows of its slots are there where they are asked for."""
        path = self._path(key)
        if not path.exists() or (per_slot and not self._path(chunk.slots_key(key), SLOTS).exists()):
            return False
        # Whatever was damaged since then is computed anew: a whole file begins and ends with the same four bytes.
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(-min(4, path.stat().st_size), 2)
            return head == file.read(4) == b"PAR1"

    def keep(self, chunk: Chunk, key: str, runs: bytes, slots: bytes | None = None, again: bool = False) -> None:
        """Keep a chunk.

        Args:
            chunk: Which.
            key: Its address.
            runs: A Parquet file of its runs.
            slots: One of their slots.
            again: Whether it must be computed again next time: something failed that was not the runs' own.

        Raises:
            SimulationError: The disk is full or the like; what was kept before stays.
        """
        if slots is not None:
            self.write(self._path(chunk.slots_key(key), SLOTS), slots)
        self.write(self._path(key, CHUNKS, AGAIN * again), runs)
        if not again:
            self._path(key, CHUNKS, AGAIN).unlink(missing_ok=True)

    def keep_slots_of(self, names: set[str]) -> None:
        """Remove the slots of all other chunks, so that the folder holds those of one sweep and nothing else."""
        for path in (self.folder / SLOTS).glob("*.parquet"):
            if path.stem not in names and _ADDRESSED.fullmatch(f"{SLOTS}/{path.name}"):
                path.unlink()

    def remove_cases(self) -> None:
        """Remove the scenarios of single points that an earlier sweep wrote."""
        for name in [one for one in self._own if one.startswith("cases/")]:
            remove(self.folder, name)

    def claim(self, path: Path) -> None:
        """List a file as the sweep's own, before it is written.

        Raises:
            ScenarioError: Something that no sweep wrote has its name.
            OSError: The list cannot be written.
        """
        name = path.relative_to(self.folder).as_posix()
        if not _ADDRESSED.fullmatch(name):
            demand_free(self.folder, [name], self._own)
            if name not in self._own:
                self._own.add(name)
                Manifest("sweep", frozenset(self._own)).write(self.folder)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the folder, whole or not at all.

        Raises:
            SimulationError: It cannot be written.
            ScenarioError: Something that no sweep wrote has its name.
        """
        try:
            self.claim(path)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            why = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)
            remedy = "make room and give the same command again: what is finished is kept"
            raise SimulationError(f"result folder {self.folder}", f"cannot be written: {why}", remedy) from None

    def load(self, key: str) -> Any:
        """Return the table of a finished chunk."""
        import pyarrow.parquet

        path = self._path(key)
        return pyarrow.parquet.read_table(path if path.exists() else self._path(key, CHUNKS, AGAIN))

    def _path(self, name: str, part: str = CHUNKS, ending: str = "") -> Path:
        return self.folder / part / f"{name}{ending}.parquet"


def as_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Write rows as a Parquet file, the same bytes for the same rows."""
    import pyarrow

    fields = [(name, pyarrow.float64()) for name in MEASURES]
    schema = pyarrow.schema([*fields, ("error", pyarrow.string())])
    return parquet_bytes(pyarrow.Table.from_pylist(list(rows), schema=schema))


def parquet_bytes(table: Any) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def runs_table(sweep: Sweep, store: Store, chunks: Sequence[tuple[Chunk, str]]) -> Any:
    """Return the table of all runs: point, the values of the axes, allocator, seed, then the figures.

    Args:
        sweep: What was swept.
        store: Where the chunks are.
        chunks: With their keys; the order does not matter.

    Returns:
        A pyarrow table, sorted by point, allocator (as the sweep names them) and seed.
    """
    import pyarrow

    lines, points = sweep.lines, sweep.points
    parts = []
    for chunk, key in chunks:
        table = store.load(key)
        count = len(chunk.seeds)
        where = np.repeat(np.arange(chunk.points.start, chunk.points.stop, dtype=np.int32), count)
        place = np.full(len(where), lines.index(chunk.allocator), np.int32)
        seeds = np.tile(np.array(chunk.seeds, np.int64), len(chunk.points))
        head = pyarrow.table({"point": where, "place": place, "seed": seeds})
        for name in table.column_names:
            head = head.append_column(name, table[name])
        parts.append(head)
    whole = pyarrow.concat_tables(parts).combine_chunks()
    order = np.lexsort([whole[name].to_numpy() for name in ("seed", "place", "point")])
    whole = whole.take(pyarrow.array(order))
    which = points.which[whole["point"].to_numpy()]
    columns: dict[str, Any] = {"point": pyarrow.array(whole["point"].to_numpy() + 1)}
    for number, axis in enumerate(points.axes):
        shown = points.shown[number]
        # A column has one type: where not all are numbers, all are words.
        levels = pyarrow.array(_alike(shown))
        columns[axis.title] = levels.take(pyarrow.array(which[:, number]))
    names = pyarrow.array(lines)
    columns["allocator"] = names.take(whole["place"].combine_chunks())
    for name in whole.column_names:
        if name not in ("point", "place"):
            columns[name] = whole[name]
    return pyarrow.table(columns)


def _alike(values: Sequence[Any]) -> list[Any]:
    kinds = {type(value) for value in values}
    if kinds <= {bool} or (kinds <= {int} and max(map(abs, values), default=0) < 2**63):
        return list(values)
    return [float(value) for value in values] if kinds <= {int, float} else [str(value) for value in values]
