"""Which samples deserve a label and a training step."""

from __future__ import annotations

from orric.exceptions import SelectionError, nearest
from orric.selection.base import Selector
from orric.selection.coresets import Craig, GradMatch, KCenter
from orric.selection.drawing import ClassBalanced, Uniform
from orric.selection.uncertainty import Entropy, Loss, Margin
from orric.selection.valued import ChgShapley, GradientShapley, HardnessShapley

SELECTORS: dict[str, Selector] = {
    one.name: one
    for one in (
        Uniform(), ChgShapley(), GradientShapley(), HardnessShapley(), Loss(), Entropy(), Margin(), ClassBalanced(),
        GradMatch(), Craig(), KCenter(),
    )
}  # fmt: skip


def selector(name: str) -> Selector:
    """Return a selector by its name.

    Raises:
        SelectionError: The name is unknown.
    """
    if name not in SELECTORS:
        raise SelectionError("selector", f"{name!r} is unknown", nearest(name, SELECTORS))
    return SELECTORS[name]
