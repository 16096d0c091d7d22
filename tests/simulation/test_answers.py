"""Right answers request by request: what real models say, against the plain simulator, on random servers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

from orric.simulation.engine import simulate

from .plain import Plain
from .plain_state import IN_TIME, LATE, Job, Request, Stream
from .random_server import MOST
from .test_plain import arrivals_of, built, meant_by

SERVERS = 80


def says(number: int, swaps: int, inference: str) -> bool:
    """Say whether a sample is classified rightly: by chance, and early samples of a slot less often than late ones."""
    luck = np.random.default_rng((number, swaps, int(inference[1:]))).random()
    return bool(luck < (number % MOST) / MOST)


class Sampled:
    """Samples without images; weights are how often they were swapped. What is no more must not be asked for."""

    name, labels = "sampled", 0

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.came = self.swaps = self.waiting = 0

    def arrive(self, slot: int, count: int) -> None:
        self.there.update(range(self.came, self.came + count))
        self.came += count

    def right(self, inference: str, numbers: Any) -> Any:
        assert self.there.issuperset(numbers.tolist())
        return np.array([says(number, self.swaps, inference) for number in numbers.tolist()], bool)

    def forget(self, numbers: Any) -> None:
        assert self.there.issuperset(numbers.tolist())
        self.there.difference_update(numbers.tolist())

    def collect(self, slot: int) -> None:
        """Nothing is trained on."""

    def retrain(self, collected: int, retraining: str, extent: float) -> float | None:
        self.waiting += 1
        return None

    def attention(self) -> float | None:
        return None

    def discard(self) -> None:
        """There is nothing to lose."""

    def swap(self) -> None:
        self.refuse()
        self.swaps += 1

    def refuse(self) -> None:
        self.waiting -= 1
        assert self.waiting >= 0


class Marked(Plain):
    """The plain simulator, in which every answer is right or not by the version that began it."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.swaps: Counter[int] = Counter()
        self.versions: dict[tuple[int, int], tuple[int, str]] = {}

    def takes_over(self, stream: Stream, job: Job) -> bool:
        taken = super().takes_over(stream, job)
        self.swaps[stream.index] += taken
        return taken

    def new_version(self, stream: Stream, past: int) -> None:
        super().new_version(stream, past)
        self.versions[stream.index, stream.version] = self.swaps[stream.index], stream.chosen[1]

    def end(self, stream: Stream, request: Request, fate: int) -> None:
        super().end(stream, request, fate)
        if fate in (IN_TIME, LATE):
            right = says(request.number, *self.versions[stream.index, request.version])
            for name, one in (("right", right), ("right in time", right and fate == IN_TIME)):
                stream.row[name] = stream.row.get(name, 0.0) + one


def test_right_answers_are_counted_request_by_request(tmp_path: Path) -> None:
    """To the request; and with the worth of answers that differ, their part in time is not that of all."""
    seen: Counter[str] = Counter()
    for seed in range(SERVERS):
        scenario, script = built(seed, tmp_path)
        streams = range(len(scenario.stream))
        models = [Sampled() for _ in streams]
        result = simulate(scenario, script, models, seed)
        meant = [meant_by(scenario, k, seed) for k in streams]
        plain = Marked(scenario, script, seed, [arrivals_of(scenario, k, seed) for k in streams], meant)
        plain.run()
        for column, name in (("correct", "right"), ("correct_in_time", "right in time")):
            assert result.columns[column].tolist() == [row.get(name, 0.0) for row in plain.rows], (seed, name)
        for k, model in enumerate(models):
            waiting = result.columns["waiting"][-len(models) :][k]
            assert len(model.there) == waiting, "samples of requests that ended are let go"
            assert not model.waiting, "whatever was trained serves, or was refused"
        assert not result.request_times, "nobody asked for a record"
        seen += plain.seen
        with np.errstate(invalid="ignore"):
            alike = result.correct * (1 - result.late / result.served)
        seen["uneven"] += int((np.abs(alike - result.correct_in_time) > 1).sum())
    assert not {"late", "shed", "abandoned", "lost", "restarted", "crash", "swap", "closed", "uneven"} - set(seen)
