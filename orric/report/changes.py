"""What changes from one case to another: every measure of every allocator, paired by seed, and what may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.exceptions import ScenarioError, extra
from orric.report.compare import Case, Folder
from orric.report.facts import TIE, spoken
from orric.statistics import difference_p, holm, over_seeds

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Measure:
    """A figure of a run that is compared.

    Attributes:
        title: For tables and sentences.
        unit: Of what is shown.
        factor: What it is multiplied by for showing.
        digits: After the decimal point, but for large values.
        part_of_requests: Whether it is a number of requests, of which the part is shown.
    """

    title: str
    unit: str
    factor: float
    digits: int
    part_of_requests: bool = False

    def text(self, value: float, signed: bool = False) -> str:
        """Write a value without its unit, or a dash."""
        if not np.isfinite(value):
            return "-"
        digits = self.digits if self.unit == "%" or abs(self.factor * value) < 10 else 1
        value = round(self.factor * value, digits) + 0.0
        return f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"

    @property
    def unit_of_change(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit


MEASURES = {
    "in_time_accuracy": Measure("in-time accuracy", "%", 100.0, 2),
    "worst_stream_in_time_accuracy": Measure("worst stream's in-time accuracy", "%", 100.0, 2),
    "mean_accuracy": Measure("mean accuracy", "%", 100.0, 2),
    "worst_stream_accuracy": Measure("worst stream's accuracy", "%", 100.0, 2),
    "last_severity_accuracy": Measure("accuracy at the last severity", "%", 100.0, 2),
    "latency_p50_s": Measure("p50 latency", "s", 1.0, 3),
    "latency_p99_s": Measure("p99 latency", "s", 1.0, 3),
    "answered": Measure("answered", "%", 100.0, 2),
    "in_time": Measure("in time", "%", 100.0, 2, part_of_requests=True),
    "late": Measure("late", "%", 100.0, 2, part_of_requests=True),
    "shed": Measure("shed", "%", 100.0, 2, part_of_requests=True),
    "abandoned": Measure("abandoned", "%", 100.0, 2, part_of_requests=True),
    "lost": Measure("lost", "%", 100.0, 2, part_of_requests=True),
    "waiting": Measure("waiting at the end", "%", 100.0, 2, part_of_requests=True),
    "macs_per_request": Measure("compute per request", "MMACs", 1e-6, 3),
    "budget_used": Measure("budget used", "%", 100.0, 2),
    "retraining_part": Measure("of it retraining", "%", 100.0, 2),
    "energy_j": Measure("energy", "Wh", 1 / 3600, 3),
}
# They mean something else only where there is a deadline.
OF_DEADLINES = ("in_time_accuracy", "worst_stream_in_time_accuracy", "in_time", "late")
# What a sentence tells beside the leading measure, where it has changed.
TOLD = ("late", "shed", "latency_p99_s", "energy_j")
# What can be had of some slots of a run.
OF_SLOTS = {"mean_accuracy": "correct", "in_time_accuracy": "correct_in_time"}
COUNTS = ("served", "late", "shed", "abandoned", "lost")


# The verdict on what several seeds change by just as much.
SEEDLESS = "seeds change nothing"


@dataclass(frozen=True)
class Change:
    """How a measure of an allocator differs between two cases.

    Attributes:
        measure: One of `MEASURES`.
        allocator: Its name, with the accuracy model where there are several.
        before: In the first case, over what both have.
        after: In the other.
        low: Lower end of the 95 % interval of the difference, NaN where nothing can be paired.
        high: Its upper end.
        pairs: Independent pairs: seeds. Slots of a run follow upon one another and are not independent.
        p_holm: Probability of such a difference by chance, corrected for the number of allocators (Holm), NaN unknown.
    """

    measure: str
    allocator: str
    before: float
    after: float
    low: float = float("nan")
    high: float = float("nan")
    pairs: int = 0
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
            return ("nothing to pair", "one pair only", SEEDLESS)[min(self.pairs, 2)]
        return "beyond chance" if self.p_holm < 0.05 else "may be chance"

    @property
    def plain(self) -> dict[str, Any]:
        """It as plain values for a file; what is unknown is None."""
        told = {**asdict(self), "difference": self.difference, "verdict": self.verdict}
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in told.items()
        }


def leading_measure(cases: Sequence[Case]) -> str:
    """Return the measure that all is ranked by: in-time accuracy where there is a deadline, else mean accuracy."""
    folders = [folder for case in cases for folder in case.folders]
    knows = all(
        "in_time_accuracy" not in folder.lacking and "correct_in_time" not in folder.lacking for folder in folders
    )
    deadline = any(folder.has_deadlines for folder in folders)
    return "in_time_accuracy" if knows and deadline else "mean_accuracy"


def changes(one: Case, other: Case) -> list[Change]:
    """Return how every measure of every allocator changes that both cases have, the leading one first.

    Runs belong together by seed; those of a sweep by point, too, and a seed's mean over points is one pair. Of runs
    over other slots, those compared are the slots that all have, of which the latencies are not known apart.

    Args:
        one: The first.
        other: The second.

    Raises:
        ScenarioError: Nothing belongs together.
    """
    sweep = one.first.is_sweep
    points = list(one.first.keys[:-2]) if sweep else []
    left, right = (_of_sweep(one.first), _of_sweep(other.first)) if sweep else _of_runs(one, other)
    for name in points:
        if _is_text(left[name]) != _is_text(right[name]):
            mixed = f"the values of {name!r} are numbers in one and words in the other"
            raise ScenarioError("result folders", mixed, "compare sweeps over the same values")
    shared = sorted({*left["line"]} & {*right["line"]}, key=list(left["line"]).index)
    if not shared:
        raise ScenarioError("result folders", "no allocator is in both", "compare folders of the same allocators")
    both = left.merge(right, on=[*points, "line", "seed"], suffixes=("_before", "_after"))
    if sweep and both.empty:
        raise ScenarioError("result folders", "no run is in both", "compare folders of the same points and seeds")
    pilot = _pilot(one.first, other.first)
    known = [name for name in MEASURES if name in left and name in right]
    known = [name for name in known if left[name].notna().any() and right[name].notna().any()]
    if not any(case.first.has_deadlines for case in (one, other)):
        known = [name for name in known if name not in OF_DEADLINES]
    leading = leading_measure([one, other])
    known.sort(key=lambda name: name != leading)
    found = []
    for name in known:
        told = [_change(name, line, both, left, right, pilot) for line in shared]
        adjusted = holm([change.p_holm for change in told])
        found += [replace(change, p_holm=chance) for change, chance in zip(told, adjusted, strict=True)]
    kept = {change.measure for change in found if change.before or change.after}
    # With one stream it is the mean.
    ends = {name: [(one.before, one.after) for one in found if one.measure == name] for name in known}
    for worst, mean in (
        ("worst_stream_accuracy", "mean_accuracy"),
        ("worst_stream_in_time_accuracy", "in_time_accuracy"),
    ):
        if ends.get(worst) == ends.get(mean):
            kept.discard(worst)
    return [change for change in found if change.measure in kept or change.measure == leading]


def _change(
    name: str, line: str, both: pandas.DataFrame, left: pandas.DataFrame, right: pandas.DataFrame, pilot: int | None
) -> Change:
    """Compare a measure of an allocator, seed by seed; only the means where no seed is in both."""
    rows = both[both["line"] == line]
    before, after = rows[f"{name}_before"], rows[f"{name}_after"]
    rows = rows[before.notna() & after.notna()]
    if rows.empty:
        first, second = (float(frame.loc[frame["line"] == line, name].mean()) for frame in (left, right))
        return Change(name, line, first, second)
    unit = rows.groupby("seed")[[f"{name}_before", f"{name}_after"]].mean()
    apart = (unit[f"{name}_after"] - unit[f"{name}_before"]).to_numpy()
    told = over_seeds(apart, pilot=pilot)
    first, second = (float(rows[f"{name}_{side}"].mean()) for side in ("before", "after"))
    return Change(name, line, first, second, told.low, told.high, told.count, difference_p(apart, pilot))


def _is_text(values: pandas.Series) -> bool:
    return values.dtype.kind not in "iufb"


def _pilot(*folders: Folder) -> int | None:
    """Return the seeds of the first stage of sweeps whose number of seeds was chosen by them."""
    asked = [folder.summary.get("asked", {}).get("sweep", {}).get("precision") or {} for folder in folders]
    return min((int(one["pilot"]) for one in asked if one.get("pilot")), default=None)


def _of_sweep(folder: Folder) -> pandas.DataFrame:
    """Return the runs of a sweep that have an accuracy, one a row."""
    rows = folder.rows[folder.rows["mean_accuracy"].notna()]
    kept = {name: rows[name] for name in folder.keys}
    frame = _framed({**kept, **{name: rows[name].astype(float) for name in MEASURES if name in rows}})
    for name, measure in MEASURES.items():
        if measure.part_of_requests and name in frame:
            frame[name] = frame[name] / rows["requests"].clip(lower=1.0)
    return frame.rename(columns={"allocator": "line"})


def _of_runs(one: Case, other: Case) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return the runs of two cases, one line of an allocator a row: of their slots those that both have."""
    slots = [case.first.rows[["slot", "stream"]].drop_duplicates() for case in (one, other)]
    shared = slots[0].merge(slots[1], on=["slot", "stream"])
    if shared.empty:
        raise ScenarioError("result folders", "no slot of a stream is in both", "compare runs of the same streams")
    whole = len(shared) == len(slots[0]) == len(slots[1])
    models = {model for case in (one, other) for model in case.first.rows["accuracy_model"]}
    found = []
    for case in (one, other):
        rows = [row for folder in case.folders for row in _of_run(folder, None if whole else shared, len(models) > 1)]
        found.append(_framed(rows))
    return found[0], found[1]


def _of_run(folder: Folder, shared: pandas.DataFrame | None, several: bool) -> list[dict[str, Any]]:
    rows, found = folder.rows, []
    if shared is not None:
        rows = rows.merge(shared, on=["slot", "stream"])
    told = {(one.get("accuracy_model"), one.get("allocator")): one for one in folder.summary.get("results", [])}
    for (model, name), mine in rows.groupby(["accuracy_model", "allocator"], sort=False):
        requests = float(mine["requests"].sum()) or 1.0
        row: dict[str, Any] = {"line": f"{name} ({model})" if several else name, "seed": folder.seed}
        if shared is None:
            summary = told.get((model, name), {})
            for key, measure in MEASURES.items():
                value = summary.get(key)
                if value is not None:
                    row[key] = float(value) / (requests if measure.part_of_requests else 1.0)
        else:
            row |= {key: float(mine[key].sum()) / requests for key in COUNTS if key in mine}
            row["answered"] = row.pop("served", float("nan"))
            budget = float(mine["retraining_macs"].sum() + mine["inference_macs"].sum())
            row["macs_per_request"] = budget / requests
        row |= {key: float(mine[column].sum()) / requests for key, column in OF_SLOTS.items() if column in mine}
        if folder.lacking:
            row = {key: value for key, value in row.items() if key not in OF_DEADLINES}
        found.append(row)
    return found


def _framed(rows: Any) -> pandas.DataFrame:
    with extra("sim"):
        import pandas
    return pandas.DataFrame(rows)


def tells_chance(found: Sequence[Change]) -> bool:
    """Say whether seeds are paired, so that chance is known of any change."""
    return any(change.verdict in ("beyond chance", "may be chance") for change in found)


def in_words(first: Case, other: Case, found: Sequence[Change]) -> list[str]:
    """Say who is best in the other case and in the first, and what has become of the best.

    Args:
        first: What is compared with.
        other: What is compared.
        found: From `changes`.
    """
    leading = found[0].measure
    by_line = {line: _of(found, line) for line in dict.fromkeys(change.allocator for change in found)}
    rivals = [line for line in by_line if line.split(" (")[0] not in REFERENCES] or list(by_line)
    title, unit = MEASURES[leading].title, MEASURES[leading].unit
    known = [line for line in rivals if np.isfinite(by_line[line][leading].difference)]
    if not known:
        return [f"{other.label}: no allocator that both have was answered for."]
    was = _best({line: by_line[line][leading].before for line in known})
    now = _best({line: by_line[line][leading].after for line in known})
    ends = by_line[was][leading].before, by_line[now][leading].after
    texts = [f"{MEASURES[leading].text(value)} {unit}" for value in ends]
    said = f"{spoken(now)} has the highest {title} in {other.label}: {texts[1]}"
    still, own = "", ""
    if was != now:
        own = f"; its own changed by {MEASURES[leading].text(by_line[now][leading].difference, signed=True)}"
        own, still = f"{own} {MEASURES[leading].unit_of_change}", f" under {spoken(was)}"
    apart = f"{MEASURES[leading].text(abs(ends[1] - ends[0]))} {MEASURES[leading].unit_of_change}"
    way = "as much as" if texts[0] == texts[1] else f"{apart} {'more' if ends[1] > ends[0] else 'less'} than"
    sentences = [f"{said}, {way} the highest in {first.label} ({texts[0]}{still}){own}."]
    for line in dict.fromkeys((now, was)):
        mine = by_line[line]
        told = [mine[name] for name in (leading, *TOLD) if name in mine]
        phrases = [phrase for change in told if (phrase := _phrase(change))]
        if phrases:
            sentences.append(f"Under {spoken(line)}: {', '.join(phrases)}. {_chance(told)}".strip())
        else:
            sentences.append(f"Under {spoken(line)} nothing has changed.")
    return sentences


def _best(values: Mapping[str, float]) -> str:
    """Return who has the largest value: ORRIC where it ties with the largest."""
    best = max(values, key=lambda line: values[line])
    return "orric" if values.get("orric", float("-inf")) >= values[best] - TIE else best


def _of(found: Sequence[Change], line: str) -> Mapping[str, Change]:
    return {change.measure: change for change in found if change.allocator == line}


def _phrase(change: Change) -> str:
    measure = MEASURES[change.measure]
    texts = [measure.text(value) for value in (change.before, change.after)]
    return f"{measure.title} {texts[0]} to {texts[1]} {measure.unit}" if texts[0] != texts[1] else ""


def _chance(told: Sequence[Change]) -> str:
    """Say what of these changes may be chance."""
    moved = [change for change in told if change.verdict != "same"]
    if not moved or all(change.verdict == "nothing to pair" for change in moved):
        return "No seed is in both, so that nothing is paired."
    if all(change.verdict == "one pair only" for change in moved):
        return "That is one seed, which says nothing of chance."
    if all(change.verdict == SEEDLESS for change in moved):
        return "Seeds change nothing there: they are one run, which says nothing of chance."
    doubtful = [MEASURES[change.measure].title for change in moved if change.verdict == "may be chance"]
    pairs = max(change.pairs for change in moved)
    if not doubtful:
        return f"That is beyond chance, over {pairs} seeds."
    return f"Over {pairs} seeds, what may be chance: {', '.join(doubtful)}."
