"""Which samples deserve a label and a training step."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

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


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="orric.selectors")}


def selector(name: str) -> Selector:
    """Return a selector by its name: one of `SELECTORS`, or one that another package registers.

    Packages register a subclass of `Selector` in the entry-point group `orric.selectors`.

    Raises:
        SelectionError: The name is unknown, or what is registered under it is no selector.
    """
    if name in SELECTORS:
        return SELECTORS[name]
    if name not in _installed():
        raise SelectionError("selector", f"{name!r} is unknown", nearest(name, [*SELECTORS, *_installed()]))
    try:
        made: object = _installed()[name].load()()
    except Exception as error:  # whatever another package's import raises
        found = f"{name!r} cannot be loaded ({type(error).__name__}: {error})"
        raise SelectionError("selector", found, "mend or remove the package that registers it") from error
    if not isinstance(made, Selector):
        found = f"{name!r} is of the type {type(made).__name__}"
        raise SelectionError("selector", found, "inherit from orric.selection.base.Selector")
    return made
