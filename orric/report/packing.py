"""Numbers packed for a page: a few thousand steps between the least and the greatest, then deflated."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orric.records import Array

# The code that stands for "unknown" is the one past the last step.
FINE, COARSE = 4094, 254


class Blob:
    """Packed numbers, one behind the other; each pack says where it lies."""

    def __init__(self) -> None:
        self._parts, self._size, self._deflated = list[bytes](), 0, b""

    def _take(self, part: bytes) -> None:
        self._parts.append(part)
        self._size, self._deflated = self._size + len(part), b""

    def floats(self, values: Array) -> dict[str, Any]:
        """Take numbers as they are, in single precision, little endian."""
        at = self._size
        self._take(np.ascontiguousarray(values, "<f4").tobytes())
        return {"at": at, "shape": list(values.shape)}

    def steps(self, channels: Mapping[str, Array], steps: int, logarithmic: Sequence[str] = ()) -> dict[str, Any]:
        """Take lines of equal length, each in steps from its least to its greatest number.

        A line's two ends come first; then the codes' lower bytes, then the upper ones, which deflate better apart.

        Args:
            channels: By name, shape (points, lines).
            steps: How many steps a line has.
            logarithmic: Channels whose steps are equal in ratio.
        """
        at = self._size
        ends, codes = [], []
        for name, values in channels.items():
            wanted = np.asarray(values, float).T
            with np.errstate(invalid="ignore", divide="ignore"):
                wanted = np.log(np.maximum(wanted, 1e-9)) if name in logarithmic else wanted
                wanted = np.where(np.isfinite(wanted), wanted, np.nan)
                low, high = (least.reduce(wanted, axis=1, initial=np.nan) for least in (np.fmin, np.fmax))
                low, high = np.nan_to_num(low).astype("<f4").astype(float), np.nan_to_num(high)
                # Whole numbers that are few enough stay what they are.
                whole = (high - low <= steps) & (np.nan_to_num(wanted % 1).max(axis=1, initial=0) == 0)
                high = np.where(whole, low + steps, high).astype("<f4").astype(float)
                scaled = np.rint((wanted - low[:, None]) / np.where(high > low, high - low, 1.0)[:, None] * steps)
            codes.append(np.where(np.isfinite(scaled), np.clip(scaled, 0, steps), steps + 1).astype(np.uint16))
            ends.append(np.stack([low, high], axis=1))
        self._take(np.ascontiguousarray(ends, "<f4").tobytes())
        packed = np.ascontiguousarray(codes)
        self._take((packed & 255).astype(np.uint8).tobytes())
        if steps > 254:
            self._take((packed >> 8).astype(np.uint8).tobytes())
        return {"at": at, "steps": steps, "channels": list(channels), "lines": packed.shape[1]}

    def deflated(self) -> bytes:
        """Return all of it in zlib's format."""
        if not self._deflated:
            self._deflated = zlib.compress(b"".join(self._parts), 9)
        return self._deflated

    def text(self) -> str:
        """Return it as a page holds it."""
        return base64.b64encode(self.deflated()).decode("ascii")
