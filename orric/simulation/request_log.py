"""Every request on disk: a Parquet file that is written window by window, so that memory does not grow with it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from orric.exceptions import ScenarioError, extra
from orric.simulation.fates import FATES

with extra("sim"):
    import pyarrow
    import pyarrow.parquet

SCHEMA = pyarrow.schema(
    [
        ("stream", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("slot", pyarrow.int32()),
        ("request", pyarrow.int64()),
        ("version", pyarrow.int32()),
        ("arrival_s", pyarrow.float64()),
        ("start_s", pyarrow.float64()),
        ("finish_s", pyarrow.float64()),
        ("fate", pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
    ]
)
Array = np.ndarray[Any, Any]
# Rows of a group: what is held in memory.
ROWS = 2**18


class RequestLog:
    """Writes requests as they end: stream, slot of the end, number, version of the student, times, fate.

    Requests whose service never began have version -1 and no start; those that still wait at the end have no finish.

    Args:
        path: The file, which appears when the log is closed without an error.
        streams: Names of all streams.
    """

    def __init__(self, path: Path, streams: list[str]) -> None:
        if not path.name or path.is_dir():
            raise ScenarioError(f"{str(path)!r}", "is a folder", "give a file for requests")
        self._path, self._partial = path, path.with_name(f".{path.name}.partial")
        self._names = pyarrow.array(streams)
        self._parts: list[tuple[int, int, Array, Array]] = []
        self._rows = 0
        try:
            self._writer = pyarrow.parquet.ParquetWriter(self._partial, SCHEMA)
        except OSError as error:
            raise ScenarioError(
                str(path), f"cannot be written ({error.strerror})", "choose another file for requests"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()

    def write(self, slot: int, stream: int, numbers: Array, times_s: Array) -> None:
        """Add what became of some requests of a stream, columns as in `RequestTimes`."""
        self._parts.append((stream, slot, numbers, times_s))
        self._rows += len(numbers)
        if self._rows >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._parts:
            return
        counts = [len(numbers) for _, _, numbers, _ in self._parts]

        def repeated(values: list[int]) -> Any:
            return np.repeat(np.array(values, np.int32), counts)

        numbers = np.concatenate([numbers for _, _, numbers, _ in self._parts])
        times = np.concatenate([times_s for _, _, _, times_s in self._parts])
        streams = pyarrow.DictionaryArray.from_arrays(repeated([k for k, _, _, _ in self._parts]), self._names)
        fates = pyarrow.DictionaryArray.from_arrays(numbers[:, 2].astype(np.int8), pyarrow.array(FATES))
        columns = [
            streams, repeated([slot for _, slot, _, _ in self._parts]), numbers[:, 0], numbers[:, 1].astype(np.int32),
            *(np.ascontiguousarray(times[:, n]) for n in range(3)), fates,
        ]  # fmt: skip
        self._writer.write_table(pyarrow.table(columns, schema=SCHEMA))
        self._parts, self._rows = [], 0
