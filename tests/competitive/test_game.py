"""Small games solved exactly: against all algorithms one by one, curves in between, and as allocators play them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import orric
from orric.competitive.game import Game, Shape, SlotType, game_of, played
from orric.exceptions import ScenarioError

from ..builders import PROFILES, build_profile

DIGITS = orric.Profile.load(PROFILES / "digits.toml")


def game(slots: int, start: float = 0.45, memory: orric.LearningExtent | None = None, floor: float = 0.05) -> Game:
    """Return a game of two configurations of each kind, on budgets that admit or just miss them."""
    profile = build_profile(
        retraining=((0.0, 0.0), (1.0, 1.0)),
        inference=((0.51, 1.0), (1.0, 2.0)),
        best_accuracy=0.9,
        slope_floor=floor,
        curve=orric.Tabulated(x=(0.0, 1.0), y=(start, 0.9)),
        start_accuracy=start,
        end_accuracy=0.9,
        **({} if memory is None else {"memory": memory}),
    )
    return Game(profile, slots, tuple(SlotType(1.0, budget) for budget in (1.0, 2.0, 3.0)))


def test_the_value_is_the_best_of_all_algorithms_tried_one_by_one() -> None:
    small = game(2)
    payoffs = {shown: (chosen, parts) for shown, chosen, parts in small._payoffs()}
    kinds, counts = range(3), [len(gains) for gains, _ in small._options]
    best = 0.0
    # An algorithm says what to choose in the first slot by its type, and in the second by both types.
    for first in product(*(range(counts[kind]) for kind in kinds)):
        pairs = list(product(kinds, kinds))
        for second in product(*(range(counts[kind]) for _, kind in pairs)):
            then = dict(zip(pairs, second, strict=True))
            worst = 1.0
            for shown, (chosen, parts) in payoffs.items():
                worst = min(worst, parts[:, chosen.index((first[shown[0]], then[shown]))].min())
            best = max(best, worst)
    found = small.deterministic()
    assert found.low == pytest.approx(best, abs=1e-9)
    assert found.high == pytest.approx(best, abs=1e-6)
    assert small.randomised().low >= best - 1e-9


def test_known_values() -> None:
    """Those of the game with five budgets, which two formulations gave alike."""
    five = tuple(SlotType(1.0, budget) for budget in (1.0, 1.5, 2.0, 2.5, 3.0))
    for slots, without_chance, best in ((3, 0.883663, 0.933858), (4, 0.873861, 0.936845)):
        there = Game(game(1).profile, slots, five)
        assert there.deterministic().low == pytest.approx(without_chance, abs=1e-5)
        assert there.randomised().low == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("slots", [3, 4])
def test_nobody_beats_the_value_and_the_line_closes_half_of_the_gap(slots: int) -> None:
    closed = []
    for start in (0.3, 0.45, 0.6):
        there = game(slots, start)
        best, any_at_all = there.deterministic().low, there.randomised().low
        ratios = {name: there.ratio(orric.make_allocator(name)) for name in ("orric", "orric-chord", "orric-line")}
        assert max(ratios.values()) <= best + 1e-9 <= any_at_all + 2e-9
        assert there.ratio(orric.make_allocator("random"), seeds=range(5)) <= any_at_all
        assert ratios["orric-line"] >= ratios["orric-chord"] - 1e-9
        closed.append((ratios["orric-line"] - ratios["orric"]) / (best - ratios["orric"]))
    assert np.mean(closed) > 0.6
    assert min(closed) > 0.45


@pytest.mark.parametrize(
    "memory",
    [
        orric.LearningExtent(),
        orric.LearningExtent(kind="window", slots=1),
        orric.LearningExtent(kind="decay", factor=0.5),
    ],
)
def test_no_curve_in_between_is_worse_than_the_vertices(memory: orric.LearningExtent) -> None:
    there = game(3, memory=memory, floor=0.1)
    rng, allocator = np.random.default_rng(1), orric.make_allocator("orric-chord")
    guaranteed, most = there.ratio(allocator), 1.0
    for _ in range(60):
        # A mixture of the vertices is a concave curve of the same ends and a slope of L at least.
        parts, xs = rng.dirichlet(np.full(len(there.curves), 0.4)), np.linspace(0, most, 101)
        curve = orric.Tabulated(x=tuple(xs), y=tuple(sum(p * c(xs) for p, c in zip(parts, there.curves, strict=True))))
        profile = there.profile.model_copy(update={"curve": curve})
        kinds = [there.types[k] for k in rng.integers(0, 3, 3)]
        trace = orric.Trace(requests=[1.0] * 3, budget_macs=[kind.budget_macs for kind in kinds])
        value = orric.evaluate(profile, trace, allocator).value
        assert value / orric.exact_optimum(profile, trace)[0] >= guaranteed - 1e-9


def test_a_profile_s_game_tells_allocators_what_it_is_about() -> None:
    shape = Shape(0.5, 0.2, 3.0)
    there = game_of(DIGITS, 2, 4, shape)
    assert there.profile.start_accuracy == pytest.approx(0.5 * DIGITS.best_accuracy)
    assert there.profile.slope_floor == pytest.approx(0.2 * 0.5 * DIGITS.best_accuracy)
    assert {kind.requests for kind in there.types} == {333, 1000}
    assert [len(kind) for kind in (there.profile.retraining, there.profile.inference)] == [3, 3]
    found = played(DIGITS, 2, 4, shape, ["orric", "inference-only"])
    assert found.proved <= found.ratios["orric"] <= found.without_chance.low + 1e-9 <= found.best.low + 2e-9
    assert found.ratios["inference-only"] < found.ratios["orric"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"start": 1.0, "floor": 0.5}, "start: found 1; give numbers in"),
        ({"start": 0.5, "floor": 0.0}, "floor: found 0; give numbers in"),
        ({"start": 0.5, "floor": 0.5, "spread": 0.5}, "spread: found 0.5; give numbers at least 1"),
    ],
)
def test_shapes_that_no_curve_has_are_refused(given: dict[str, float], told: str) -> None:
    with pytest.raises(ScenarioError, match=told):
        Shape(**given)


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(ScenarioError, match="plays, and 500,000 can be solved; take fewer"):
        game_of(DIGITS, 5, 9, Shape(0.5, 0.5, 2.0))
    with pytest.raises(ScenarioError, match="slope_floor"):
        game(2, start=0.88)
