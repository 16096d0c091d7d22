"""What an interrupted `orric run` leaves to the next one: every line that was finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orric.exceptions import ScenarioError
from orric.folders import Work

if TYPE_CHECKING:
    from orric.records import Result
    from orric.scenario import Scenario

Line = tuple[Any, str]


def key_of(scenario: Scenario, order: Sequence[Line], seed: int, requests: bool, paired: bool) -> str:
    """Return the hash of all that the lines of a run depend on, the content of files included.

    Args:
        scenario: What is simulated.
        order: All lines, each as accuracy model and name.
        seed: The seed chosen.
        requests: Whether the times of requests are written.
        paired: Whether all accuracy models get the same allocations.
    """
    from orric.comparison import data_hashes
    from orric.sweep.plan import allocator_version, code_version, files_named, hash_of

    table = scenario.model_dump(mode="json")
    given = [
        table,
        {name: hash_of(scenario._folder / name) for name in sorted(files_named(table, scenario._folder))},
        [profile.model_dump(mode="json") for profile in scenario.profiles],
        code_version(),
        [(model, allocator_version(line)) for model, line in order],
        [seed, requests, paired],
        data_hashes(scenario) if scenario.accuracy.model == "onnx" else [],
    ]
    return hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()


class KeptLines:
    """The finished lines of a run, on disk.

    Args:
        work: Where they are kept.
        order: All lines of the run, each as accuracy model and name.
        requests: Whether the times of every request are a part of a line.

    Attributes:
        results: Those that were found, and those kept since.
    """

    def __init__(self, work: Work, order: Collection[Line], requests: bool) -> None:
        self._folder = work.kept
        self.requests = work.kept / "requests" if requests else None
        if self.requests is not None:
            self.requests.mkdir(exist_ok=True)
        self.results: dict[Line, Result] = {}
        for line in order:
            found = self._found(line)
            if found is not None:
                self.results[line] = found

    def _path(self, line: Line) -> Path:
        return self._folder / f"{line[1]}-{line[0]}"

    def _found(self, line: Line) -> Result | None:
        from pyarrow.lib import ArrowException
        from pyarrow.parquet import read_metadata

        from orric.report.stored import load_results

        path = self._path(line)
        if not path.is_dir():
            return None
        try:
            if self.requests is not None:
                # A file that was cut short has lost its end, where it says what it holds.
                read_metadata(self.requests / f"{path.name}.parquet")
            return load_results(path)[0]
        except (OSError, ArrowException, ScenarioError):
            return None  # not there, or damaged since, as by a disk that lost its power

    def keep(self, result: Result) -> None:
        """Keep a line, whole or not at all."""
        from orric.report.stored import save_results

        path = self._path((result.accuracy_model, result.allocator))
        partial = path.with_name(f".{path.name}.partial")
        for left in (partial, path):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        save_results(partial, [result])
        partial.rename(path)
        self.results[result.accuracy_model, result.allocator] = result

    def hand_over_requests(self, folder: Path) -> None:
        """Put the times of requests into a result's folder, and keep them until the result counts."""
        if self.requests is None:
            return
        (folder / "requests").mkdir()
        for line in self.results:
            name = f"{self._path(line).name}.parquet"
            try:
                os.link(self.requests / name, folder / "requests" / name)
            except OSError:  # a disk that knows no second names
                shutil.copyfile(self.requests / name, folder / "requests" / name)
