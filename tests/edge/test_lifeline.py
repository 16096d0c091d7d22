"""The retraining process goes with the daemon, whatever it does meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

# Starts a process that holds on to it, tells its number, and waits to be killed.
PARENT = """
import subprocess, sys, threading
from orric.edge.lifeline import Lifeline
def start():
    line = Lifeline()
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(line.descriptor)], pass_fds=[line.descriptor])
    line.started()
    lines.append(line)
    print(child.pid, flush=True)
lines = []
thread = threading.Thread(target=start)  # which is gone while the child works
thread.start()
thread.join()
sys.stdin.read()
"""
CHILD = """
import sys
from orric.edge.lifeline import hang_on
hang_on(int(sys.argv[1]))
{}
"""


SORTING = "import numpy as np\nwhile True: np.sort(np.zeros(10**7))"


@pytest.mark.parametrize("doing", ["while True: pass", "import time; time.sleep(3600)", SORTING])
def test_a_child_ends_with_its_parent_whatever_it_does(doing: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(doing)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.poll() is None
    assert child.is_running()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone == [child]
