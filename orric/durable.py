"""Files that are there whole or not at all, whatever happens in between, and folders that one process writes to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


def write_whole(
    path: Path, content: bytes, *, lasting: bool = False, passing: Callable[[str], Any] = lambda name: None
) -> None:
    """Write a file that appears whole or not at all; the folder must exist.

    Args:
        path: The file; one that is there is replaced.
        content: What it holds.
        lasting: Whether its name, too, must have reached the disk when this returns.
        passing: Told the name of every step.

    Raises:
        OSError: It cannot be written; nothing is left of it, and what was there stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            passing("opened")
            file.write(content)
            file.flush()
            passing("written")
            os.fsync(file.fileno())
        passing("synced")
        partial.replace(path)
        passing("renamed")
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if lasting:
        sync_folder(path.parent)
        passing("lasting")


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(path: Path) -> IO[str] | None:
    """Lock a file, made if need be, until what is returned is closed or the process ends, however it does.

    Returns:
        The open file; None where another process holds it.

    Raises:
        OSError: The file cannot be made.
    """
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
