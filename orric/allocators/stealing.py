"""Ekya's thief: move quanta of the GPUs from job to job as long as that pays."""

from __future__ import annotations

from orric.allocators.window import BETTER, RetrainingWindow, Split


def steal(window: RetrainingWindow, delta: float, rounds: int) -> Split:
    """Split a window's GPUs among inference and retraining of all streams (Ekya, NSDI 2022, Algorithm 1).

    From fair shares on every job in its turn is a thief, and every other job in its turn its victim. The thief takes
    a quantum after another, or what the victim has left when that is less, until the estimate gets no better; the
    last one is given back. After each the two streams pick their retraining configurations anew.

    It makes the steals of the published loop, one by one, and saves work where that cannot change them: streams whose
    shares stay keep their picks, pairs of shares seen before are remembered, and a theft that failed is not tried
    again before another one succeeded. Complexity: at most (2V)^2 failures a round for V streams, each an estimate of
    O(V R), and one estimate for each success.

    Args:
        window: The streams and their GPUs.
        delta: The quantum, in GPUs, above 0.
        rounds: How often every job is a thief; 0 leaves the shares fair.

    >>> from orric.allocators.window import Prospects
    >>> stream = Prospects(0.5, ((0.2, 1.0),), ((0.5, 0.0), (0.9, 30.0)))
    >>> split = steal(RetrainingWindow(1.0, 100.0, (stream,)), 0.1, 3)
    >>> split.retraining, [round(share, 6) for share in split.retraining_shares], round(split.accuracy, 6)
    ((1,), [0.8], 0.75)
    """
    count = len(window.streams)
    inference, retraining = window.fair()
    # Job 2k is the inference of stream k, job 2k + 1 its retraining.
    shares = [inference, retraining]
    least = [[stream.least_share for stream in window.streams], [0.0] * count]
    picks = [window.pick(k, inference[k], retraining[k]) for k in range(count)]
    best = window.accuracy(inference, retraining, picks)
    stolen, estimates, failed = 0, 1, dict[tuple[int, int], int]()
    for _ in range(rounds):
        before = stolen
        for thief in range(2 * count):
            gaining, winner = shares[thief % 2], thief // 2
            for victim in range(2 * count):
                if victim == thief or failed.get((thief, victim)) == stolen:
                    continue
                losing, loser = shares[victim % 2], victim // 2
                need = least[victim % 2][loser]
                while True:
                    had, lost, old = gaining[winner], losing[loser], (picks[winner], picks[loser])
                    left = lost - need
                    # What rounding leaves over is no share worth stealing.
                    taken, rest = (delta, lost - delta) if left > delta * (1 + 1e-9) else (left, need)
                    if left <= delta * 1e-9:
                        break
                    gaining[winner], losing[loser] = had + taken, rest
                    picks[winner] = window.pick(winner, inference[winner], retraining[winner])
                    picks[loser] = window.pick(loser, inference[loser], retraining[loser])
                    found = window.accuracy(inference, retraining, picks)
                    estimates += 1
                    if found <= best + BETTER:
                        gaining[winner], losing[loser] = had, lost
                        picks[winner], picks[loser] = old
                        break
                    best = found
                    stolen += 1
                failed[thief, victim] = stolen
        if stolen == before:
            break
    return Split(tuple(inference), tuple(retraining), tuple(picks), best, stolen, estimates)
