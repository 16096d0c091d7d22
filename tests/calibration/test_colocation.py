"""A real server beside a real trainer: everybody is served, in order, and nobody is left behind or left standing."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("torch")

from orric.calibration.colocation import Requests, Served, Turns, batch_seconds, colocated, cores
from orric.calibration.measurement import affine
from orric.exceptions import CalibrationError
from orric.profile import Profile
from orric.retraining.models import exported

ROOT = Path(__file__).resolve().parents[2]
PROFILE = Profile.load(ROOT / "traces/profiles/digits.toml")


PROGRAM = """
import json, multiprocessing, os, signal
import numpy as np
from orric.calibration.colocation import Requests, Served, Turns, colocated
from tests.calibration.test_colocation import PROFILE, exported

if __name__ == "__main__":
    model = exported(PROFILE.beside(PROFILE.models.student), "student", 10)
    with colocated(PROFILE, [Served(model, 32)], beside=True) as server:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGSTOP)
        print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
        signal.pause()
"""


@pytest.fixture(scope="module")
def served() -> list[Served]:
    """Return the digits student at two resolutions."""
    assert PROFILE.models is not None
    model = exported(PROFILE.beside(PROFILE.models.student), "student", 10)
    return [Served(model, px) for px in (32, 20)]


def test_every_request_is_served_after_it_arrived_and_in_order(served: list[Served]) -> None:
    before = set(multiprocessing.active_children())
    arrivals = np.sort(np.random.default_rng(1).uniform(0, 0.2, 300))
    with colocated(PROFILE, served, beside=True) as server:
        mine = [psutil.Process(child.pid) for child in set(multiprocessing.active_children()) - before]
        assert len(mine) == 2
        if hasattr(mine[0], "cpu_affinity"):
            assert all(process.cpu_affinity() == [cores()[-1]] for process in mine)
        for turns in (None, Turns(0.02, 0.5), Turns(0.02, 1.0)):
            for most in (1, 8):
                done = server.run(Requests(arrivals, most, model=1), turns)
                assert done.shape == arrivals.shape
                assert (done > arrivals).all()
                assert (np.diff(done) >= 0).all()
                sizes = np.unique(done, return_counts=True)[1]
                assert sizes.max() <= most
            # Whoever stood still goes on.
            assert {process.status() for process in mine}.isdisjoint({psutil.STATUS_STOPPED})
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in mine)


def test_batches_of_every_model_are_timed(served: list[Served]) -> None:
    with colocated(PROFILE, served) as server:
        seconds = batch_seconds(server, 2, (1, 16), 1)
    assert seconds.shape == (2, 2)
    assert (seconds > 0).all()


def test_processes_end_with_a_parent_that_is_killed_while_one_stands_still() -> None:
    """The parent dies in the middle of a round; whoever is stopped then could not end by itself."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        numbers = json.loads(child.stdout.readline())
        processes = [psutil.Process(number) for number in numbers]
        child.kill()
    assert len(numbers) == 2
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_cannot_start_is_told_in_one_line() -> None:
    with (
        pytest.raises(CalibrationError, match="ended before it was ready"),
        colocated(PROFILE, [Served(b"no model", 32)]),
    ):
        pytest.fail("it started")


def test_a_training_that_diverges_is_told_as_such() -> None:
    wild = PROFILE.model_copy(update={"training": PROFILE.training.model_copy(update={"learning_rate": 1e30})})
    with (
        pytest.raises(CalibrationError, match="a training that diverged; lower learning_rate"),
        colocated(wild, [], beside=True),
    ):
        pytest.fail("it started")


def test_the_affine_fit_is_exact_where_it_can_be_and_never_negative() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    assert affine(sizes, 3e-6 + 2e-6 * sizes) == pytest.approx((3e-6, 2e-6))
    fixed, each = affine(sizes, sizes**1.3 * 1e-6)
    assert fixed >= 0
    assert each > 0
