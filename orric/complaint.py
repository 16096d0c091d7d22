"""What pydantic complains of, in the words of the TOML file that was read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, time
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from orric.exceptions import OrricError, nearest

Location = tuple[int | str, ...]
# Values longer than that are named by what they are.
LONGEST = 60
# Keys by their endings, the first that fits.
UNITS = (
    ("macs_per_s", "MACs per second"),
    ("bytes_per_s", "bytes per second"),
    ("per_s", "requests per second"),
    ("_bytes", "bytes"),
    ("_macs", "MACs"),
    ("_px", "pixels"),
    ("_w", "watts"),
    ("_s", "seconds"),
)
TABLE_WANTED = ("model_type", "model_attributes_type", "dict_type")
NUMBER_OF = re.compile(r"\s*([-+]?\d[\d_]*(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(.*)", re.DOTALL)


def explain(error: ValidationError, section: type[BaseModel]) -> tuple[Location, str, str]:
    """Put pydantic's first complaint about a section as (location, found, remedy).

    The location names keys and places of the file alone, not the alternative of a union that was taken.
    """
    # A misspelled key is also a missing one; the misspelling is what helps.
    reports = error.errors()
    report = next((one for one in reports if one["type"] == "extra_forbidden"), reports[0])
    kind, given, context = report["type"], report["input"], report.get("ctx", {})
    location, candidates, items = _walked(section, report["loc"])
    cause = context.get("error")
    if kind == "extra_forbidden":
        known = {name for candidate in _walked(section, report["loc"][:-1])[1] for name in candidate.model_fields}
        return location, f"unknown key {location[-1]!r}", nearest(str(location[-1]), sorted(known))
    if kind == "missing":
        lacking = f"key {location[-1]!r}" if isinstance(location[-1], str) else f"value {location[-1] + 1}"
        return location[:-1], f"{lacking} is missing", "add it"
    if isinstance(cause, ValidationError):
        inner, found, remedy = explain(cause, _named(cause.title, candidates) or section)
        return (*location, *inner), found, remedy
    if isinstance(cause, OrricError):
        where, found, remedy = cause.args
        return location, f"{where}: {found}", remedy
    if cause is not None:
        found, _, remedy = str(cause).partition("; ")
        return location, found, remedy
    if kind == "union_tag_invalid":
        return location, *_of_no_kind(given, context, candidates)
    if kind in ("tuple_type", "list_type"):
        return location, *_no_list(given, location, items)
    if kind in TABLE_WANTED:
        return location, *_no_table(given, location, candidates)
    return location, *_wrong_value(kind, given, context, str(location[-1]) if location else "", report["msg"])


def in_toml(value: Any) -> str:
    """Show a value as a TOML file would hold it, or name what it is where that would be long."""
    shown = _written(value)
    if len(shown) < LONGEST and "\n" not in shown:
        return shown
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"a text of {len(value)} characters" if isinstance(value, str) else type(value).__name__


def _written(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_written(one)}" for name, one in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_written, value)) + "]"
    return repr(value)


def _of_no_kind(given: Any, context: dict[str, Any], candidates: set[Any]) -> tuple[str, str]:
    """Say what is wrong with what should have been one of several kinds of table."""
    tags = [word.strip("'") for word in context["expected_tags"].split(", ")]
    # Some kinds are told by a key that they alone have, the others by one and the same word.
    own = [tag for tag in tags if any(tag in candidate.model_fields for candidate in candidates)]
    words = [tag for tag in tags if tag not in own]
    word = next(
        name
        for candidate in candidates
        for name, field in candidate.model_fields.items()
        if set(get_args(field.annotation)) & set(words)
    )
    if word in given if isinstance(given, dict) else context["tag"] == given:
        return f"{word} {in_toml(context['tag'])} is unknown", nearest(str(context["tag"]), tags)
    every = f"{word} = " + _either([f'"{one}"' for one in words])
    every += f", or with the key {_either(own)}" * bool(own)
    if not isinstance(given, dict):
        return f"found {in_toml(given)}", f"give a table with {every}"
    fitting = [one for one in candidates if given.keys() and given.keys() <= one.model_fields.keys()]
    fields = [field for one in fitting for name, field in one.model_fields.items() if name == word]
    meant = sorted({str(one) for field in fields for one in get_args(field.annotation)})
    return f"key {word!r} is missing", f"add {word} = " + _either([f'"{one}"' for one in meant]) if meant else (
        f"give {every}"
    )


def _no_list(given: Any, location: Location, items: set[Any]) -> tuple[str, str]:
    """Say what is wrong with what should have been a list, be it of tables."""
    header = _header(location)
    if isinstance(given, dict) and items:
        if given and all(isinstance(one, dict) for one in given.values()):
            found, named = f"found tables called {', '.join(map(repr, given))}", next(iter(given))
            return found, f'write [[{header}]] above each, with name = "{named}" in it'
        return "found one table", f"write its header as [[{header}]]: there may be several"
    if items:
        return f"found {in_toml(given)}", f"give tables, each below a line [[{header}]]"
    plain = not isinstance(given, (dict, list, tuple)) and given is not None
    return f"found {in_toml(given)}", f"give a list: [{_written(given)}]" if plain else "give a list"


def _no_table(given: Any, location: Location, candidates: set[Any]) -> tuple[str, str]:
    """Say what is wrong with what should have been one table."""
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, dict) for one in given):
        return "found a list of tables", f"there is one: write its header as [{_header(location)}]"
    plain = [one for one in candidates if not any(one in other.__subclasses__() for other in candidates)]
    fields = plain[0].model_fields if len(plain) == 1 else {}
    needed = [name for name, field in fields.items() if field.is_required()] or list(fields)[:2]
    form = ", ".join(f"{name} = ..." for name in needed)
    key = str(location[-1]) if location else ""
    return f"found {in_toml(given)}", f"give a table: {key} = {{ {form} }}" if form else "give a table"


def _wrong_value(kind: str, given: Any, context: dict[str, Any], key: str, message: str) -> tuple[str, str]:
    """Say what is wrong with a plain value."""
    found = f"found {in_toml(given)}"
    if kind in ("float_type", "int_type", "int_from_float"):
        return found, _number(key, given, whole=kind != "float_type")
    if kind == "finite_number":
        return found, "give a finite number"
    if kind == "string_type":
        return found, "give one text, no list" if isinstance(given, (list, tuple)) else "give a text, in quotes"
    if kind == "string_too_short":
        return found, "give a text that is not empty"
    if kind == "bool_type":
        return found, "give true or false, without quotes"
    if kind == "too_short":
        return found, f"give {context['min_length']} at least"
    if kind == "too_long":
        return found, f"give {context['max_length']} at most"
    if kind == "literal_error":
        choices = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        if isinstance(given, str):
            return f"{given!r} is unknown", nearest(given, choices)
        return found, f"give {_either([repr(one) for one in choices])}"
    remedy = message[0].lower() + message[1:]
    if remedy.startswith("input should be "):
        remedy = "give a number " + remedy.removeprefix("input should be ")
    if kind == "less_than_equal" and context["le"] == 1 and 1 < given <= 100:
        remedy += f", such as {given / 100:g} for {given:g} %"
    return found, remedy


def _number(key: str, given: Any, *, whole: bool) -> str:
    """Say which number to give in the place of what is none."""
    unit = next((f" of {words}" for ending, words in UNITS if key.endswith(ending)), "")
    what = "a whole number" if whole else "a number"
    if isinstance(given, (list, tuple)):
        return f"give one number{unit}, no list"
    if isinstance(given, str):
        read = NUMBER_OF.fullmatch(given)
        if read and read[2] == "%":
            return f"give a part, without quotes: {float(read[1].replace('_', '')) / 100:g}"
        bare = f" quotes: {read[1]}" if read and not read[2] else " quotes and unit"
        return f"give {what}{unit}, without{bare}"
    if whole and isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        return f"give a whole number, without a point: {int(given)}"
    return f"give {what}{unit}"


def _either(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + "".join(words[-1:])


def _header(location: Location) -> str:
    """Name a table as its header does: items of lists have no number there."""
    return ".".join(str(part) for part in location if isinstance(part, str))


def _walked(section: Any, location: Sequence[int | str]) -> tuple[Location, set[Any], set[Any]]:
    """Follow a location of pydantic's.

    Returns:
        The location without the tags of unions; the sections that the table there may be, those of the last table on
        the way where it is a plain value; and those that are items of the list there.
    """
    candidates: set[Any] = {section}
    items: set[Any] = set()
    kept: list[int | str] = []
    choosing = False
    for part in location:
        if choosing and isinstance(part, str):
            choosing = False
            tagged = {candidate for candidate in candidates if _has_tag(candidate, part)}
            if tagged:
                candidates = tagged
                continue
        kept.append(part)
        if isinstance(part, int):
            items = set()
            continue
        fields = [one.model_fields[part] for one in candidates if part in one.model_fields]
        annotations = [field.annotation for field in fields]
        reached = {one for annotation in annotations for one in _sections_in(annotation)}
        listed = any(get_origin(one) is tuple for annotation in annotations for one in _parts(annotation))
        items = reached if listed else set()
        candidates = reached or candidates
        choosing = any(_alternatives(annotation) > 1 for annotation in annotations)
    return tuple(kept), candidates, items


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield an annotation, or what a union of them may be."""
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _parts(one)
    else:
        yield annotation


def _alternatives(annotation: Any) -> int:
    """Count the sections that a union chooses among."""
    found = {one for part in _parts(annotation) for one in _plain_sections(part)}
    return len(found) if get_origin(annotation) in (Union, UnionType) else 0


def _plain_sections(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _plain_sections(argument)


def _has_tag(section: Any, part: int | str) -> bool:
    """Say whether an alternative is the one that a union's tag names: by a key, or by the value of one."""
    fields = section.model_fields
    return part in fields or any(part in get_args(field.annotation) for field in fields.values())


def _sections_in(annotation: Any) -> set[Any]:
    """Return the sections that an annotation names, and their kinds."""
    return {kind for one in _plain_sections(annotation) for kind in (one, *one.__subclasses__())}


def _named(title: str, candidates: set[Any]) -> type[BaseModel] | None:
    return next((one for one in candidates if one.__name__ == title), None)
