"""What the tests of all commands share."""

from __future__ import annotations

import signal
import sys

import pytest

from orric.cli import main


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
