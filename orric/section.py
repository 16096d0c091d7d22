"""Tables of orric's TOML files: validated at construction, with errors a person can act on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from orric.complaint import explain, in_toml
from orric.exceptions import OrricError, ScenarioError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    # The metaclass has no public name of its own.
    ModelMetaclass = type(BaseModel)

Amount = Annotated[float, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(strict=True, gt=0)]
Real = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
# Neither "yes" nor 1, which pydantic would take for true.
Flag = Annotated[bool, Field(strict=True)]


def _nameable(name: str) -> str:
    if "\0" in name:
        raise ValueError(f"found {name!r}, which no file and no name can be; leave out its NUL character")
    return name


Name = Annotated[str, Field(strict=True, min_length=1), AfterValidator(_nameable)]


def _of_a_folder(name: str) -> str:
    if name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"found {name!r}, which cannot name a result folder; leave out slashes and a leading dot")
    return name


FolderName = Annotated[Name, AfterValidator(_of_a_folder)]


class _Reporting(ModelMetaclass):
    """Turn pydantic's report into the section's own error, for whoever constructs one by hand.

    Nested sections are built by pydantic itself without this call, so only the outermost error is turned.
    """

    def __call__(cls: Any, *args: Any, **values: Any) -> Any:  # noqa: N805 (a metaclass's instances are classes)
        try:
            return type.__call__(cls, *args, **values)
        except ValidationError as error:
            location, found, remedy = explain(error, cls)
            raise cls.error(".".join([cls.__name__, *map(_index, location)]), found, remedy) from None


# What tells files apart that are taken for one another: keys, what has them, and what to do with it.
KINDS = (
    ({"scenario"}, "a sweep", "give it to orric sweep"),
    ({"gpu", "stream"}, "a scenario", "give it to orric run, or name it in a sweep"),
    ({"best_accuracy", "slope_floor"}, "a profile", "name it in a scenario, or give it as --profile"),
)


class Section(BaseModel, metaclass=_Reporting):
    """A frozen, validated table. Unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    error: ClassVar[type[OrricError]] = ScenarioError

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the section from a TOML file.

        Args:
            path: File to read.

        Returns:
            The validated section.

        Raises:
            OrricError: The subclass's own error, with file, line, what was found and what is allowed.
        """
        text = read_text(path, cls.error)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise cls.error(str(path), f"is not valid TOML: {error}", "mend the line named") from None
        except (ValueError, RecursionError):  # a whole number of thousands of digits, or brackets without end
            raise cls.error(str(path), "holds a number or a nesting beyond all use", "shorten it") from None
        return cls.parse(table, path, text)

    @classmethod
    def parse(cls, table: dict[str, Any], path: str | Path, text: str) -> Self:
        """Validate a table that was read from `text` in the file `path`."""
        version = table.pop("format", None)
        if version is None:
            raise cls.error(str(path), "key 'format' is missing", "add format = 1 at the top")
        if type(version) is not int or version != 1:
            found = f"found {in_toml(version)}"
            raise cls.error(f"{path}: key 'format'", found, "this version of orric reads: format = 1")
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            for signs, what, remedy in KINDS:
                if signs <= table.keys() and not signs <= cls.model_fields.keys():
                    raise cls.error(str(path), f"is {what}", remedy) from None
            location, found, remedy = explain(error, cls)
            key = ".".join(map(_index, location))
            where = f"{path}:{line_of(text, location)}: {key}" if key else str(path)
            raise cls.error(where, found, remedy) from None


@contextmanager
def readable(path: str | Path, error: type[OrricError]) -> Iterator[None]:
    """Let reading a file inside the block fail with `error` in one line."""
    try:
        yield
    except FileNotFoundError:
        raise error(str(path), "no such file", "check the path") from None
    except NotADirectoryError:
        raise error(str(path), "leads through a file", "check the path") from None
    except IsADirectoryError:
        raise error(str(path), "is a folder", "give a file") from None
    except PermissionError:
        raise error(str(path), "may not be read", "check its permissions") from None
    except UnicodeDecodeError:
        raise error(str(path), "is not UTF-8 text", "give a text file") from None
    except OSError as problem:
        raise error(str(path), f"cannot be read ({problem.strerror})", "check the path") from None


def read_text(path: str | Path, error: type[OrricError]) -> str:
    """Read a text file; a missing or unreadable one raises `error` in one line."""
    with readable(path, error):
        return Path(path).read_text(encoding="utf-8-sig")


def write_text(path: str | Path, text: str | Iterable[str], error: type[OrricError]) -> None:
    """Write a text file that appears whole or not at all; one that cannot be written raises `error` in one line.

    Args:
        path: The file.
        text: What it holds, or its parts, which are not held together.
        error: What to raise.
    """
    # Renaming would put a file in the place of a link.
    target = Path(path).resolve()
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.writelines([text] if isinstance(text, str) else text)
        partial.replace(target)
    except OSError as problem:
        raise error(str(path), f"cannot be written ({problem.strerror})", "choose another file") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def line_of(text: str, location: tuple[int | str, ...]) -> int:
    """Find the line of a TOML text on which a key, or else the table around it, stands. Lines count from 1."""
    lines = text.splitlines()
    line, path = 0, [str(part) for part in location]
    header: list[str] = []
    while path:
        name = path.pop(0)
        index = int(path.pop(0)) if path and path[0].isdigit() else 0
        starts = [
            number
            for number, content in enumerate(lines)
            if content.split("#")[0].strip().strip("[]").strip() == ".".join([*header, name])
            and content.lstrip().startswith("[")
            # Tables within the second of several stand below its header.
            and (number > line or not header)
        ]
        if index < len(starts):
            header.append(name)
            line = starts[index]
            continue
        below = tuple(f"{brackets}{'.'.join([*header, name])}." for brackets in ("[", "[["))
        inside = [number for number, content in enumerate(lines) if content.lstrip().startswith(below)]
        if inside and not path:
            return inside[0] + 1
        for number in range(line, len(lines)):
            if number > line and lines[number].lstrip().startswith("["):
                break
            if lines[number].split("=")[0].strip().strip('"') == name:
                return number + 1
    return line + 1


def with_line(error: OrricError, path: str | Path) -> OrricError:
    """Return what a file is refused for with the line of the key that it names, where it names one."""
    where = str(error.args[0])
    key = where.removeprefix(f"{path}: ")
    if key == where or len(error.args) != 3 or not re.fullmatch(r"[a-z_]+(\.[a-z_]+|\.\d+)*", key):
        return error
    location = tuple(int(part) - 1 if part.isdigit() else part for part in key.split("."))
    return type(error)(f"{path}:{line_of(read_text(path, type(error)), location)}: {key}", *error.args[1:])


def _index(part: int | str) -> str:
    return str(part + 1) if isinstance(part, int) else str(part)
