"""The command line: one command per use.

Nothing heavy is imported before a command needs it, so that `orric --help` is quick.
"""

from orric.cli import (
    competition,
    experiments,
    explaining,
    games,
    measuring,
    newcomers,
    ratios,
    reporting,
    serving,
    sweeping,
    traces,
    valuing,
    worst_case,
)
from orric.cli.frame import main

__all__ = [
    "competition",
    "experiments",
    "explaining",
    "games",
    "main",
    "measuring",
    "newcomers",
    "ratios",
    "reporting",
    "serving",
    "sweeping",
    "traces",
    "valuing",
    "worst_case",
]
