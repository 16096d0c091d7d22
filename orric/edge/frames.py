"""Messages between the daemon and its retraining process: a line of JSON and bytes. Nothing is unpickled."""

from __future__ import annotations

import json
from typing import IO, Any

import numpy as np

Header = dict[str, Any]
# What the process answers where it has no memory left.
NO_MEMORY = "out of memory"


def send(file: IO[bytes], header: Header, *parts: bytes | np.ndarray[Any, Any]) -> None:
    """Send a message.

    Args:
        file: The pipe.
        header: Plain values.
        parts: Bytes, or arrays, which arrive as arrays.
    """
    arrays = [None if isinstance(part, bytes) else (part.dtype.str, part.shape) for part in parts]
    contents = [part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes() for part in parts]
    line = json.dumps({"header": header, "lengths": [len(one) for one in contents], "arrays": arrays})
    file.write(line.encode() + b"\n")
    for one in contents:
        file.write(one)
    file.flush()


def receive(file: IO[bytes]) -> tuple[Header, list[Any]]:
    """Receive a message: its header and its parts.

    Raises:
        EOFError: The other side has gone.
    """
    line = file.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    table = json.loads(line)
    parts: list[Any] = []
    for length, array in zip(table["lengths"], table["arrays"], strict=True):
        content = file.read(length)
        if len(content) < length:
            raise EOFError
        parts.append(content if array is None else np.frombuffer(content, np.dtype(array[0])).reshape(array[1]))
    return table["header"], parts
