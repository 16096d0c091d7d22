"""Run a sweep: what is missing is computed, chunk by chunk, and everything is put into one table."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orric.exceptions import ScenarioError
from orric.sweep.engines import Engine
from orric.sweep.optima import optima_parquet, with_ratios
from orric.sweep.plan import OPTIMUM, Checked, Chunk, Sweep, check_points
from orric.sweep.precision import seeds_needed
from orric.sweep.runs import computed
from orric.sweep.slot_rows import slots_parquet
from orric.sweep.store import (
    BYTES_PER_RUN,
    BYTES_PER_SLOT,
    CHUNKS,
    RUNS,
    SLOTS,
    Store,
    as_parquet,
    parquet_bytes,
    runs_table,
)

# A task shall last about this long: long enough to be worth handing over, short enough to lose.
TASK_S = 1.0
# Seconds of a slot of one stream, roughly, and of a run besides: chunks must not depend on how fast a machine is.
SLOT_S = {"simulator": 4e-4, "slot-model": 6e-7, OPTIMUM: 2e-5}
RUN_S = {"simulator": 5e-3, "slot-model": 1.5e-3, OPTIMUM: 5e-3}
CHECKED = 500
# A run that takes longer is not made twice for an estimate.
PATIENCE_S = 30.0
SEEDS_TOGETHER = 10
TOLD = 20


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        what: What is being done.
        done: Runs that are done; an optimum that is enclosed for their ratios counts as one, too.
        total: Runs in all, as far as is known.
        failed: Those of them that failed.
        kept: Those of them that were done before.
        rate: Runs per second of this call.
        left_s: Seconds that it will still take, None while unknown.
    """

    what: str
    done: int
    total: int
    failed: int
    kept: int
    rate: float
    left_s: float | None

    def in_words(self) -> str:
        """Say it in a line."""
        failed = f", {self.failed} failed" if self.failed else ""
        left = "" if self.left_s is None else f", about {_duration(self.left_s)} left"
        return f"{self.what}: {self.done:,} of {self.total:,} runs, {self.rate:.3g}/s{failed}{left}"


@dataclass
class Outcome:
    """What came of a sweep.

    Attributes:
        table: All runs, a pyarrow table; see `orric.sweep.store.runs_table`.
        runs: Their number.
        computed: Those that this call computed.
        failures: Of each run that failed: point (from 1), allocator, seed and error.
    """

    table: Any
    runs: int
    computed: int
    failures: list[dict[str, Any]] = field(default_factory=list)


def check_all(
    sweep: Sweep, engine: Engine, progress: Callable[[str, float], None] = lambda what, part: None
) -> list[str]:
    """Check the scenarios of all points.

    Returns:
        What to warn of, a line for each kind: the warning at the first point, and how many there are.

    Raises:
        ScenarioError: With all that is wrong, one line each.
    """
    count = len(sweep.points)
    parts = [range(start, min(start + CHECKED, count)) for start in range(0, count, CHECKED)]
    checked: dict[int, Checked] = {}
    for index, one in engine(check_points, sweep, parts):
        checked[index] = one
        progress("checking the scenarios", len(checked) / len(parts))
    every = [one for index in sorted(checked) for one in checked[index].wrong]
    if every:
        by_reason: dict[str, list[str]] = {}
        for place, reason in every:
            by_reason.setdefault(reason, []).append(place.removeprefix(f"{sweep._where}: "))
        lines = [
            f"{reason}\n    at {places[0]}" + f" and {len(places) - 1} more" * (len(places) > 1)
            for reason, places in by_reason.items()
        ]
        more = [f"and {len(lines) - TOLD} more"] * (len(lines) > TOLD)
        listed = "".join(f"\n  {line}" for line in [*lines[:TOLD], *more])
        raise ScenarioError(sweep._where, f"{len(every)} of {count} points are not valid", f"mend the axes:{listed}")
    warned: dict[str, tuple[str, str, int]] = {}
    for index in sorted(checked):
        for kind, (place, text, points) in checked[index].warned.items():
            first, told, before = warned.get(kind, (place, text, 0))
            warned[kind] = (first, told, before + points)
    return [f"{place}: {text}" + f" (one of {n} such points)" * (n > 1) for place, text, n in warned.values()]


def chunks_of(
    sweep: Sweep, points: Sequence[int], seeds: tuple[int, ...], lines: Sequence[str] | None = None
) -> Iterator[Chunk]:
    """Part runs into chunks; the same runs always come into the same chunks.

    Args:
        sweep: What is swept.
        points: Ascending and without gaps.
        seeds: Of every point.
        lines: Whose runs; those of all that are compared when left out.
    """
    if not len(points) or not seeds:
        return
    base, lines = sweep.base, sweep.lines if lines is None else lines
    kind = OPTIMUM if OPTIMUM in lines else sweep.engine
    each = RUN_S[kind] + SLOT_S[kind] * base.slots * len(base.stream)
    most = max(int(TASK_S / each), 1)
    # Blocks of a fixed size, so that more seeds leave the chunks of the others as they are.
    some = max(min(SEEDS_TOGETHER, most), 1)
    for start in range(0, len(seeds), some):
        now = seeds[start : start + some]
        width = max(most // len(now), 1)
        for first in range(0, len(points), width):
            part = range(points[first], points[min(first + width, len(points)) - 1] + 1)
            for line in lines:
                yield Chunk(line, part, now)


def optima_of(sweep: Sweep, points: Sequence[int], seeds: tuple[int, ...]) -> list[Chunk]:
    """Part the optima that ratios need into chunks; none where a sweep does not ask for ratios."""
    return [] if sweep.ratio is None else list(chunks_of(sweep, points, seeds, (OPTIMUM,)))


def disk_bytes(sweep: Sweep, runs: int) -> int:
    """Estimate what the results of so many runs take on the disk."""
    slots = float(_sizes(sweep).mean()) if sweep.per_slot else 0.0
    return int(runs * (2 * BYTES_PER_RUN + slots * BYTES_PER_SLOT))


def _sizes(sweep: Sweep) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the slots of a run times its streams at every point."""
    points, base = sweep.points, sweep.base
    sizes = {"slots": np.full(len(points), float(base.slots)), "streams": np.full(len(points), float(len(base.stream)))}
    for axis, levels, which in zip(points.axes, points.levels, points.which.T, strict=True):
        if axis.key in sizes:
            values = np.array(levels, float)[which]
            sizes[axis.key] = sizes[axis.key] * values if axis.times is not None else values
    return np.asarray(sizes["slots"] * sizes["streams"])


def run_sweep(
    sweep: Sweep, folder: Path, engine: Engine, progress: Callable[[Progress], None] = lambda state: None
) -> Outcome:
    """Compute what is missing of a sweep, and write the table of all runs.

    Results do not depend on the engine, its workers, their order, or on how often a call was interrupted.

    Args:
        sweep: Loaded and checked.
        folder: The result folder; what it holds of this sweep is taken up.
        engine: Where to compute.
        progress: Called whenever a chunk is done.

    Raises:
        ScenarioError: The folder holds something else.
        SimulationError: A file cannot be written; what was kept before stays.
    """
    with closing(Store(folder)) as store:
        return run_into(sweep, store, engine, progress)


def run_into(sweep: Sweep, store: Store, engine: Engine, progress: Callable[[Progress], None]) -> Outcome:
    """Do what `run_sweep` does, into a store that the caller holds open."""
    count, begun = len(sweep.points), time.monotonic()
    found: list[tuple[Chunk, str]] = []
    of_optima: list[tuple[Chunk, str]] = []
    each = count * (len(sweep.lines) + (sweep.ratio is not None))
    total = each * len(sweep.first_seeds)
    done = kept = failed = fresh = 0

    def stage(chunks: Sequence[Chunk], what: str) -> None:
        nonlocal done, kept, failed, fresh
        keyed = [(chunk, chunk.key(sweep)) for chunk in chunks]
        missing = [one for one in keyed if not store.has(*one, sweep.per_slot and one[0].allocator != OPTIMUM)]
        known = sum(_runs(chunk) for chunk, _ in keyed) - sum(_runs(chunk) for chunk, _ in missing)
        kept, done = kept + known, done + known
        for index, (table, slots, errors, again) in engine(_computed, sweep, [chunk for chunk, _ in missing]):
            chunk, key = missing[index]
            store.keep(chunk, key, table, slots, again)
            done, failed, fresh = done + _runs(chunk), failed + errors, fresh + _runs(chunk)
            rate = fresh / max(time.monotonic() - begun, 1e-9)
            progress(Progress(what, done, total, failed, kept, rate, (total - done) / rate if rate else None))
        for one in keyed:
            (of_optima if one[0].allocator == OPTIMUM else found).append(one)

    def both(seeds: tuple[int, ...], what: str) -> Any:
        stage(list(chunks_of(sweep, range(count), seeds)), what)
        stage(optima_of(sweep, range(count), seeds), "enclosing optima")
        runs = runs_table(sweep, store, found)
        return runs if sweep.ratio is None else with_ratios(sweep, store, runs, of_optima)

    table = both(sweep.first_seeds, "running")
    if sweep.precision is not None:
        pilot, needed = sweep.precision.pilot, seeds_needed(sweep, table)
        total += (needed - pilot) * each
        table = both(tuple(range(pilot + 1, needed + 1)), "adding seeds")
    store.write(store.folder / RUNS, parquet_bytes(table))
    store.keep_slots_of({chunk.slots_key(key) for chunk, key in found} if sweep.per_slot else set())
    failures = [
        {name: table[name][row].as_py() for name in ("point", "allocator", "seed", "error")}
        for row in (index for index, error in enumerate(table["error"].to_pylist()) if error)
    ]
    return Outcome(table, table.num_rows, fresh, failures)


def _runs(chunk: Chunk) -> int:
    return len(chunk.points) * len(chunk.seeds)


def _computed(sweep: Sweep, chunk: Chunk) -> tuple[bytes, bytes | None, int, bool]:
    if chunk.allocator == OPTIMUM:
        return optima_parquet(sweep, chunk)
    found = computed(sweep, chunk)
    slots = slots_parquet(found.slots, chunk) if sweep.per_slot else None
    return as_parquet(found.rows), slots, sum(bool(row["error"]) for row in found.rows), found.again


@dataclass(frozen=True)
class Estimate:
    """What a sweep takes.

    Attributes:
        points: Of the grid.
        runs: Points x allocators x seeds, the pilot's alone where seeds are added.
        optima: Points x seeds, where ratios are asked for; 0 elsewhere.
        left: Runs that are not finished yet.
        most: Where seeds are added, how many runs there may be in the end; 0 elsewhere.
        chunks: Tasks that they are parted into.
        seconds: On this machine, from one run of each allocator, for what is not finished yet.
        disk_bytes: That what is not finished yet will take.
        free_bytes: On the disk.
    """

    points: int
    runs: int
    optima: int
    left: int
    most: int
    chunks: int
    seconds: float
    disk_bytes: int
    free_bytes: int

    def in_words(self) -> str:
        """Say it in a line."""
        mega = 1 << 20
        kept = f", {self.runs - self.left:,} of them finished" * (self.left < self.runs)
        more = f"; seeds are added up to {self.most:,} runs" * (self.most > self.runs)
        optima = f" and {self.optima:,} optima" * (self.optima > 0)
        return (
            f"{self.runs:,} runs{optima} at {self.points:,} points in {self.chunks:,} chunks{kept}: about "
            f"{_duration(self.seconds)} and {max(self.disk_bytes / mega, 0.1):,.1f} MiB{more}"
        )

    def check_room(self) -> None:
        """Refuse what does not fit on the disk.

        Raises:
            ScenarioError: There is less room than the results will take.
        """
        if self.disk_bytes > self.free_bytes:
            mega = 1 << 20
            found = f"the results take {self.disk_bytes / mega:,.0f} MiB and {self.free_bytes / mega:,.0f} are free"
            raise ScenarioError("result folder", found, "make room, or choose another with --output")


def estimated(sweep: Sweep, folder: Path, jobs: int | None = None) -> Estimate:
    """Say what a sweep still takes, by the time of a point of middling size.

    Args:
        sweep: Checked.
        folder: Where results will lie.
        jobs: Worker processes; as many as there are cores when left out.
    """
    chunks = list(chunks_of(sweep, range(len(sweep.points)), sweep.first_seeds))
    of_optima = optima_of(sweep, range(len(sweep.points)), sweep.first_seeds)
    runs, optima = sum(map(_runs, chunks)), sum(map(_runs, of_optima))
    kept = {path.stem for part in (CHUNKS, SLOTS) for path in (folder / part).glob("*.parquet")}

    def finished(chunk: Chunk) -> bool:
        key = chunk.key(sweep)
        per_slot = sweep.per_slot and chunk.allocator != OPTIMUM
        return key in kept and (not per_slot or chunk.slots_key(key) in kept)

    left, without = (
        sum(_runs(chunk) for chunk in some if not kept or not finished(chunk)) for some in (chunks, of_optima)
    )
    each = _seconds_of_a_run(sweep, sweep.lines) if left else 0.0
    each_optimum = _seconds_of_a_run(sweep, (OPTIMUM,)) if without else 0.0
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    seconds = (left * each + without * each_optimum) / (jobs or os.cpu_count() or 1)
    most = 0 if sweep.precision is None else runs // sweep.precision.pilot * sweep.precision.most
    free = shutil.disk_usage(there).free
    parts = len(chunks) + len(of_optima)
    return Estimate(len(sweep.points), runs, optima, left, most, parts, seconds, disk_bytes(sweep, left), free)


def _seconds_of_a_run(sweep: Sweep, lines: Sequence[str]) -> float:
    """Run a point of middling size twice under each allocator: the first time loads and compiles what others find."""
    found, sizes = [], _sizes(sweep)
    typical = int(np.abs(sizes - sizes.mean()).argmin())
    for line in lines:
        one = Chunk(line, range(typical, typical + 1), sweep.first_seeds[:1])
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            _computed(sweep, one)
            seconds.append(time.perf_counter() - begun)
            if seconds[0] > PATIENCE_S:
                break
        found.append(min(seconds))
    return sum(found) / len(found)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
