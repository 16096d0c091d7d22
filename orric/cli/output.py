"""Standard output and standard error that may be closed, full or not there, which ends a command in one line."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any


class OutputError(Exception):
    """Standard output takes no more, with what the operating system says."""


class _Output(io.TextIOWrapper):
    """Standard output; libraries end a program silently, or in a traceback, where they meet its own errors."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error.strerror) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error.strerror) from None


class _Errors(io.TextIOWrapper):
    """Standard error: where it takes nothing there is nobody left to tell, and the work goes on."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def guard_output() -> None:
    """Let what is wrong with standard output be an `OutputError`, and pass over what is with standard error."""
    for number, name, kind in ((1, "stdout", _Output), (2, "stderr", _Errors)):
        stream: Any = getattr(sys, name)
        if stream is None:
            # Closed by whoever started this. A file that is opened later must not get its number; writing to it fails.
            while (descriptor := os.open(os.devnull, os.O_RDONLY)) < number:
                pass
            if descriptor > number:
                os.close(descriptor)
            setattr(sys, name, kind(io.BufferedWriter(io.FileIO(number, "w")), encoding="utf-8", errors="replace"))
        # Another stands there already where this is a part of another program, as in tests.
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            how: dict[str, Any] = {
                "encoding": stream.encoding, "errors": stream.errors,
                "line_buffering": stream.line_buffering, "write_through": stream.write_through,
            }  # fmt: skip
            setattr(sys, name, kind(stream.detach(), **how))


def give_up_output() -> None:
    """Let nothing more be written to standard output, so that the interpreter has nothing to complain of at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
