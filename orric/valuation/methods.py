"""How samples are valued at one moment of training, and which end of the scale is suspicious.

All of them look at the gradients x_i of the losses with respect to the last layer, or at the losses h_i, by the labels
as they are given. A wrong label shows in different ways:

*Gradient Shapley* (`orric.selection.shapley`, Cai, arXiv 2406.11730). For many samples the closed form comes to

    phi_j = (H2 / n) (|a|^2 - |x_j - a|^2) + what all of the class share,

where a is the mean gradient of the class and H2 tends to 1.64: a sample loses worth with the squared distance of its
gradient from its class's mean. A sample with a wrong label pulls towards the class that it does not belong to with a
residual that stays large while those of its neighbours shrink, so its gradient lies far off: *low values are
suspicious*.

*CHG Shapley* weights every gradient by the loss before: the distances of hard samples grow with the square of their
losses, but they also draw the mean towards themselves. *Low values are suspicious*, as above.

*Hardness Shapley* and *loss* are the losses: a network fits what its neighbours teach before it remembers exceptions
(Arpit et al., ICML 2017), so *high values are suspicious*. They differ in that the first is compared within each
class as the Shapley values are, the second over all classes.

The scale of values differs from class to class, and falls over the epochs by orders of magnitude. Their mean over
training would tell of the first epochs alone. So samples are compared by their *place*: 0 for the least worth of the
class, 1 for the most, averaged over the epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from orric.exceptions import SelectionError, nearest
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array
from orric.selection.shapley import shapley_values_by_class
from orric.selection.valued import hardened
from orric.vision.arrays import Labels


@dataclass(frozen=True)
class Method:
    """A way to value samples.

    Attributes:
        name: In commands and tables.
        values: Gives the value of every sample, shape (n,), in O(n) products.
        low_is_suspicious: Whether a wrong label shows by a low value; else by a high one.
        by_class: Whether values are compared within the classes.
    """

    name: str
    values: Callable[[Candidates], Array]
    low_is_suspicious: bool
    by_class: bool = True

    def places(self, values: Array, labels: Labels) -> Array:
        """Return every sample's place, 0 (least worth, most suspicious) to 1 (most worth); ties share theirs.

        Args:
            values: Shape (n,).
            labels: Shape (n,), by which classes are told apart where they are.
        """
        worth = values if self.low_is_suspicious else -values
        if not self.by_class:
            return _placed(worth)
        found: Array = np.empty(len(values))
        for label in np.unique(labels):
            members = labels == label
            found[members] = _placed(worth[members])
        return found


def _placed(worth: Array) -> Array:
    return np.asarray((rankdata(worth) - 0.5) / len(worth), np.float64)


METHODS = {
    one.name: one
    for one in (
        Method("gradient-shapley", lambda seen: shapley_values_by_class(seen.gradients, seen.labels), True),
        Method("chg-shapley", lambda seen: shapley_values_by_class(hardened(seen), seen.labels), True),
        Method("hardness-shapley", lambda seen: seen.losses, False),
        Method("loss", lambda seen: seen.losses, False, by_class=False),
    )
}


def known_methods(names: Sequence[str]) -> list[Method]:
    """Return methods by their names, each once.

    Raises:
        SelectionError: A name is unknown, or there is none.
    """
    for name in names:
        if name not in METHODS:
            raise SelectionError("method", f"{name!r} is unknown", nearest(name, METHODS))
    if not names:
        raise SelectionError("methods", "there is none", "known: " + ", ".join(METHODS))
    return [METHODS[name] for name in dict.fromkeys(names)]
