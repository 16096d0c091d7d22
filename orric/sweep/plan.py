"""Sweep files: a base scenario, what is varied, who is compared, and how often; validated whole."""

from __future__ import annotations

import hashlib
import json
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from orric.allocators import ALIASES, REFERENCES, check_name
from orric.comparison import check_references, data_hashes
from orric.complaint import in_toml
from orric.exceptions import OrricError, ScenarioError, nearest
from orric.scenario import Scenario, load_scenario
from orric.scenario.physics import by_kind, found
from orric.section import Flag, FolderName, Name, Positive, Section
from orric.sweep.axes import Axis, Draws, Points
from orric.sweep.measures import MEASURES, RATIOS, UNKNOWN_TO_SLOTS
from orric.sweep.overrides import PROFILE, check_keys, scenario_at

MOST_SEEDS = 1_000_000
# Of files that scenarios and profiles name.
ENDINGS = (".toml", ".csv", ".parquet", ".safetensors", ".onnx")
# Stands for the offline optimum in place of an allocator; no allocator has a space in its name.
OPTIMUM = "offline optimum"
# Columns that comparisons of two folders add.
RESERVED = ("weight", "correct", "line")


class Precision(Section):
    """How exact the means shall be; it takes the place of a number of seeds.

    Attributes:
        half_width: Of the 95 % confidence interval, in the measure's own unit.
        of: Which measure; left out, the one that allocators are ranked by.
        against: An allocator, the paired difference to which shall be exact; left out, each one's own mean.
        pilot: Seeds of the first stage, from whose spread the number of seeds is computed.
        most: Seeds at most.
    """

    half_width: Positive
    of: Name | None = None
    against: Name | None = None
    pilot: Annotated[int, Field(strict=True, ge=5, le=MOST_SEEDS)] = 30
    most: Annotated[int, Field(strict=True, ge=1, le=MOST_SEEDS)] = 1000

    @model_validator(mode="after")
    def _known(self) -> Precision:
        if self.of is not None and self.of not in MEASURES:
            raise ValueError(f"of is {self.of!r}; {nearest(self.of, MEASURES)}")
        if self.most < self.pilot:
            raise ValueError(f"most is {self.most} and pilot {self.pilot}; let most be the larger")
        return self


class Ratio(Section):
    """Asks for competitive ratios: what each run earned of the offline optimum of its point and seed.

    Attributes:
        gap: Relative width of the interval around the optimum.
    """

    gap: Annotated[Positive, Field(lt=1)] = 1e-5


class Sweep(Section):
    """A grid of scenarios, allocators and seeds.

    Attributes:
        name: For the result folder and the report.
        scenario: File of the base scenario, relative to the sweep's.
        engine: "simulator", request by request, or the paper's "slot-model".
        allocators: Who is compared; the scenario's when left out. Reference lines may be among them.
        baseline: Whom the others are compared with; the first allocator when left out.
        seeds: How many, counted from 1, or a list of them.
        precision: How exact the means shall be, in place of seeds.
        ratio: Whether competitive ratios are measured, and how closely; for the slot model.
        sample: How axes with a range are drawn.
        axis: What is varied.
        per_slot: Whether a row of every slot is kept, too, and not of every run alone.
        note: What the sweep is for, in a sentence, for the report.
    """

    name: FolderName
    scenario: Name
    engine: Literal["simulator", "slot-model"] = "simulator"
    allocators: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    baseline: Name | None = None
    seeds: int | tuple[int, ...] | None = None
    precision: Precision | None = None
    ratio: Ratio | None = None
    sample: Draws | None = None
    axis: tuple[Axis, ...] = ()
    per_slot: Flag = False
    note: str = ""
    _base: Scenario = PrivateAttr()
    _where: str = PrivateAttr(default="sweep")

    @field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, given: Any) -> Any:
        def whole(value: Any, least: int, most: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

        if given is None or whole(given, 1, MOST_SEEDS):
            return given
        if isinstance(given, (list, tuple)) and given and all(whole(one, 0, 2**63 - 1) for one in given):
            return tuple(given)
        raise ValueError(
            f"found {in_toml(given)}; give how many, 1 to {MOST_SEEDS:,}, or a list of whole numbers from 0"
        )

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        if (self.seeds is None) == (self.precision is None):
            found = "neither seeds nor precision" if self.seeds is None else "seeds and precision"
            raise ValueError(f"found {found}; give one of the two")
        if self.ratio is not None and self.engine != "slot-model":
            found = f"[ratio] with engine {self.engine!r}, in which nobody knows the offline optimum"
            raise ValueError(f'{found}; leave [ratio] out, or set engine = "slot-model"')
        if self.precision is not None and self.precision.of in RATIOS and self.ratio is None:
            raise ValueError(f"precision is of {self.precision.of!r}, which is not measured; add [ratio]")
        if isinstance(self.seeds, tuple) and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice; name each one once")
        plain = [ALIASES.get(name, name) for name in self.allocators or ()]
        if len(set(plain)) < len(plain):
            twice = next(name for name in plain if plain.count(name) > 1)
            raise ValueError(f"the allocator {twice!r} stands twice, perhaps by another name; name each one once")
        titles = [axis.title for axis in self.axis]
        if reserved := sorted({*titles} & {"point", "allocator", "seed", "error", *RESERVED, *MEASURES}):
            raise ValueError(f"an axis is called {reserved[0]!r}, as a column of the results is; give it another name")
        if len(set(titles)) < len(titles):
            twice = next(title for title in titles if titles.count(title) > 1)
            raise ValueError(f"two axes are called {twice!r}; give one of them another name")
        if any(axis.drawn for axis in self.axis) != (self.sample is not None):
            found = (
                "no axis has a range to draw from" if self.sample else "an axis has a range and there is no [sample]"
            )
            raise ValueError(f"{found}; give both or neither")
        words = [axis.together for axis in self.axis if axis.together is not None]
        if lonely := next((word for word in words if words.count(word) == 1), None):
            raise ValueError(f"one axis alone says together = {lonely!r}; give the word to another one, too")
        groups: dict[str, tuple[str, int]] = {}
        for axis in self.axis:
            if axis.together is not None:
                first, count = groups.setdefault(axis.together, (axis.title, axis.count))
                if count != axis.count:
                    raise ValueError(
                        f"{first!r} has {count} values and {axis.title!r} has {axis.count}, and they go together; "
                        "give as many to each"
                    )
        return self

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a sweep, its scenario and the keys of its axes; points are checked by `check_points`.

        Raises:
            OrricError: With file, line, key, what was found and what is allowed.
        """
        sweep = super().load(path)
        sweep._where = str(path)
        sweep._base = load_scenario(Path(path).resolve().parent / sweep.scenario)
        for name in sweep.lines:
            if name not in REFERENCES:
                check_name(name)
        for chosen in (sweep.baseline, sweep.precision.against if sweep.precision else None):
            if chosen is not None and chosen not in sweep.lines:
                raise ScenarioError(str(path), f"{chosen!r} is not compared", nearest(chosen, sweep.lines))
        check_keys(sweep._base, sweep.axis, str(path), sweep.engine)
        if sweep.engine == "slot-model":
            if sweep.precision is not None and sweep.precision.of in UNKNOWN_TO_SLOTS:
                found = f"of is {sweep.precision.of!r}, which the slot model does not know"
                raise ScenarioError(f"{path}: precision", found, 'take another, or set engine = "simulator"')
            refused = [name for name in sweep.lines if name in REFERENCES]
            if refused:
                found = f"{refused[0]!r} is a reference line, which the slot model does not have"
                raise ScenarioError(f"{path}: allocators", found, 'leave it out, or set engine = "simulator"')
        return sweep

    @property
    def base(self) -> Scenario:
        """The base scenario."""
        return self._base

    @property
    def lines(self) -> tuple[str, ...]:
        """Who is compared."""
        return self.allocators or self._base.allocators

    @property
    def compared_with(self) -> str:
        """Whom the others are compared with."""
        return self.baseline or self.lines[0]

    @cached_property
    def leading(self) -> str:
        """The measure that allocators are ranked by: in-time accuracy where a stream has a deadline at any point."""
        given: list[Any] = [self._base.model_dump(include={"stream"})]
        given += [
            {axis.key.rpartition(".")[2]: value} for axis in self.axis for value in axis.values or axis.times or ()
        ]
        return "in_time_accuracy" if self.engine == "simulator" and _has_deadline(given) else "mean_accuracy"

    @property
    def made_precise(self) -> str:
        """The measure whose means shall be precise, where a precision is asked for."""
        return self.leading if self.precision is None or self.precision.of is None else self.precision.of

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The seeds of the first stage: all of them, or the pilot's."""
        if self.precision is not None:
            return tuple(range(1, self.precision.pilot + 1))
        if isinstance(self.seeds, tuple):
            return self.seeds
        return tuple(range(1, (self.seeds or 0) + 1))

    @cached_property
    def points(self) -> Points:
        """What the axes span."""
        return Points.spanned(self.axis, self.sample)

    def scenario_of(self, point: int) -> Scenario:
        """Return the scenario of a point, from 0.

        Raises:
            OrricError: It is not valid.
        """
        made = scenario_at(self._base, self.axis, self.points.values(point), self.place(point))
        if self.engine == "slot-model" and (len(made.stream) > 1 or len(made.gpu) > 1):
            found = f"{len(made.stream)} streams and {len(made.gpu)} GPUs"
            raise ScenarioError(self.place(point), found, 'the slot model takes one of each; set engine = "simulator"')
        return made

    def place(self, point: int) -> str:
        """Name a point by its values, for errors."""
        labels = ", ".join(f"{title} = {_short(value)}" for title, value in self.points.labels(point).items())
        return f"{self._where}: point {point + 1}" + f" ({labels})" * bool(labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the runs of any point depend on, but the point's values, the allocator and the seed."""
        # The scenario's own seed says where streams are placed.
        table = self._base.model_dump(mode="json", exclude={"name", "allocators", "references"})
        axes = [axis.model_dump(mode="json", include={"key", "times"}) for axis in self.axis]
        keys = [(one["key"], one["times"] is not None) for one in axes]
        real = self.engine == "simulator" and self._base.accuracy.model == "onnx"
        given = [
            self.engine,
            table,
            keys,
            self.files_in(table),
            code_version(),
            data_hashes(self._base) if real else [],
        ]
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """Hashes of the files that the base scenario and the values of axes name, and of the weights behind them."""
        folders = {self._base._folder}
        for axis in self.axis:
            if axis.key.startswith(PROFILE):  # such files lie beside the profiles
                folders |= {(self._base._folder / stream.profile).parent for stream in self._base.stream}
        named = files_named([self._base.model_dump(mode="json"), [axis.values for axis in self.axis]], *folders)
        return {name: " ".join(hash_of(folder / name) for folder in sorted(folders)) for name in sorted(named)}

    def files_in(self, values: Any) -> dict[str, str]:
        """Return the hashes of those of the files that some values name."""
        return {name: self.file_hashes[name] for name in sorted(_texts(values)) if name in self.file_hashes}


@dataclass(frozen=True)
class Chunk:
    """Runs that are computed as one task and kept as one file: one allocator, some points, some seeds.

    Attributes:
        allocator: Name of the allocator or reference line, or `OPTIMUM`.
        points: Of which points, from 0.
        seeds: Under which seeds; every point has all of them.
    """

    allocator: str
    points: range
    seeds: tuple[int, ...]

    def slots_key(self, key: str) -> str:
        """Return the name of the chunk's slots, whose rows tell the numbers of their points, too."""
        return f"{key}-{self.points.start + 1}"

    def key(self, sweep: Sweep) -> str:
        """Return the content address: equal exactly where the results are."""
        values = [sweep.points.values(point) for point in self.points]
        if self.allocator == OPTIMUM:
            assert sweep.ratio is not None, "only such sweeps enclose optima"
            version = f"{OPTIMUM} {sweep.ratio.gap!r} {solver_version()}"
        else:
            version = allocator_version(self.allocator)
        given = [sweep.fingerprint, version, self.seeds, values, sweep.files_in(values)]
        return hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Checked:
    """What is said of some points.

    Attributes:
        wrong: Which are not valid, each as (the point, what is wrong with it).
        warned: What the others are warned of, by kind: (the first point, the warning there, number of points).
    """

    wrong: list[tuple[str, str]]
    warned: dict[str, tuple[str, str, int]]


def check_points(sweep: Sweep, points: range) -> Checked:
    """Check the scenarios of points."""
    checked = Checked([], {})
    references = [line for line in sweep.lines if line in REFERENCES]
    for point in points:
        place = sweep.place(point)
        try:
            scenario = sweep.scenario_of(point)
            check_references(scenario, references)
            warned = by_kind(found(scenario, sweep.first_seeds[0], slot_model=sweep.engine == "slot-model"))
        except OrricError as error:
            checked.wrong.append((place, str(error).removeprefix(place).removeprefix(": ")))
            continue
        for kind, texts in warned.items():
            first, text, count = checked.warned.get(kind, (place, texts[0], 0))
            checked.warned[kind] = (first, text, count + 1)
    return checked


def code_version() -> str:
    """Return the hash of the code that results depend on: everything but commands, reports and measurements."""
    root = Path(__file__).resolve().parents[1]
    aside = {"cli", "report", "calibration", "competitive"}
    of_sweeps = {"batch.py", "measures.py", "overrides.py", "runs.py", "slot_rows.py", "store.py"}
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if place.parts[0] not in aside and (place.parts[0] != "sweep" or place.name in of_sweeps):
            found.update(place.as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@cache
def solver_version() -> str:
    """Return the hash of the code that encloses optima."""
    root = Path(__file__).resolve().parents[1]
    found = hashlib.sha256()
    for path in [*sorted((root / "competitive").glob("*.py")), root / "sweep" / "optima.py"]:
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@cache
def allocator_version(name: str) -> str:
    """Return an allocator's name, and of another package's allocator that package's version and a hash of its code.

    Whoever writes an allocator runs it again and again under one version.
    """
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group="orric.allocators")}
    told = [name]
    for part in name.split("+"):
        if (point := installed.get(part)) is not None:
            told += [point.dist.version if point.dist is not None else "", _code_of(point.module)]
    return " ".join(told)


def _code_of(module: str) -> str:
    """Return a hash of all Python files of the package that a module is of; of the module's own where it has none."""
    from importlib.util import find_spec

    with suppress(ImportError, ValueError):
        spec = find_spec(module.partition(".")[0])
        if spec is not None:
            folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
            files = [path for folder in folders for path in folder.rglob("*.py")]
            files += [Path(spec.origin)] if spec.origin and not folders else []
            return hashlib.sha256("".join(hash_of(path) for path in sorted(files)).encode()).hexdigest()
    return "missing"


def hash_of(path: Path) -> str:
    """Return the hash of a file, and of a profile that of its models' weights as well."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError):
        return "missing"
    found = hashlib.sha256(content)
    if path.suffix == ".toml":
        with suppress(ValueError):  # what is no TOML is refused where it is read
            models = tomllib.loads(content.decode()).get("models", {})
            weights = sorted(str(name) for role, name in models.items() if role in ("student", "teacher"))
            # An ONNX model may keep its weights in a file beside it.
            every = [path.parent / one for name in weights for one in (name, f"{name}.data")]
            found.update("".join(map(hash_of, every)).encode())
    return found.hexdigest()


def files_named(value: Any, *folders: Path) -> set[str]:
    """Return the names of files in a nested table: what ends as most of them do, and what is a file in a folder."""
    usual = (".toml", ".csv", ".parquet", ".safetensors", ".onnx")
    return {
        text for text in _texts(value) if text.endswith(usual) or any(_is_file(folder / text) for folder in folders)
    }


def _texts(value: Any) -> set[str]:
    """Return the texts in a nested table."""
    if isinstance(value, dict):
        return {text for one in value.values() for text in _texts(one)}
    if isinstance(value, (list, tuple)):
        return {text for one in value for text in _texts(one)}
    return {value} if isinstance(value, str) else set()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that can be no name
        return False


def _has_deadline(value: Any) -> bool:
    """Say whether a deadline is set anywhere in a nested table."""
    if isinstance(value, dict):
        return value.get("deadline_s") is not None or any(map(_has_deadline, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_deadline, value))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else in_toml(value)
