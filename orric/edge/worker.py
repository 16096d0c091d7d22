"""The retraining process: labels, trains and exports, apart from serving and within limits of its own.

Started by `orric.edge.retraining` as `python -m orric.edge.worker PROFILE PIPE`; it speaks by `orric.edge.frames` on
its standard input and output, and ends when the pipe does.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO

import numpy as np

from orric.edge.faults import point
from orric.edge.frames import NO_MEMORY, receive, send
from orric.edge.heap import give_back
from orric.edge.lifeline import hang_on
from orric.exceptions import OrricError
from orric.profile import Profile
from orric.vision.datasets import FULL_PX

PROBES = 4


def step_back(nice: int, idle: bool) -> None:
    """Let every thread step back behind others: what was loaded has its own, and later ones inherit it."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():  # niceness is the process's own where this is not Linux
        os.nice(nice)
        return
    for thread in threads.iterdir():
        number = int(thread.name)
        os.setpriority(os.PRIO_PROCESS, number, min(os.getpriority(os.PRIO_PROCESS, number) + nice, 19))
        if idle:
            os.sched_setscheduler(number, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Answer messages until the daemon goes."""
    hang_on(int(sys.argv[2]))
    # Whatever libraries print must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon ends it
    try:
        serve(sys.argv[1], sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # without another word, which nobody would hear


def serve(profile_path: str, questions: IO[bytes], answers: IO[bytes]) -> None:
    """Load the models, then answer messages.

    Args:
        profile_path: File of the profile.
        questions: Where messages come from; the first one is {"memory_bytes", "nice", "anchors", "evidence"}.
        answers: Where they are answered.
    """
    from orric.edge.lesson import Teaching
    from orric.retraining.anchors import Anchors
    from orric.retraining.loop import Student

    try:
        limits, _ = receive(questions)
        point("worker.load")
        probes = np.random.default_rng(0).integers(0, 256, (PROBES, FULL_PX, FULL_PX, 3), np.uint8)
        profile = Profile.load(profile_path)
        # What may serve is for the daemon to say, which compares on what it holds out itself.
        training = profile.training.model_copy(update={"acceptance": False})
        student = Student(profile.model_copy(update={"training": training}), probes=probes)
        place = limits["anchors"]
        anchors = None if place is None else Anchors.load(Path(place), student.classes)
        teaching = Teaching(student, anchors, limits["evidence"])
        model, weights, inputs, expected = student.served()
        step_back(limits["nice"], limits["idle"])
        # Beyond what is taken already, an allocation fails instead of the machine running out.
        resource.setrlimit(resource.RLIMIT_DATA, (limits["memory_bytes"], limits["memory_bytes"]))
        send(answers, {}, model, weights, inputs, expected)
    except EOFError:
        return
    except OrricError as error:
        send(answers, {"error": str(error)})
        return
    before: bytes = weights
    while True:
        try:
            header, parts = receive(questions)
        except EOFError:
            return
        try:
            if header["do"] == "retrain":
                before = student.served()[1]
                send(answers, *teaching.retrained(header, *parts))
            elif header["do"] == "look":
                teaching.look()
                send(answers, {})
            elif header["do"] == "accept":
                student.swap()
                send(answers, {})
            elif header["do"] == "restore":
                student.restore(parts[0] if parts else before)
                send(answers, {})
            else:
                student.discard()
                student.restore(before)
                send(answers, {})
        except MemoryError:
            student.restore(before)
            send(answers, {"error": NO_MEMORY})
        except (OrricError, RuntimeError) as error:
            student.restore(before)
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            # torch's own word for want of memory is a RuntimeError.
            send(answers, {"error": NO_MEMORY if "allocate memory" in told else told})
        if header["do"] != "retrain":  # the end of one, and nobody waits now
            give_back()


if __name__ == "__main__":
    main()
