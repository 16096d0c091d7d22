"""Ekya's loop as it is published, word for word and without a shortcut: what the fast one must equal."""

from __future__ import annotations

from dataclasses import dataclass

from orric.allocators.window import Prospects, RetrainingWindow

# Better by more than rounding.
NOTICEABLE = 1e-12


@dataclass
class Job:
    """One job of a window: inference of a stream (without work) or retraining of it."""

    stream: int
    share: float
    work: float | None = None


def factor(stream: Prospects, share: float) -> float:
    """Try every inference configuration."""
    sustained = [gained for needed, gained in stream.inference if needed <= share * (1 + 1e-12)]
    if sustained:
        return max(sustained)
    needed, gained = stream.inference[0]
    return gained * share / needed


def completion_s(job: Job) -> float:
    """Return how long a retraining still takes at its share."""
    if job.work <= 0:
        return 0.0
    return job.work / job.share if job.share > 0 else float("inf")


def accuracy(
    streams: list[Prospects],
    length_s: float,
    inference_shares: list[float],
    retraining_shares: list[float],
    picks: list[int],
) -> float:
    """Go through a window from one completion to the next, and add up what every stream gets right."""
    jobs = [Job(k, share) for k, share in enumerate(inference_shares)]
    for k, share in enumerate(retraining_shares):
        jobs.append(Job(k, share, streams[k].retraining[picks[k]][1]))
    present = [stream.accuracy for stream in streams]
    total, time_s = 0.0, 0.0
    while True:
        ends = [(completion_s(job), job) for job in jobs if job.work is not None]
        first_s, done = min(ends, key=lambda entry: entry[0], default=(float("inf"), None))
        last = time_s + first_s > length_s * (1 + 1e-12)
        stretch_s = length_s - time_s if last else min(first_s, length_s - time_s)
        for job in jobs:
            if job.work is None:
                total += stretch_s * present[job.stream] * factor(streams[job.stream], job.share)
            else:
                job.work = max(job.work - job.share * stretch_s, 0.0)
        time_s += stretch_s
        if last:
            return total / length_s / len(streams)
        jobs.remove(done)
        present[done.stream] = streams[done.stream].retraining[picks[done.stream]][0]
        for job in jobs:
            job.share += done.share / len(jobs)


def pick(stream: Prospects, length_s: float, inference_share: float, retraining_share: float) -> int:
    """Try every retraining configuration that completes on the stream alone; keep the best."""
    chosen, most = 0, -1.0
    for index, (_, work) in enumerate(stream.retraining):
        if work <= retraining_share * length_s * (1 + 1e-12):
            found = accuracy([stream], length_s, [inference_share], [retraining_share], [index])
            if found > most + NOTICEABLE:
                chosen, most = index, found
    return chosen


def picks_of(streams: list[Prospects], length_s: float, inference: list[float], retraining: list[float]) -> list[int]:
    """Pick for all streams."""
    return [pick(stream, length_s, inference[k], retraining[k]) for k, stream in enumerate(streams)]


def plain_loop(
    window: RetrainingWindow, delta: float, rounds: int
) -> tuple[list[float], list[float], list[int], float]:
    """Steal as published: shares of inference and retraining, picks, and the mean accuracy estimated."""
    streams, length_s = list(window.streams), window.length_s
    inference, retraining = window.fair()
    shares = [inference, retraining]
    least = [[stream.least_share for stream in streams], [0.0] * len(streams)]
    jobs = [(kind, k) for k in range(len(streams)) for kind in (0, 1)]
    picks = picks_of(streams, length_s, inference, retraining)
    best = accuracy(streams, length_s, inference, retraining, picks)
    for _ in range(rounds):
        for thief_kind, thief in jobs:
            for victim_kind, victim in jobs:
                if (thief_kind, thief) == (victim_kind, victim):
                    continue
                while shares[victim_kind][victim] - least[victim_kind][victim] > delta * 1e-9:
                    before = [list(kind) for kind in shares]
                    left = shares[victim_kind][victim] - least[victim_kind][victim]
                    if left > delta * (1 + 1e-9):
                        shares[thief_kind][thief] += delta
                        shares[victim_kind][victim] -= delta
                    else:
                        shares[thief_kind][thief] += left
                        shares[victim_kind][victim] = least[victim_kind][victim]
                    again = picks_of(streams, length_s, *shares)
                    found = accuracy(streams, length_s, *shares, again)
                    if found > best + NOTICEABLE:
                        best, picks = found, again
                    else:
                        shares = before
                        break
    return *shares, picks, best
