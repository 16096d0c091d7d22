"""The log: what happens again and again."""

from __future__ import annotations

from orric.edge.log import Repeated


def test_what_happens_again_and_again_is_told_now_and_then() -> None:
    now, told = [0.0], []
    repeated = Repeated("refused", lambda: now[0], lambda level, event, **values: told.append(values))
    for _ in range(5):
        repeated.note("host", peer="a")
    repeated.note("token", peer="b")
    assert told == [{"reason": "host", "peer": "a"}, {"reason": "token", "peer": "b"}]
    repeated.flush()
    assert len(told) == 2
    now[0] = 10.0
    repeated.flush()
    assert told[2:] == [{"reason": "host", "peer": "a", "more": 3}]
