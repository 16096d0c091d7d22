"""The arrays in which pictures and their labels travel."""

from __future__ import annotations

from typing import Any

import numpy as np

# Shape (n, height, width, 3), 0 to 255.
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# The same from 0 to 1, or single layers of shape (n, height, width).
Images = np.ndarray[Any, np.dtype[np.float32]]
# Shape (n,), indices into a data set's classes.
Labels = np.ndarray[Any, np.dtype[np.int64]]
