"""Files that are there whole or not at all, whatever happens in between, and folders that one process writes to."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
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
        # What was left there is written over; a link is not followed, and nothing is waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(partial, flags, 0o666), "wb") as file:
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


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read that somebody else may have put there.

    Raises:
        OSError: There is none, or it is a link, a folder or anything else that is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number))
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, most: int) -> bytes:
    """Read a file that somebody else may have put there.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: As `open_regular`, or it is larger.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"is larger than {most} bytes")
        return file.read(most)


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
    # Whatever lies there is not emptied, and a link is not followed.
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
