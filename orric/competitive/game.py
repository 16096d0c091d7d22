"""How good any online algorithm could be: small games between an allocator and whoever draws budgets and the curve.

The allocator knows the configurations, T, the range of requests, f(0), f(A^T_max) and L, a lower bound of the slope at
A^T_max. Slot by slot it is shown the requests and the budget, one of a few types, and chooses. It never sees the curve.
What it does may depend on all types shown so far, and on chance. The best ratio that it can guarantee is the value of a
game of perfect recall, which is a linear programme in its realization plan (von Stengel, "Efficient computation of
behavior strategies", Games and Economic Behavior 14, 1996); without chance it is one in integers.

Of the curves, those with one kink are enough. On the extents that can be reached at all, the concave curves of given
f(0), f(A^T_max) and L are a polytope; what is earned is linear in the curve and the offline optimum, a largest of such
sums, is convex, so that a ratio guaranteed at the vertices is guaranteed everywhere. The vertices rise in a line to one
of the extents, and with slope L from there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.competitive.problem import OfflineProblem
from orric.configuration import undominated
from orric.exceptions import ScenarioError
from orric.learning import RunningExtent, Tabulated
from orric.profile import Profile
from orric.slot_model import evaluate
from orric.trace import Trace

if TYPE_CHECKING:
    from orric.allocators.base import Allocator

Array = np.ndarray[Any, Any]
# What was shown, and what was chosen, slot by slot.
Node = tuple[tuple[int, ...], tuple[int, ...]]
# Beyond so many plays a programme takes longer than anybody waits.
MOST_PLAYS = 500_000
# How close to one another two extents are one.
SAME = 1e-12


@dataclass(frozen=True)
class SlotType:
    """What a slot may be: its requests and its budget in MACs."""

    requests: float
    budget_macs: float


@dataclass(frozen=True)
class Value:
    """The best ratio that any online algorithm can guarantee.

    Attributes:
        low: Guaranteed by the plan that was found.
        high: No plan guarantees more.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Game:
    """A small game.

    Attributes:
        profile: Configurations, memory, f(0) and f(A^T_max) of its curve, and L, its `slope_floor`.
        slots: T.
        types: What a slot may be.

    Raises:
        ScenarioError: There are too many plays, nothing fits a budget, or the curve rises by less than L makes it.
    """

    profile: Profile
    slots: int
    types: tuple[SlotType, ...]

    def __post_init__(self) -> None:
        if self.slots < 1 or not self.types:
            raise ScenarioError("game", f"found {self.slots} slots and {len(self.types)} types", "give 1 at least")
        plays = sum(len(gains) for gains, _ in self._options) ** self.slots
        if plays > MOST_PLAYS:
            raise ScenarioError(
                "game",
                f"has {plays:,} plays, and {MOST_PLAYS:,} can be solved",
                "take fewer slots, types or configurations",
            )
        if self._rise < 0:
            raise ScenarioError(
                "slope_floor",
                f"is {self.profile.slope_floor:g}, and f rises by {self._end - self._start:g} in all",
                "lower it, or f(0)",
            )

    @cached_property
    def _options(self) -> list[tuple[Array, Array]]:
        """A^T and A^I D of what can be chosen in a slot of each type."""
        found = []
        for kind in self.types:
            problem = OfflineProblem.of(self.profile, _trace([kind]))
            count = int(problem.counts[0])
            found.append((problem.gains[0, :count], problem.rewards[0, :count]))
        return found

    @property
    def _most(self) -> float:
        return undominated(self.profile.retraining)[-1].profit

    @property
    def _start(self) -> float:
        return float(self.profile.curve(0.0))

    @property
    def _end(self) -> float:
        return self.profile.best_accuracy

    @property
    def _rise(self) -> float:
        """What the curve rises by beyond what L alone makes."""
        return self._end - self._start - self.profile.slope_floor * self._most

    @cached_property
    def _plays(self) -> dict[tuple[int, ...], dict[tuple[int, ...], tuple[Array, Array]]]:
        """By what is shown in all slots, and what is chosen: x_t and the rewards A^I D, shape (T,) each."""
        found: dict[tuple[int, ...], dict[tuple[int, ...], tuple[Array, Array]]] = {}

        def follow(
            shown: tuple[int, ...], chosen: tuple[int, ...], extent: RunningExtent, xs: Any, rewards: Any
        ) -> None:
            if len(shown) == self.slots:
                found.setdefault(shown, {})[chosen] = np.array(xs), np.array(rewards)
                return
            for kind, (gains, earned) in enumerate(self._options):
                for option, (gain, reward) in enumerate(zip(gains.tolist(), earned.tolist(), strict=True)):
                    after = copy.deepcopy(extent)
                    after.add(self.types[kind].requests, gain)
                    follow((*shown, kind), (*chosen, option), after, [*xs, extent.value], [*rewards, reward])

        follow((), (), RunningExtent(self.profile.memory), [], [])
        return found

    @cached_property
    def curves(self) -> list[Tabulated]:
        """The vertices: curves with a kink at each extent that can be reached."""
        extents = np.unique([x for plays in self._plays.values() for xs, _ in plays.values() for x in xs])
        kinks = [self._most]
        for extent in extents[::-1]:
            if SAME < extent < kinks[-1] - SAME:
                kinks.append(float(extent))
        low, steep = self.profile.slope_floor, self._rise
        return [
            Tabulated(
                x=tuple(dict.fromkeys((0.0, kink, self._most))),
                y=tuple(
                    self._start + low * x + steep * min(x / kink, 1.0) for x in dict.fromkeys((0.0, kink, self._most))
                ),
            )
            for kink in reversed(kinks)
        ]

    def _payoffs(self) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]], Array]]:
        """Yield what was shown, what can be chosen, and by curve what that earns as a part of the optimum."""
        for shown, plays in self._plays.items():
            chosen = list(plays)
            xs, rewards = (np.array([plays[one][k] for one in chosen]) for k in (0, 1))
            earned = np.array([(curve(xs) * rewards).sum(axis=1) for curve in self.curves])
            yield shown, chosen, earned / earned.max(axis=1, keepdims=True)

    def randomised(self) -> Value:
        """Return the best ratio in expectation, over an adversary that does not see what was drawn."""
        return self._solved(0)

    def deterministic(self, time_limit_s: float = 60.0) -> Value:
        """Return the best ratio of an algorithm without chance.

        Args:
            time_limit_s: After so long an interval is returned.
        """
        return self._solved(1, time_limit_s)

    def _solved(self, integrality: int, time_limit_s: float = math.inf) -> Value:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        # Variable 0 is the ratio, the others say how likely the plan makes each choice where chance shows its types.
        places: dict[Node, int] = {}
        equal: list[tuple[int, int, float]] = []
        rows = 0
        for depth in range(self.slots):
            for shown in product(range(len(self.types)), repeat=depth + 1):
                for before in product(*(range(len(self._options[kind][0])) for kind in shown[:-1])):
                    parent = (shown[:-1], before)
                    if depth:
                        equal.append((rows, places[parent], -1.0))
                    for option in range(len(self._options[shown[-1]][0])):
                        node = shown, (*before, option)
                        places[node] = len(places) + 1
                        equal.append((rows, places[node], 1.0))
                    rows += 1
        size, roots = len(places) + 1, len(self.types)
        sums = np.zeros(rows)
        sums[:roots] = 1.0
        at, columns, values, count = [], [], [], 0
        for shown, chosen, parts in self._payoffs():
            mine = np.array([places[shown, one] for one in chosen])
            for part in parts:
                at += [count] * (len(mine) + 1)
                columns += [0, *mine.tolist()]
                values += [-1.0, *part.tolist()]
                count += 1
        least = csr_array((values, (at, columns)), shape=(count, size))
        belongs, node_at, signs = zip(*equal, strict=True)
        flow = csr_array((signs, (belongs, node_at)), shape=(rows, size))
        aim = np.zeros(size)
        aim[0] = -1.0
        whole = np.full(size, integrality)
        whole[0] = 0
        options: Any = {} if math.isinf(time_limit_s) else {"time_limit": time_limit_s}
        answer = milp(
            aim,
            constraints=[LinearConstraint(least, 0.0, np.inf), LinearConstraint(flow, sums, sums)],
            bounds=Bounds(0.0, 1.0),
            integrality=whole,
            options=options,
        )
        if answer.x is None:
            return Value(0.0, float(-answer.mip_dual_bound) if answer.mip_dual_bound is not None else 1.0)
        low = float(-answer.fun)
        return Value(low, low if not integrality else float(-answer.mip_dual_bound))

    def ratio(self, allocator: Allocator, seeds: Sequence[int] = (0,)) -> float:
        """Return what an allocator guarantees in the game: its worst ratio, in expectation over seeds of its draws."""
        span = min(kind.requests for kind in self.types), max(kind.requests for kind in self.types)
        worst = 1.0
        profiles = [self.profile.model_copy(update={"curve": curve, "drift_curve": ()}) for curve in self.curves]
        for shown, plays in self._plays.items():
            xs, rewards = (np.array([one[k] for one in plays.values()]) for k in (0, 1))
            trace = _trace([self.types[kind] for kind in shown])
            for profile in profiles:
                best = float((profile.curve(xs) * rewards).sum(axis=1).max())
                values = [evaluate(profile, trace, allocator, seed=seed, requests_range=span).value for seed in seeds]
                worst = min(worst, float(np.mean(values)) / best)
        return worst


def _trace(kinds: Sequence[SlotType]) -> Trace:
    """Return a trace of slots of some types."""
    return Trace(
        requests=np.array([kind.requests for kind in kinds]), budget_macs=np.array([kind.budget_macs for kind in kinds])
    )


@dataclass(frozen=True)
class Shape:
    """What a game is like, apart from its configurations.

    Attributes:
        start: f(0) / F, in (0, 1).
        floor: L as a part of the slope of the chord, in (0, 1].
        spread: D_max / D_min, at least 1.
    """

    start: float
    floor: float
    spread: float = 1.0

    def __post_init__(self) -> None:
        for name, value, allowed, fits in (
            ("start", self.start, "in (0, 1)", 0 < self.start < 1),
            ("floor", self.floor, "in (0, 1]", 0 < self.floor <= 1),
            ("spread", self.spread, "at least 1, finite", 1 <= self.spread < math.inf),
        ):
            if not fits:
                raise ScenarioError(f"game: {name}", f"found {value:g}", f"give numbers {allowed}")


@dataclass(frozen=True)
class Played:
    """What came of a game.

    Attributes:
        shape: Of the game.
        best: The value, chance allowed.
        without_chance: The value of algorithms without it.
        ratios: What allocators guarantee, by name.
        proved: Theorem 4's bound; NaN where it does not apply.
    """

    shape: Shape
    best: Value
    without_chance: Value
    ratios: dict[str, float]
    proved: float


def game_of(profile: Profile, slots: int, levels: int, shape: Shape, requests: float = 1000.0) -> Game:
    """Return the game of a profile's configurations.

    Args:
        profile: Its F is kept; f(0) and L are the shape's, and told to the allocators. A profile of many
            configurations is thinned to the first, the middle and the last of each kind.
        slots: T.
        levels: Number of budgets. Each just admits a pair, the cheapest and the dearest among them, since between two
            such budgets there is nothing to choose anew. With a spread of requests a slot may have the least or the
            most of them.
        shape: Of the game.
        requests: The most of a slot.

    Raises:
        ScenarioError: As of `Game`.
    """
    retraining, inference = (_few(undominated(kind)) for kind in (profile.retraining, profile.inference))
    most = retraining[-1].profit
    start = shape.start * profile.best_accuracy
    floor = shape.floor * (profile.best_accuracy - start) / most if most else profile.slope_floor
    changed = {
        "retraining": retraining, "inference": inference, "slope_floor": floor, "start_accuracy": start,
        "end_accuracy": profile.best_accuracy, "drift_curve": (), "table": (), "transfer": None, "batch_latency": (),
        "models": None, "curve": Tabulated(x=(0.0, most or 1.0), y=(start, profile.best_accuracy)),
    }  # fmt: skip
    costs = sorted({one.cost_macs + other.cost_macs for one in retraining for other in inference})
    admitting = sorted({costs[k] for k in np.rint(np.linspace(0, len(costs) - 1, levels)).astype(int).tolist()})
    types = [
        # Rounding must not make a pair too dear.
        SlotType(count, count * each * (1 + 2.0**-40))
        for count in dict.fromkeys((round(requests / shape.spread), requests))
        for each in admitting
    ]
    return Game(profile.model_copy(update=changed), slots, tuple(types))


def played(
    profile: Profile, slots: int, levels: int, shape: Shape, names: Sequence[str], time_limit_s: float = 60.0
) -> Played:
    """Solve the game of a profile, and let allocators play it.

    Args:
        profile: As in `game_of`.
        slots: As in `game_of`.
        levels: As in `game_of`.
        shape: As in `game_of`.
        names: Of the allocators.
        time_limit_s: For the value without chance.
    """
    from orric.allocators import make_allocator
    from orric.competitive.bounds import bounds

    game = game_of(profile, slots, levels, shape)
    ratios = {name: game.ratio(make_allocator(name)) for name in names}
    counts = np.full(slots, max(kind.requests for kind in game.types))
    # Both ends of the requests occur, where there are slots enough.
    counts[-1] = min(kind.requests for kind in game.types)
    budgets = np.full(slots, max(kind.budget_macs for kind in game.types))
    proved = bounds(game.profile, Trace(requests=counts, budget_macs=budgets))
    theorem = math.nan if "theorem4" in proved.unproved else proved.theorem4
    return Played(shape, game.randomised(), game.deterministic(time_limit_s), ratios, theorem)


def _few(configurations: Sequence[Any]) -> tuple[Any, ...]:
    """Return the first, the middle and the last of some configurations."""
    count = len(configurations)
    return tuple(configurations[k] for k in sorted({0, count // 2, count - 1}))
