"""What allocators there are, each in a sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from orric.allocators import ALIASES, ALLOCATORS, REFERENCES, TRIGGERS, _installed
from orric.allocators.base import Allocator, SingleStreamAllocator

# What reference lines draw, and triggers that no class says in a sentence of its own.
_REFERENCES = {
    "teacher-only": ("The teacher serves, whatever the budget.", "a profile with a [teacher], or real models"),
    "batch-norm-only": ("As orric allocates, but batch-norm statistics are refreshed alone.", "real models"),
}
_ATTENTION = "Retrain for some slots once student and teacher look at less similar places (by ADWIN)."
SPLIT = "one stream; several get parts of the budget by demand"


@dataclass(frozen=True)
class Listed:
    """A name that a scenario may hold.

    Attributes:
        name: In `allocators`; of a trigger what is put before another name, as in "adwin+orric"; of a reference line in
            `references`.
        kind: "allocator", "trigger" or "reference".
        sentence: What it does.
        streams: What it decides for.
        needs: What it cannot do without.
        aliases: Other names of it.
        package: Where it comes from.
    """

    name: str
    kind: str
    sentence: str
    streams: str = ""
    needs: str = ""
    aliases: tuple[str, ...] = ()
    package: str = "orric"


def listed() -> list[Listed]:
    """Return all allocators, those of other packages after orric's own, then triggers and reference lines.

    A package that cannot be loaded is listed with what it raised.
    """
    found = [_allocator(name, registered, "orric") for name, registered in ALLOCATORS.items()]
    for name, point in sorted(_installed().items()):
        package = point.dist.name if point.dist else point.module
        try:
            registered = point.load()
        except Exception as error:
            sentence = f"Cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
            found.append(Listed(name, "allocator", sentence, package=package))
            continue
        found.append(_allocator(name, registered, package))
    found += [_trigger(name, made) for name, made in TRIGGERS.items()]
    for name in REFERENCES:
        sentence, needs = _REFERENCES[name]
        found.append(Listed(name, "reference", sentence, needs=needs))
    return found


def sentence_of(described: Any) -> str:
    """Return the first sentence of a docstring, without what it refers readers of code to."""
    text = " ".join((inspect.getdoc(described) or "").partition("\n\n")[0].split())
    text = re.sub(r"; see `\w+`(?=\.)", "", text).replace("`", "")
    return text if not text or text.endswith(".") else f"{text}."


def _allocator(name: str, registered: Any, package: str) -> Listed:
    aliases = tuple(alias for alias, owner in ALIASES.items() if owner == name)
    of_one = isinstance(registered, type) and issubclass(registered, SingleStreamAllocator)
    streams = SPLIT if of_one else "all streams together"
    # A factory has no docstring to speak of, and says nothing of needs.
    sentence = sentence_of(registered) if inspect.getdoc(registered) else "(its package says nothing of it)"
    return Listed(name, "allocator", sentence, streams, getattr(registered, "needs", ""), aliases, package)


def _trigger(name: str, made: Callable[[Allocator], Allocator]) -> Listed:
    keywords = made.keywords if isinstance(made, partial) else {}
    if "detector" in keywords:
        what = sentence_of(keywords["detector"]).removesuffix(".")
        return Listed(name, "trigger", f"Retrain for some slots after a drop of agreement. {what}.", "", "orric[sim]")
    if keywords:
        return Listed(name, "trigger", _ATTENTION, "", "real models, orric[sim]")
    return Listed(name, "trigger", sentence_of(made))
