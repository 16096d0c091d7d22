"""What the tests of all commands share."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest

import orric as package
from orric.cli import main

from ..builders import build_profile


@pytest.fixture
def orric(monkeypatch, capsys):
    """Run the command line in this process; return exit status, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["orric", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Enter a folder with the small profile and a trace; return the options that name them."""
    monkeypatch.chdir(tmp_path)
    build_profile().save("profile.toml")
    # No slot is overloaded, even if the most requests meet the least budget.
    rng = np.random.default_rng(1)
    requests, budgets = rng.integers(100, 1000, 6).astype(float), rng.uniform(1e9, 1.2e10, 6)
    package.Trace(requests=requests, budget_macs=budgets).save("trace.csv")
    return "--profile", "profile.toml", "--trace", "trace.csv"
