"""What of a network's outputs an explanation is of: a number for each image and class."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from orric.exceptions import ExplanationError, nearest

Utility = Callable[[Tensor, Tensor], Tensor]


def pre_softmax(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the score o_c of a class before the softmax.

    Args:
        logits: Shape (n, classes).
        classes: One for each image, shape (n,).

    Returns:
        Shape (n,).
    """
    return logits.gather(1, classes[:, None])[:, 0]


def post_softmax(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the probability p_c of a class, shape (n,); see `pre_softmax`."""
    return pre_softmax(logits.softmax(dim=1), classes)


def residual_softmax(logits: Tensor, classes: Tensor) -> Tensor:
    """Return ReST, o_c + log p_c (Cai, arXiv 2501.06261), shape (n,); see `pre_softmax`.

    Its gradient does not vanish where the class is sure, as that of the probability does, and it tells a class from
    the others, as the score alone does not.
    """
    return pre_softmax(logits + logits.log_softmax(dim=1), classes)


# By the name that callers use. To add one is a line here.
UTILITIES: dict[str, Utility] = {
    "pre-softmax": pre_softmax,
    "post-softmax": post_softmax,
    "rest": residual_softmax,
}


def utility_of(name: str) -> Utility:
    """Return a utility by its name in `UTILITIES`.

    Raises:
        ExplanationError: The name is unknown.
    """
    if name not in UTILITIES:
        raise ExplanationError("utility", f"{name!r} is unknown", nearest(name, UTILITIES))
    return UTILITIES[name]
