"""The frame of every command: the application, shared options, what commands print on, and how they end."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from orric import __version__
from orric.cli.output import OutputError, give_up_output, guard_output
from orric.exceptions import MissingExtraError, OrricError, ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

# Some versions of typer hold a copy of click, others use click itself: this is its class of wrong options in both.
USAGE_ERROR: Any = typer.BadParameter.__base__
INTERRUPTED = 128 + signal.SIGINT
# How often a log is told, where there is no terminal for a bar.
TOLD_EVERY_S = 30.0
# Set by the shell when it asks how a command goes on.
COMPLETION = "_ORRIC_COMPLETE"
app = typer.Typer(
    name="orric",
    help="Simulate, evaluate and deploy the split of an edge server's compute between retraining and inference.",
    invoke_without_command=True,
    # Groups and commands take it over.
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Overload(StrEnum):
    """What becomes of a slot whose budget is below the cheapest pair."""

    error = "error"
    shed = "shed"


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, the rest on standard error.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Where the data set's files lie. [default: the environment variable ORRIC_DATA]"),
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Worker processes. [default: number of cores]")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of every random draw. [default: the scenario's]"),
]
FixedSeed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of every random draw.")]


class InterruptError(Exception):
    """Ctrl-C during work, with what the work leaves."""


@contextmanager
def interruptible(remains: str) -> Iterator[None]:
    """Let Ctrl-C inside the block end the command with one line that says what remains."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptError(f"interrupted; {remains}") from None


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 failed while running, 2 unusable input, 130 interrupted, 143 ended by SIGTERM.
    """
    guard_output()
    # Ended from outside, it still removes what is half-written.
    signal.signal(signal.SIGTERM, lambda number, frame: _end(128 + number, "ended by SIGTERM"))
    try:
        whole = typer.main.get_command(app)
        if COMPLETION in os.environ:
            from orric.cli.completion import complete_values

            complete_values(whole)
        status = whole(prog_name="orric", standalone_mode=False)
        # Versions of typer differ in what they make of Ctrl-C: this status, or Abort.
        if status == INTERRUPTED:
            raise typer.Abort
        # What is still held back may find no room; the interpreter would say so in words of its own.
        sys.stdout.flush()
        sys.exit(status)
    except typer.Abort:
        _end(INTERRUPTED, "interrupted")
    except InterruptError as error:
        _end(INTERRUPTED, str(error))
    except USAGE_ERROR as error:
        # click tells no context of an option without its value.
        command = error.ctx.command_path if error.ctx else _command_named(whole, sys.argv[1:])
        _end(2, f"{' '.join(error.format_message().split()).rstrip('.')}; see {command} --help")
    except OrricError as error:
        _end(2 if isinstance(error, (ValueError, MissingExtraError)) else 1, str(error))
    except OutputError as error:
        give_up_output()
        _end(1, f"standard output cannot be written ({error}); files that the command wrote are whole")


def _command_named(whole: Any, arguments: Sequence[str]) -> str:
    """Return the command that the arguments name, with the groups it is in."""
    path, command = ["orric"], whole
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _end(status: int, message: str) -> NoReturn:
    print(f"orric: {message}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OutputError:
        give_up_output()
    sys.exit(status)


def _version(asked: bool) -> None:
    if asked:
        print(f"orric {__version__}")
        raise typer.Exit


@app.callback()
def _orric(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def span_of(option: str, text: str, whole: bool = False) -> tuple[float, float]:
    """Read LOW:HIGH."""
    number = r"\d+" if whole else r"[0-9.]+(?:[eE][+-]?\d+)?"
    match = re.fullmatch(rf"({number}):({number})", text)
    try:
        if match:
            return float(match[1]), float(match[2])
    except ValueError:
        pass
    raise ScenarioError(option, f"found {text!r}", "give LOW:HIGH, e.g. 10:1000")


def demand_writable(path: Path, option: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse a file that cannot be written, or that is read, before there is any work to lose."""
    import tempfile

    try:
        for given in inputs:
            if path.exists() and given.exists() and path.samefile(given):
                found = f"is what is read from {given}"
                raise ScenarioError(f"{option} {path}", found, f"choose another with {option}")
        tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        found = f"its folder cannot be written ({error.strerror})"
        raise ScenarioError(f"{option} {path}", found, f"choose another with {option}") from None
    if path.is_dir():
        raise ScenarioError(f"{option} {path}", "is a folder", f"give a file with {option}")
    # A device such as /dev/null would be replaced by a file.
    if path.exists() and not path.is_file():
        raise ScenarioError(f"{option} {path}", "is no ordinary file", f"choose another with {option}")


def console_of_output() -> Console:
    """Return the console for results."""
    from rich.console import Console

    console = Console()
    # A table cut to 80 columns hides figures; files and pipes have no width of their own.
    return console if console.is_terminal else Console(width=180)


def print_table(
    console: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Print rows as a table, or below each other where the terminal is too narrow for a figure of theirs.

    Args:
        console: Where to.
        headings: Of the columns; the first names the row.
        rows: Texts, one for every heading.
        words: Headings of columns of words; the others hold figures, which are aligned to the right.
        title: Above the table.
    """
    from rich.markup import escape
    from rich.table import Table

    rows = [tuple(row) for row in rows]
    columns = [[heading, *cells] for heading, *cells in zip(headings, *rows, strict=True)]
    whole = [max(map(len, texts)) for texts in columns]
    least = [max(len(word) for text in texts for word in text.split()) for texts in columns]
    widths = widths_within(console.width, least, whole)
    if widths is not None:
        table = Table(title=title, title_justify="left", header_style="bold")
        for heading, width in zip(headings, widths, strict=True):
            table.add_column(escape(heading), justify="left" if heading in words else "right", width=width)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
        return
    if title:
        console.print(title, markup=False, highlight=False)
    for row in rows:
        for number, (heading, cell) in enumerate(zip(headings, row, strict=True)):
            console.print(f"{'  ' * bool(number)}{heading}: {cell}", markup=False, highlight=False)


def widths_within(room: int, least: Sequence[int], whole: Sequence[int]) -> list[int] | None:
    """Return widths of columns between their least and whole ones with which a table takes no more than the room.

    The widest are narrowed first; None says that not even the least widths fit. Rich would cut figures.
    """
    border = 3
    room -= border * len(least) + 1
    for widest in range(max(whole), 0, -1):
        widths = [max(width, min(full, widest)) for width, full in zip(least, whole, strict=True)]
        if sum(widths) <= room:
            return widths
    return None


def print_pairs(console: Console, pairs: Iterable[tuple[str, str]]) -> None:
    """Print how many slots have each pair of configurations (retraining, inference)."""
    from collections import Counter

    rows = [(retraining, inference, str(slots)) for (retraining, inference), slots in Counter(pairs).most_common()]
    print_table(console, ("retraining", "inference", "slots"), rows, words=("retraining", "inference"))


def progress_bars(console: Console | None = None) -> Any:
    """Return progress bars on standard error, which vanish when they are done.

    Args:
        console: Another place for them.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:32.32}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    console = console or Console(stderr=True)
    return Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=300.0
    )


class LogLines:
    """What takes long, told now and then on a console that is no terminal and has no bars.

    Args:
        console: Of the bars.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, time.monotonic()

    def tell(self, text: str) -> None:
        """Print how far it is, if that was not done a short while ago."""
        if not self._console.is_terminal and time.monotonic() - self._last >= TOLD_EVERY_S:
            self._last = time.monotonic()
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def tell(warnings: Sequence[str]) -> Sequence[str]:
    """Print warnings on standard error, and return them."""
    for one in warnings:
        print(f"orric: warning: {one}", file=sys.stderr)
    return warnings


def shown(progress: Any) -> Callable[[str, float], None]:
    """Return what shows on a progress bar what is being measured, and the part that is done."""
    bar = progress.add_task("measuring", total=1.0)
    return lambda what, part: progress.update(bar, completed=part, description=what)
