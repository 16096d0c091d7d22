"""Result folders that are compared: what they hold, what was asked of them, and which of them belong together."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orric.exceptions import ScenarioError, extra
from orric.folders import settle

if TYPE_CHECKING:
    import pandas

RUN, SWEEP = "summary.json", "sweep.json"
# What identifies a run of a sweep beside the axes, and a slot of a run.
OF_SWEEPS, OF_RUNS = ("allocator", "seed"), ("accuracy_model", "allocator", "slot", "stream")
# What the report of a sweep is drawn from.
OF_SUMMARIES = {
    "sweep", "note", "command", "engine", "allocators", "runs", "failed", "versions", "points", "seeds", "precision",
    "asked", "baseline", "means", "differences", "multiplicity", "axes", "cases",
}  # fmt: skip
SHOWN = 8
# Keys of one of several.
NUMBERED = re.compile(r"(stream|gpu|fault)\.([0-9]+)\.(.+)")
# Keys of a scenario that are files.
FILES = (".profile", ".csv", ".timestamps", ".utilisation")
# What earlier versions of orric did not record of a sweep's runs, or of a run's slots.
SINCE = (
    (
        "in_time_accuracy",
        "worst_stream_in_time_accuracy",
        "answered",
        "in_time",
        "abandoned",
        "lost",
        "waiting",
    ),
    ("correct_in_time", "abandoned", "lost"),
)


@dataclass(frozen=True)
class Folder:
    """A result folder.

    Attributes:
        path: Where it lies.
        summary: What its summary holds.
        rows: A sweep's runs, or a run's slots.
        keys: The columns by which rows of two folders belong together.
    """

    path: Path
    summary: Mapping[str, Any]
    rows: pandas.DataFrame
    keys: tuple[str, ...]

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep's."""
        return "sweep" in self.summary

    @property
    def lacking(self) -> list[str]:
        """Columns that it has not, being of an earlier version of orric."""
        return [name for name in SINCE[not self.is_sweep] if name not in self.rows]

    @property
    def has_deadlines(self) -> bool:
        """Whether a stream of it has a deadline."""
        return any(key.endswith("deadline_s") and value is not None for key, value in asked(self).items())

    @property
    def seed(self) -> int | None:
        """The seed of a run; None of a sweep, which has several."""
        return None if self.is_sweep else int(self.summary.get("seed", 0))

    @classmethod
    def load(cls, path: Path) -> Folder:
        """Read a result folder of `orric run` or `orric sweep`.

        Raises:
            ScenarioError: It is none, or was cut short.
        """
        with extra("sim"):
            import pandas
        remedy = "give a folder that orric run or orric sweep has written"
        if not path.is_dir():
            raise ScenarioError(f"result folder {path}", "is no folder", remedy)
        settle(path)
        name = next((name for name in (RUN, SWEEP) if (path / name).is_file()), None)
        if name is None:
            unfinished = (path / "chunks").is_dir()
            found = "holds an unfinished sweep" if unfinished else f"has neither {RUN} nor {SWEEP}"
            raise ScenarioError(
                f"result folder {path}", found, "let the sweep come to its end" if unfinished else remedy
            )
        table = "result.parquet" if name == RUN else "runs.parquet"
        try:
            summary = json.loads((path / name).read_text(encoding="utf-8"))
            if not isinstance(summary, dict):
                raise TypeError(f"{name} is no table")
            rows = pandas.read_parquet(path / table)
            keys = OF_RUNS if name == RUN else (*summary["axis_titles"], *OF_SWEEPS)
            if name == SWEEP and (lacking := sorted(OF_SUMMARIES - set(summary))):
                raise KeyError(lacking[0])
            wanted = {"mean_accuracy"} if name == SWEEP else {"correct"}
            missing = {*keys, *wanted, "requests"} - set(rows.columns)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScenarioError(f"result folder {path}", f"cannot be read ({error})", "make it anew") from None
        if missing:
            raise ScenarioError(f"{path / table}", f"has no column {sorted(missing)[0]!r}", "make it anew")
        return cls(path, summary, rows, keys)


@dataclass(frozen=True)
class Case:
    """What is compared: a folder, or folders of one scenario that differ by their seed alone and are pooled.

    Attributes:
        folders: The folders.
    """

    folders: tuple[Folder, ...]

    @property
    def first(self) -> Folder:
        """The folder that stands for all."""
        return self.folders[0]

    @property
    def label(self) -> str:
        """Name it by its folders."""
        more = f" and {len(self.folders) - 1} more" * (len(self.folders) > 1)
        return f"{self.first.path}{more}"


def cases_of(folders: Sequence[Folder]) -> list[Case]:
    """Pool the runs that differ by their seed alone; where that left nothing to compare, every folder is a case.

    Args:
        folders: In the order given: the first case is what the others are compared with.

    Raises:
        ScenarioError: Some are of runs and others of sweeps, or sweeps are over other axes.
    """
    kinds = {folder.is_sweep for folder in folders}
    if len(kinds) > 1:
        named = {("a sweep" if one.is_sweep else "a run"): one.path for one in folders}
        found = ", ".join(f"{path} is of {kind}" for kind, path in named.items())
        raise ScenarioError("result folders", found, "give folders of one kind")
    for folder in folders[1:]:
        if folder.keys != folders[0].keys:
            axes = [", ".join(one.keys[: -len(OF_SWEEPS)]) for one in (folders[0], folder)]
            raise ScenarioError("result folders", f"their axes are {axes[0]} and {axes[1]}", "give the same axes")
    pooled: list[list[Folder]] = []
    for folder in folders:
        mine = {key: value for key, value in asked(folder).items() if key != "seed"}
        for others in pooled:
            seeds = {other.seed for other in others}
            theirs = {key: value for key, value in asked(others[0]).items() if key != "seed"}
            if folder.seed is not None and folder.seed not in seeds and mine == theirs:
                others.append(folder)
                break
        else:
            pooled.append([folder])
    if len(pooled) < 2:
        pooled = [[folder] for folder in folders]
    return [Case(tuple(group)) for group in pooled]


def told_apart(one: Folder, other: Folder) -> list[str]:
    """Say what differs in what was asked: keys of the scenarios, allocators, versions."""
    said = _changed(asked(one), asked(other))
    keys = [name for name in one.keys if name != "seed"] if one.is_sweep else ["slot", "stream"]
    rows = [len(folder.rows[keys].drop_duplicates()) for folder in (one, other)]
    common = len(_texts(one, keys).merge(_texts(other, keys), on=keys))
    if {*rows} != {common}:
        what = "points of allocators" if one.is_sweep else "slots of streams"
        said.insert(0, f"{what}: {rows[0]} and {rows[1]}; compared are the {common} that both have")
    more = [f"and {len(said) - SHOWN} more"] * (len(said) > SHOWN)
    only = [
        f"only in {folder.path}: {', '.join(sorted(mine - others))}"
        for folder, mine, others in (
            (one, set(one.rows["allocator"]), set(other.rows["allocator"])),
            (other, set(other.rows["allocator"]), set(one.rows["allocator"])),
        )
        if mine - others
    ]
    return [*said[:SHOWN], *more, *only]


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say which keys differ; streams, GPUs and faults that change alike share a line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            numbered = NUMBERED.fullmatch(key)
            name = f"{numbered[1]}.{{}}.{numbered[3]}" if numbered else key.replace("{", "{{").replace("}", "}}")
            group = groups.setdefault((name, _shown(before.get(key)), _shown(after.get(key))), [])
            group.append(numbered[2] if numbered else "")
    said = []
    for (name, old, new), numbers in groups.items():
        owner = name.split(".")[0]
        both = [one for keys in (before, after) for key in keys if (one := NUMBERED.fullmatch(key)) and one[1] == owner]
        every = len(numbers) > 1 and {one[2] for one in both} == {*numbers}
        said.append(f"{name.format('*' if every else ','.join(numbers))}: {old} -> {new}")
    return said


def _texts(folder: Folder, keys: Sequence[str]) -> pandas.DataFrame:
    return folder.rows[list(keys)].astype(str).drop_duplicates()


def asked(folder: Folder) -> dict[str, Any]:
    """Return what a folder's results come from, as flat keys; files of runs by where they lie."""
    found = {f"version of {name}": value for name, value in folder.summary.get("versions", {}).items()}
    if folder.is_sweep:
        return {**found, "engine": folder.summary.get("engine"), **dict(_flat(folder.summary.get("asked", {})))}
    path = folder.path / "scenario.toml"
    if path.is_file():
        try:
            read = dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise ScenarioError(str(path), f"cannot be read ({error})", "make the folder anew") from None
        # Paths are relative to their folder, so that those of two folders differ by more than the file.
        found |= {
            key: str((folder.path / value).resolve()) if key.endswith(FILES) and isinstance(value, str) else value
            for key, value in read.items()
        }
    return found


def _flat(value: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value, start=1) if isinstance(value, list) else None
    if items is None:
        yield before, value
        return
    for name, one in items:
        yield from _flat(one, f"{before}.{name}" if before else str(name))


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
