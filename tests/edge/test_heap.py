"""What swaps leave behind: nothing that is counted here, and nothing of the C library's that is free."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from orric.edge.heap import give_back
from orric.edge.retraining import Candidate, Wanted
from orric.edge.serving import Model
from orric.edge.store import MODEL
from orric.retraining.evidence import Comparison
from orric.vision.datasets import to_input

from .test_slots import slot

LIBRARY = ctypes.CDLL(None)
MIB = 2**20
EPISODE = 6


class MallocInformation(ctypes.Structure):
    """What glibc tells of its heap, as `man mallinfo2` has it."""

    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in names]


class SameAgain:
    """Stands in for the retraining process: every retraining gives the student that serves already."""

    ready = True

    def __init__(self, daemon: Any, images: np.ndarray) -> None:
        self._content = daemon.versions.store.load(1)[1][MODEL]
        model = daemon.versions.model
        self._inputs = to_input(images[:4], 32)
        self._expected = model.session.run(None, {model.name: self._inputs})[0]

    def retrain(self, images: np.ndarray, wanted: Wanted, seed: int, deadline_s: float) -> Candidate:
        files = {MODEL: bytes(bytearray(self._content))}
        standing, labels = np.arange(wanted.count), np.zeros(wanted.count, np.int64)
        return Candidate(files, self._inputs, self._expected, standing, labels, held_out=Comparison(100))

    def settle(self, accepted: bool) -> None:
        assert accepted

    def kill(self) -> None:
        pass


def held() -> dict[str, int]:
    """Return how many there are of what a swap makes, and of all objects."""
    gc.collect()
    objects = gc.get_objects()
    found = Counter(map(type, objects))
    return {
        "sessions": found[onnxruntime.InferenceSession], "models": found[Model], "candidates": found[Candidate],
        "threads": threading.active_count(), "files": len(list(Path("/proc/self/fd").iterdir())),
        "objects": len(objects),
    }  # fmt: skip


def used_bytes() -> int:
    """Return what is allocated from the C library and not freed."""
    LIBRARY.mallinfo2.restype = MallocInformation
    told = LIBRARY.mallinfo2()
    return int(told.uordblks + told.hblkhd)


def test_swaps_leave_nothing_behind(open_daemon, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slots of the same place in their episodes, so that journals are of one length."""
    monkeypatch.setattr("orric.edge.slots.SHOWN_SLOTS", EPISODE)
    monkeypatch.setattr("orric.edge.daemon.tell", lambda level, event, **values: None)
    asked: list[bool] = []
    monkeypatch.setattr("orric.edge.slots.give_back", lambda: asked.append(give_back()))
    daemon = open_daemon(horizon_slots=EPISODE, budget__macs_per_s=1e12)
    daemon.loop.learner.process = SameAgain(daemon, images)
    held()  # which makes a few of its own, the first time
    for _ in range(2 * EPISODE):
        slot(daemon, images)
    before, used = held(), used_bytes() if hasattr(LIBRARY, "mallinfo2") else 0
    for _ in range(4 * EPISODE):
        slot(daemon, images)
    after = held()
    grown = used_bytes() - used if hasattr(LIBRARY, "mallinfo2") else 0
    assert set(daemon.loop.failures.values()) == {0}
    assert daemon.versions.swaps > 4 * EPISODE, "in all slots but the first, and the last of each episode"
    assert len(asked) == 6 * EPISODE, "once a slot"
    more = after.pop("objects") - before.pop("objects")
    assert after == before
    assert more < 4 * EPISODE, "not even one object a slot"
    assert grown < 4 * EPISODE * 0.1 * MIB, "a session takes more than that"


FRAGMENTED = """
from pathlib import Path
from orric.edge.heap import give_back

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

large, small = [], []
for _ in range(2000):
    large.append(bytearray(b"x" * (64 * 1024)))  # too small for a mapping of its own
    small.append(bytearray(b"x" * 600))  # too large for Python's own allocator
most = resident_mib()
del large
print(most - resident_mib(), give_back(), most - resident_mib())
"""


@pytest.mark.skipif(not hasattr(LIBRARY, "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_back() -> None:
    """Small blocks that stay keep the C library from returning the large ones before them, until it is asked to.

    In a process of its own, whose heap has no gaps yet.
    """
    told = subprocess.run([sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True).stdout.split()
    assert float(told[0]) < 30, "else this shows nothing"
    assert told[1] == "True"
    assert float(told[2]) > 90, "of the 125 MiB that were freed"


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from orric.edge import heap

    heap._trim.cache_clear()
    monkeypatch.setattr("orric.edge.heap.ctypes.CDLL", lambda name: object())
    assert not give_back()
    heap._trim.cache_clear()
