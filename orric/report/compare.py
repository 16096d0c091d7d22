"""Compare two result folders: what differs in what was asked, and what it did to the results."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.exceptions import ScenarioError, extra
from orric.folders import settle
from orric.statistics import difference_p, holm, mean_interval

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
# Accuracies that may be compared: their column in a sweep's runs, and in a run's slots.
ACCURACIES = {
    "mean accuracy": ("mean_accuracy", "correct"),
    "in-time accuracy": ("in_time_accuracy", "correct_in_time"),
}
# What earlier versions of orric did not record of a sweep's runs, or of a run's slots.
SINCE = (
    ("in_time_accuracy", "answered", "in_time", "abandoned", "lost", "waiting"),
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

    def knows(self, accuracy: str) -> bool:
        """Say whether it has one of `ACCURACIES`."""
        return ACCURACIES[accuracy][not self.is_sweep] in self.rows

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
class Change:
    """How an allocator's accuracy differs between two folders.

    Attributes:
        allocator: Its name, with the accuracy model where there are several.
        before: In the first.
        after: In the second.
        low: Lower end of the 95 % interval of the difference, NaN where nothing can be paired.
        high: Its upper end.
        pairs: Independent pairs: seeds of a sweep. Slots of a run are not independent, so that two runs are one pair.
        p_holm: Probability of such a difference by chance, corrected for the number of allocators (Holm), NaN unknown.
    """

    allocator: str
    before: float
    after: float
    low: float
    high: float
    pairs: int
    p_holm: float = float("nan")

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """Say whether it may be chance."""
        if self.difference == 0 and not self.high > self.low:
            return "same"
        if not np.isfinite(self.p_holm):
            return "one pair only" if self.pairs else "nothing to pair"
        return "beyond chance" if self.p_holm < 0.05 else "may be chance"


def changes(one: Folder, other: Folder, accuracy: str = "mean accuracy") -> list[Change]:
    """Return every allocator's change, where both folders have it.

    Runs of a sweep belong together by point, allocator and seed, and a seed's mean over points is one pair. Slots of a
    run belong together by their number; they follow upon one another and are not independent, so that two runs say
    nothing of chance.

    Args:
        one: The first.
        other: The second.
        accuracy: One of `ACCURACIES` that both know.

    Raises:
        ScenarioError: One is of a run and the other of a sweep, or nothing belongs together.
    """
    if one.is_sweep != other.is_sweep:
        kinds = ["a sweep" if folder.is_sweep else "a run" for folder in (one, other)]
        raise ScenarioError("result folders", f"one is of {kinds[0]}, the other of {kinds[1]}", "give two of a kind")
    if one.keys != other.keys:
        axes = f"their axes are {', '.join(one.keys[:-2])} and {', '.join(other.keys[:-2])}"
        raise ScenarioError("result folders", axes, "compare sweeps over the same axes")
    named = list(one.keys)
    left, right = (_accuracies(folder, accuracy) for folder in (one, other))
    for name in named:
        if _is_text(left[name]) != _is_text(right[name]):
            mixed = f"the values of {name!r} are numbers in one and words in the other"
            raise ScenarioError("result folders", mixed, "compare sweeps over the same values")
    both = left.merge(right, on=named, suffixes=("_before", "_after"))
    if both.empty:
        raise ScenarioError("result folders", "no run is in both", "compare folders of the same points and seeds")
    several = not one.is_sweep and both["accuracy_model"].nunique() > 1
    both["line"] = both["allocator"] + (" (" + both["accuracy_model"] + ")" if several else "")
    precisions = [folder.summary.get("precision") is not None for folder in (one, other)]
    pilots = [_pilot(folder) for folder in (one, other)]
    pilot = min((count for count in pilots if count), default=None) if any(precisions) else None
    found = []
    for label in both["line"].unique():
        rows = both[both["line"] == label]
        before, after = (
            float(rows[f"correct_{side}"].sum() / max(rows[f"weight_{side}"].sum(), 1e-300))
            for side in ("before", "after")
        )
        if not one.is_sweep:
            found.append(Change(label, before, after, float("nan"), float("nan"), 1))
            continue
        unit = rows.groupby("seed")
        apart = (unit["correct_after"].mean() - unit["correct_before"].mean()).to_numpy()
        told = mean_interval(apart, pilot=pilot)
        chance = difference_p(apart, pilot)
        found.append(Change(label, before, after, told.low, told.high, told.count, chance))
    adjusted = holm([change.p_holm for change in found])
    return [replace(change, p_holm=chance) for change, chance in zip(found, adjusted, strict=True)]


def _is_text(values: pandas.Series) -> bool:
    return values.dtype.kind not in "iufb"


def _pilot(folder: Folder) -> int | None:
    """Return the seeds of the first stage of a sweep whose number of seeds was chosen by them."""
    asked = folder.summary.get("asked", {}).get("sweep", {}).get("precision") or {}
    pilot = asked.get("pilot")
    return int(pilot) if pilot else None


def _accuracies(folder: Folder, accuracy: str) -> pandas.DataFrame:
    """Return of every row what counts as correct and how much it weighs: a run as one, a slot by its requests."""
    rows = folder.rows[list(folder.keys)].copy()
    found = folder.rows[ACCURACIES[accuracy][not folder.is_sweep]]
    if folder.is_sweep:
        rows["correct"], rows["weight"] = found, 1.0
        return rows[found.notna()]
    rows["correct"], rows["weight"] = found, folder.rows["requests"]
    return rows[folder.rows["requests"] > 0]


def told_apart(one: Folder, other: Folder) -> list[str]:
    """Say what differs in what was asked: keys of the scenarios, allocators, versions."""
    said = []
    before, after = _asked(one), _asked(other)
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            said.append(f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}")
    keys = list(one.keys)
    common = len(one.rows[keys].astype(str).merge(other.rows[keys].astype(str), on=keys))
    rows = {len(one.rows), len(other.rows), common}
    if len(rows) > 1:
        what = "runs" if one.is_sweep else "slots"
        said.insert(0, f"{what}: {len(one.rows)} and {len(other.rows)}; compared are the {common} that both have")
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


def _asked(folder: Folder) -> dict[str, Any]:
    """Return what a folder's results come from, as flat keys."""
    found = {f"version of {name}": value for name, value in folder.summary.get("versions", {}).items()}
    if folder.is_sweep:
        return {**found, "engine": folder.summary.get("engine"), **dict(_flat(folder.summary.get("asked", {})))}
    path = folder.path / "scenario.toml"
    if path.is_file():
        try:
            found |= dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise ScenarioError(str(path), f"cannot be read ({error})", "make the folder anew") from None
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
