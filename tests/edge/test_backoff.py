"""How retraining steps back after it was ended by force, and comes again."""

from __future__ import annotations

import json

from orric.configuration import RetrainingConfiguration
from orric.edge.backoff import MOST_REST, SUCCESSES, Backoff

NONE, SMALL, POOR, LARGE = (
    RetrainingConfiguration(name=name, profit=profit, cost_macs=cost)
    for name, profit, cost in (("none", 0.0, 0.0), ("20%", 0.4, 2e6), ("poor", 0.3, 3e6), ("100%", 1.0, 1e7))
)
OPTIONS = [LARGE, NONE, POOR, SMALL]


def test_those_that_gain_less_for_more_are_left_out() -> None:
    backoff = Backoff(OPTIONS)
    backoff.ended(LARGE, "100%: too long")
    assert backoff.executed(LARGE) == SMALL, "and not POOR, which costs more and gains less"


def test_it_steps_down_rests_and_comes_again() -> None:
    backoff = Backoff(OPTIONS)
    assert (backoff.steps, backoff.state(), backoff.executed(LARGE)) == (0, None, LARGE)
    backoff.ended(LARGE, "100%: too long")
    assert (backoff.executed(LARGE), backoff.executed(POOR), backoff.executed(SMALL)) == (SMALL, SMALL, SMALL)
    assert (backoff.steps, backoff.most, backoff.why) == (1, "20%", "100%: too long")
    rests = []
    for _ in range(8):
        backoff.ended(SMALL, "20%: killed")
        assert backoff.executed(LARGE) == NONE
        backoff.pass_slot()  # the slot in which it was ended
        count = 0
        while backoff.rest:
            backoff.pass_slot()
            count += 1
        assert backoff.executed(LARGE) == SMALL, "the smallest comes first again"
        rests.append(count)
    assert rests == [1, 2, 4, 8, 16, 32, MOST_REST, MOST_REST]
    for _ in range(SUCCESSES):
        assert backoff.executed(LARGE) == SMALL
        backoff.succeeded()
    assert (backoff.executed(LARGE), backoff.steps, backoff.why, backoff.state()) == (LARGE, 0, None, None)
    backoff.ended(SMALL, "20%: killed")
    assert backoff.rest == 2, "after successes rests are short again"


def test_a_process_that_does_not_start_is_left_in_peace() -> None:
    backoff = Backoff(OPTIONS)
    backoff.ended(None, "did not start")
    assert (backoff.rest, backoff.most, backoff.steps) == (2, "none", 2)


def test_it_goes_on_from_what_was_written_down() -> None:
    backoff, again = Backoff(OPTIONS), Backoff(OPTIONS)
    backoff.ended(LARGE, "100%: too long")
    backoff.ended(SMALL, "20%: killed")
    backoff.succeeded()
    again.resume(json.loads(json.dumps(backoff.state())))
    assert vars(again) == vars(backoff)
    again.resume({**backoff.state(), "most": "of another profile"})
    assert again.state() is None
