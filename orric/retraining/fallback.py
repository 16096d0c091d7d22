"""Whether the student as it was given serves, or the one that was retrained: whichever is surer of what comes.

A student that was retrained under one drift may be far worse under the next, until it is retrained again, and nobody
has labels to tell by. Of a network's answers the mean confidence falls as its accuracy does (Guillory et al.,
"Predicting with confidence on unseen distributions", ICCV 2021), and so it is compared: on a few images of the slot,
at the resolution that serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
# Images of a slot that both students look at, at most.
LOOKED_AT = 16


def confidence(logits: Array) -> float:
    """Return the mean probability that a network gives to the class that it chooses.

    Args:
        logits: Shape (n, classes), n at least 1.

    >>> confidence(np.zeros((3, 4), np.float32))
    0.25
    """
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float((1.0 / shares.sum(axis=1)).mean())


def falls_back(given: Array, retrained: Array) -> bool:
    """Say whether the given student is to serve.

    Args:
        given: Its logits of some images, shape (n, classes), n at least 1.
        retrained: Those of the retrained student, of the same images.

    >>> falls_back(np.float32([[2, 0]]), np.float32([[1, 0]])), falls_back(np.float32([[1, 0]]), np.float32([[2, 0]]))
    (True, False)
    """
    return confidence(given) > confidence(retrained)
