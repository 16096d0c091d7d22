"""Every error that orric raises on purpose.

::

    OrricError
    |- ProfileError (ValueError)        a profile or one of its parts
    |- TraceError (ValueError)          a trace
    |- ScenarioError (ValueError)       a scenario, or a name or option given to a command
    |  `- AllocatorError                an allocator that breaks the budget, answers with nonsense or raises
    |- BudgetError (ValueError)         a slot in which no pair of configurations fits
    |- SimulationError                  a simulation that stands still or contradicts itself
    |- CalibrationError                 a measurement that cannot be trusted
    |- CertificateError (ValueError)    a certificate that does not prove what it claims
    |- SelectionError (ValueError)      samples that cannot be valued or selected as asked
    |- ExplanationError (ValueError)    a network or images that cannot be explained as asked
    |- EdgeError (ValueError)           a daemon's configuration, store or budget probe
    |- MissingExtraError (ImportError)  an optional dependency that is not installed

A message is one line: where, what was found, and what is allowed or what to do. Everything that the message
tells is in `args`, so errors survive pickling and SimPy's re-creation as `type(error)(*error.args)`.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class OrricError(Exception):
    """Root of the error tree.

    Args:
        where: File and line, key or slot.
        found: What is wrong there.
        remedy: What is allowed, or what to do.
    """

    def __init__(self, where: str, found: str, remedy: str = "") -> None:
        super().__init__(where, found, remedy)

    def __str__(self) -> str:
        where, found, remedy = self.args
        return f"{where}: {found}" + (f"; {remedy}" if remedy else "")


class ProfileError(OrricError, ValueError):
    """A profile, or one of its configurations or curves, is unusable."""


class TraceError(OrricError, ValueError):
    """A trace is unusable."""


class ScenarioError(OrricError, ValueError):
    """A scenario, or a name or an option given to a command, is unusable."""


class AllocatorError(ScenarioError):
    """An allocator misbehaved: it broke the budget, named what does not exist, changed its input or raised.

    Args:
        allocator: Its name.
        slot: Index of the slot, from 1, or words for what is no single slot, such as "before slot 1".
        found: What it did.
        remedy: What is allowed, or what to do.
    """

    def __init__(self, allocator: str, slot: int | str, found: str, remedy: str = "") -> None:
        Exception.__init__(self, allocator, slot, found, remedy)

    def __str__(self) -> str:
        allocator, slot, found, remedy = self.args
        when = slot if isinstance(slot, str) else f"slot {slot}"
        return f"allocator {allocator!r}, {when}: {found}" + (f"; {remedy}" if remedy else "")

    def renamed(self, allocator: str) -> AllocatorError:
        """Return the same complaint about an allocator of another name."""
        return AllocatorError(allocator, *self.args[1:])


class BudgetError(OrricError, ValueError):
    """No pair of configurations fits the budget of a slot.

    Args:
        slot: Index of the slot, from 1.
        budget_macs: Its budget.
        cheapest_macs: What the cheapest pair costs for the slot's requests.
    """

    def __init__(self, slot: int, budget_macs: float, cheapest_macs: float) -> None:
        Exception.__init__(self, slot, budget_macs, cheapest_macs)

    def __str__(self) -> str:
        slot, budget, cheapest = self.args
        return (
            f"slot {slot}: the budget of {budget:g} MACs is below the {cheapest:g} MACs that the cheapest pair costs; "
            'raise the budget, add a cheaper inference configuration, or set overload = "shed"'
        )


class SimulationError(OrricError):
    """A simulation stands still before its end, or what it adds up contradicts itself."""


class CalibrationError(OrricError):
    """A measurement of a real model cannot be trusted."""


class CertificateError(OrricError, ValueError):
    """A certificate does not prove what it claims, or is none."""


class SelectionError(OrricError, ValueError):
    """Samples cannot be valued or selected as asked."""


class ExplanationError(OrricError, ValueError):
    """A network cannot be explained on images as asked."""


class EdgeError(OrricError, ValueError):
    """A daemon's configuration, its model store or its budget probe is unusable."""


class MissingExtraError(OrricError, ImportError):
    """An optional dependency is not installed."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a failing import inside the block into one line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "orric":
            raise
        raise MissingExtraError(f"package {error.name!r}", "is not installed", installing(name)) from error


def installing(name: str) -> str:
    """Say what to type for an extra: orric is on no package index, so by its name alone pip would not find it."""
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        what = f"--editable {shlex.quote(f'{checkout}[{name}]')}"
    else:
        what = f"'FILE.whl[{name}]' with orric's wheel, or '.[{name}]' in a checkout"
    return f"it comes with orric[{name}]: pip install {what}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Phrase the remedy for an unknown name: the nearest known one, or all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
