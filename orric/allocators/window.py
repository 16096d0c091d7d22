"""One retraining window of several streams that share GPUs, as Ekya sees it: what a split of them is worth."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

# Shares come about by adding and taking away quanta: what misses a need by rounding alone meets it.
EXACT = 1 + 1e-12
# An estimate is better than another when it is so by more than rounding.
BETTER = 1e-12


@dataclass(frozen=True)
class Prospects:
    """What is estimated of one stream before a window.

    Attributes:
        accuracy: Accuracy of its present weights, at the best inference configuration's factor of 1.
        inference: (share, factor) of each inference configuration: the GPUs that sustain the stream's requests and what
            the accuracy is multiplied by. Ascending in both.
        retraining: (accuracy, work) of each retraining configuration: the accuracy of the weights that it ends with,
            and its length in GPU-seconds. The first is not to retrain: its work is 0.
        least_share: GPUs that are never taken from its inference, 0 as published.
    """

    accuracy: float
    inference: tuple[tuple[float, float], ...]
    retraining: tuple[tuple[float, float], ...]
    least_share: float = 0.0


@dataclass(frozen=True)
class Split:
    """How a window's GPUs are split, and what that is worth.

    Attributes:
        inference_shares: GPUs for serving each stream, at the window's begin.
        retraining_shares: GPUs for retraining each stream, at the window's begin.
        retraining: Index of each stream's retraining configuration.
        accuracy: Estimated mean over streams of their mean accuracy in the window.
        stolen: How many quanta changed hands.
        estimates: How many splits were estimated to find it.
    """

    inference_shares: tuple[float, ...]
    retraining_shares: tuple[float, ...]
    retraining: tuple[int, ...]
    accuracy: float
    stolen: int = 0
    estimates: int = 1


class RetrainingWindow:
    """A window of some length in which streams serve and retrain on GPUs in common.

    Every stream has two jobs, inference and retraining, each with a share of the GPUs. Inference lasts as long as the
    window. When a retraining is complete its share is divided evenly among the jobs that still run, and its stream
    serves by the new weights from then on; not to retrain is to be complete at once. What is not complete when the
    window ends has changed nothing. Completion is computed, not stepped towards, so a retraining that ends with the
    window is complete.

    Source: Bhardwaj et al., "Ekya: Continuous Learning of Video Analytics Models on Edge Compute Servers", NSDI 2022,
    section 4.

    Args:
        resources: GPUs in all.
        length_s: Length of the window.
        streams: What is estimated of each stream.
    """

    def __init__(self, resources: float, length_s: float, streams: tuple[Prospects, ...]) -> None:
        self.resources, self.length_s, self.streams = resources, length_s, streams
        self._needs = [[share for share, _ in stream.inference] for stream in streams]
        self._picks: list[dict[tuple[float, float], int]] = [{} for _ in streams]

    def serving(self, stream: int, share: float) -> float:
        """Return what a stream's accuracy is multiplied by when its inference has a share of the GPUs.

        That is the factor of the best configuration that the share sustains; where it sustains none, the cheapest
        serves the part of the requests that it can.
        """
        needs, inference = self._needs[stream], self.streams[stream].inference
        best = bisect_right(needs, share * EXACT) - 1
        return inference[best][1] if best >= 0 else inference[0][1] * share / needs[0]

    def sustained(self, stream: int, share: float) -> int:
        """Return the index of the best inference configuration that a share sustains, 0 when it sustains none."""
        return max(bisect_right(self._needs[stream], share * EXACT) - 1, 0)

    def pick(self, stream: int, inference_share: float, retraining_share: float) -> int:
        """Return the retraining configuration with which a stream does best, were it alone with its two shares.

        Only those are considered that complete inside the window by the share they have; of equals the first one.
        Complexity O(M) for M configurations, once for each pair of shares.
        """
        known, shares = self._picks[stream], (inference_share, retraining_share)
        found = known.get(shares)
        if found is not None:
            return found
        own, length_s = self.streams[stream], self.length_s
        before = own.accuracy * self.serving(stream, inference_share)
        after = self.serving(stream, inference_share + retraining_share)
        chosen, most = 0, own.retraining[0][0] * after * length_s
        latest = retraining_share * length_s * EXACT
        for index, (accuracy, work) in enumerate(own.retraining[1:], start=1):
            if work <= latest:
                complete_s = min(work / retraining_share, length_s) if work else 0.0
                value = before * complete_s + accuracy * after * (length_s - complete_s)
                if value > most + BETTER * length_s:
                    chosen, most = index, value
        known[shares] = chosen
        return chosen

    def released(self, retraining_shares: list[float], retraining: list[int]) -> float:
        """Return what every job gets at once of the shares of streams that do not retrain, in GPUs."""
        works = [stream.retraining[index][1] for stream, index in zip(self.streams, retraining, strict=True)]
        free = sum(share for share, work in zip(retraining_shares, works, strict=True) if work <= 0)
        return free / (len(works) + sum(work > 0 for work in works))

    def accuracy(self, inference_shares: list[float], retraining_shares: list[float], retraining: list[int]) -> float:
        """Estimate the mean over streams of their mean accuracy in the window.

        All jobs that run have been given the same, c(t), beyond the shares they began with: the shares of the
        completed divided by the number of jobs that run. So one list of stretches of constant c serves all streams.
        Complexity O(V R) for V streams of which R retrain, and O(V R log N) where the next best of N inference
        configurations comes into reach in the window.

        Args:
            inference_shares: GPUs for serving each stream at first.
            retraining_shares: GPUs for retraining each stream at first.
            retraining: Index of each stream's retraining configuration.
        """
        streams, length_s = self.streams, self.length_s
        count, free = len(streams), 0.0
        ends = [0.0] * count
        running: list[tuple[int, float, float]] = []
        for k in range(count):
            work = streams[k].retraining[retraining[k]][1]
            if work > 0:
                running.append((k, retraining_shares[k], work))
                ends[k] = length_s
            else:
                free += retraining_shares[k]
        # Stretches: what every job has been given since the begin, and how long that holds.
        stretches: list[tuple[float, float]] = []
        time_s = given_s = 0.0
        given = free / (count + len(running))
        while running:
            first_s, first = length_s * 2, -1
            for place, (_, share, work) in enumerate(running):
                pace = share + given
                left_s = (work - share * time_s - given_s) / pace if pace > 0 else first_s
                if left_s < first_s:
                    first_s, first = left_s, place
            if first < 0 or time_s + first_s > length_s * EXACT:
                break
            first_s = min(max(first_s, 0.0), length_s - time_s)
            stretches.append((given, first_s))
            time_s += first_s
            given_s += given * first_s
            k, share, _ = running.pop(first)
            ends[k] = time_s
            free += share
            given = free / (count + len(running))
        stretches.append((given, length_s - time_s))
        total = 0.0
        for k in range(count):
            stream, share = streams[k], inference_shares[k]
            # Of what does not complete the end is that of the window, after which nothing is served.
            before = stream.accuracy
            after, end_s = stream.retraining[retraining[k]][0], ends[k]
            best_share, best_factor = stream.inference[-1]
            if (share + stretches[0][0]) * EXACT >= best_share:
                total += best_factor * (before * end_s + after * (length_s - end_s))
                continue
            time_s = 0.0
            for given, stretch_s in stretches:
                # A retraining ends where a stretch does, so all of one is served by the same weights.
                total += (before if time_s < end_s else after) * self.serving(k, share + given) * stretch_s
                time_s += stretch_s
        return total / (count * length_s)

    def fair(self) -> tuple[list[float], list[float]]:
        """Return equal shares for all jobs, those of inference raised to what they need at least.

        What the needy lack is taken from the others in proportion to what they have beyond their own needs.

        Returns:
            The shares of inference and of retraining, in GPUs. Where the needs exceed the GPUs, they cannot be met, and
            the shares are equal.
        """
        count = len(self.streams)
        even = self.resources / (2 * count)
        least = [stream.least_share for stream in self.streams]
        lacking = sum(max(need - even, 0.0) for need in least)
        beyond = sum(max(even - need, 0.0) for need in least) + even * count
        if not lacking or lacking > beyond * EXACT:
            return [even] * count, [even] * count
        kept = max(1 - lacking / beyond, 0.0)
        return [need + max(even - need, 0.0) * kept for need in least], [even * kept] * count
