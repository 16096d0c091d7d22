"""The retraining process: labels, trains and exports, apart from serving and within limits of its own.

Started by `orric.edge.retraining` as `python -m orric.edge.worker PROFILE PIPE`; it speaks by `orric.edge.frames` on
its standard input and output, and ends when the pipe does.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import IO, Any

import numpy as np

from orric.edge.faults import point
from orric.edge.frames import Header, receive, send
from orric.edge.heap import give_back
from orric.edge.lifeline import hang_on
from orric.exceptions import OrricError
from orric.profile import Profile
from orric.selection import selector
from orric.selection.gradients import Indices
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX

PROBES = 4


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
        questions: Where messages come from; the first one is {"memory_bytes", "nice"}.
        answers: Where they are answered.
    """
    from orric.retraining.loop import Student

    try:
        limits, _ = receive(questions)
        probes = np.random.default_rng(0).integers(0, 256, (PROBES, FULL_PX, FULL_PX, 3), np.uint8)
        student = Student(Profile.load(profile_path), probes=probes)
        model, weights, inputs, expected = student.served()
        os.nice(limits["nice"])
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
                send(answers, *_retrained(student, header, parts[0]))
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
            send(answers, {"error": "out of memory"})
        except (OrricError, RuntimeError) as error:
            # torch's own word for want of memory is a RuntimeError.
            student.restore(before)
            send(answers, {"error": (str(error).strip() or type(error).__name__).splitlines()[0]})
        if header["do"] != "retrain":  # the end of one, and nobody waits now
            give_back()


def _retrained(student: Any, asked: Header, images: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Label images, train on all that are chosen but the held-out ones, and return what is to be sent."""
    rng = np.random.default_rng(asked["seed"])
    point("worker.label")
    held = round(asked["held_out"] * asked["count"])
    chosen, labels = _chosen(student, asked, images, held, rng)
    # What a selector chose because the student is unsure of it says nothing of how well the student does.
    selected = len(chosen) + held < len(images)
    standing = np.arange(held) if selected and held else np.flatnonzero(labels >= 0)
    answer: Header = {"agreement": student.agreement(images[standing], labels[standing]), "held_out": held}
    before = student.classify(images[:held], FULL_PX) == labels[:held]
    asked_for = point("worker.train")
    if asked_for == "nan":
        import torch

        with torch.no_grad():
            for values in student.network.parameters():
                values.fill_(float("nan"))
    if asked_for == "oom":
        np.ones(1 << 40, np.uint8)
    student.retrain(images[chosen], rng, labels[chosen])
    point("worker.trained")
    if not student.has_staged:
        return {**answer, "staged": False}, standing, labels[standing]
    after = student.classify_staged(images[:held]) == labels[:held]
    answer |= {"lost": int((before & ~after).sum()), "gained": int((after & ~before).sum())}
    return {**answer, "staged": True}, standing, labels[standing], *student.served()


def _chosen(
    student: Any, asked: Header, images: np.ndarray[Any, Any], held: int, rng: np.random.Generator
) -> tuple[Indices, Labels]:
    """Return what the student is to be trained on, and the teacher's labels of all images, -1 where none was asked."""
    if asked["count"] == len(images):
        return np.arange(held, len(images)), student.label(images)
    labels = np.full(len(images), -1)
    if asked["labels"] == "teacher":
        labels = student.label(images)
    known = labels[held:] if asked["labels"] == "teacher" else None
    candidates = student.candidates(images[held:], known)
    chosen = held + selector(asked["selector"]).select(candidates, asked["count"] - held, rng)
    missing = np.concatenate([np.arange(held), chosen])
    missing = missing[labels[missing] < 0]
    if len(missing):
        labels[missing] = student.label(images[missing])
    return chosen, labels


if __name__ == "__main__":
    main()
