"""The plain model of a first-in-first-out server that the arrays must equal: one SimPy process per request."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import simpy

Stretch = tuple[float, float, float]


def finish_times(arrivals: Sequence[float], stretches: Sequence[Stretch]) -> list[float]:
    """Serve requests one after another at a speed that changes from stretch to stretch.

    Args:
        arrivals: Times of arrival, ascending.
        stretches: (start, end, seconds that a whole request takes), one after another without a gap.

    Returns:
        Time of completion of every request that is done by the last stretch's end, in order.
    """
    environment = simpy.Environment()
    server = simpy.Resource(environment, capacity=1)
    finished: list[float] = []

    def request(arrival: float) -> Generator[simpy.Event]:
        yield environment.timeout(arrival)
        with server.request() as turn:
            yield turn
            left = 1.0
            for _, end, service in stretches:
                if end <= environment.now:
                    continue
                room = end - environment.now
                if left * service <= room:
                    yield environment.timeout(left * service)
                    finished.append(environment.now)
                    return
                yield environment.timeout(room)
                left -= room / service
            yield environment.event()  # never: the time is over

    for arrival in arrivals:
        environment.process(request(arrival))
    environment.run()
    return finished
