"""What the shell offers for arguments and options: files of the right kind, allocators, formats.

`orric --install-completion` makes the shell ask.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Offer(NamedTuple):
    """A value that is offered, as typer takes them."""

    value: str
    help: str | None = None
    type: str = "plain"


def complete_values(command: Any) -> None:
    """Have every parameter of a command and of those below it offer what it takes, where that is known."""
    for below in getattr(command, "commands", {}).values():
        complete_values(below)
    for parameter in command.params:
        if "--profile" in parameter.opts and command.name in BY_NAME:
            parameter.shell_complete = _asked(profiles)
            continue
        for key in (*parameter.opts, parameter.metavar or "", parameter.name):
            if key in OFFERED:
                parameter.shell_complete = _asked(OFFERED[key])
                break


def files(ending: str) -> Callable[[str], list[str]]:
    """Return what offers files of an ending, and folders; of a single folder what is in it."""

    def offered(typed: str) -> list[str]:
        # As it was typed: a path would lose a leading ./
        folder = typed[: typed.rfind(os.sep) + 1]
        name, found = typed[len(folder) :], []
        try:
            for path in sorted(Path(folder or ".").iterdir()):
                if not path.name.startswith(name) or (path.name.startswith(".") and not name):
                    continue
                if path.is_dir():
                    found.append(folder + path.name + os.sep)
                elif path.suffix.lower() == ending:
                    found.append(folder + path.name)
        except OSError:
            return []
        # Shells put a blank behind the only offer, which would end the path.
        return offered(found[0]) if len(found) == 1 and found[0].endswith(os.sep) else found

    return offered


def allocator_names(typed: str) -> list[str]:
    """Offer allocators, behind triggers that are typed already."""
    from orric.allocators import ALIASES, ALLOCATORS, TRIGGERS, _installed

    before, plus, _ = typed.rpartition("+")
    names = [*ALLOCATORS, *ALIASES, *_installed(), *(f"{trigger}+" for trigger in TRIGGERS)]
    return [before + plus + name for name in names]


def profiles(typed: str) -> list[str]:
    """Offer files of profiles, and the names of those that come with orric."""
    from orric.shipped import profile_names

    return [*profile_names(), *files(".toml")(typed)]


def formats(typed: str) -> Iterable[str]:
    """Offer the formats of traces that can be imported."""
    from orric.importers import IMPORTERS

    return IMPORTERS


# By option, by the word that stands for the argument in help texts, or by the argument's name.
OFFERED: dict[str, Callable[[str], Iterable[str]]] = {
    "--allocator": allocator_names,
    "--format": formats,
    "--profile": files(".toml"),
    "--scenario": files(".toml"),
    "--trace": files(".csv"),
    "CONFIG": files(".toml"),
    "SWEEP": files(".toml"),
    "scenario": files(".toml"),
}
# Commands whose option --profile takes names as well.
BY_NAME = ("new", "import-cameras")


def _asked(offered: Callable[[str], Iterable[str]]) -> Callable[[Any, str], list[Offer]]:
    return lambda context, typed: [Offer(value) for value in offered(typed) if value.startswith(typed)]
