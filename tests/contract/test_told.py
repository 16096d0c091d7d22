"""Nobody is told the future: what an allocator knows before a slot does not depend on what comes from that slot on.

And what it knows lies in what it was told: the records alone restore it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import orric
from orric.comparison import _profiled
from orric.randomness import generator
from orric.scenario import Fault, Gpu, Stream

from ..builders import PROFILES, ROOT
from .overhearing import Overhearing
from .problems import NAMES, every_allocator

pytest.importorskip("simpy", reason="needs orric[sim]")

SLOTS, FROM, SEED = 10, 7, 3
PROFILED = ("thief", "fair-share")


def column(path: Path, name: str, before: Sequence[float], later: Sequence[float]) -> str:
    """Write a trace whose one column changes from slot FROM on; return its path."""
    values = [*before[: FROM - 1], *later[FROM - 1 :]]
    header = "slot,requests,budget_macs" if name == "requests" else "slot,gpu,budget_macs"
    rows = [f"{t},{value:g},1e9" if name == "requests" else f"{t},gpu0,{value:g}" for t, value in enumerate(values, 1)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def crowd(folder: Path, later: bool) -> orric.Scenario:
    """Return four streams on two GPUs that know nothing of the future; `later` changes all that comes from FROM on."""
    counts = [400.0, 700.0, 300.0, 500.0, 900.0, 300.0, 600.0, 400.0, 700.0, 500.0]
    given: dict[str, Any] = {"profile": str(PROFILES / "digits.toml"), "deadline_s": 3.0}
    requests = [
        ({"csv": column(folder / "a.csv", "requests", counts, [7.0, 5000.0] * 5 if later else counts)}, "upload"),
        (
            {
                "csv": column(folder / "b.csv", "requests", counts, [3.0, 4000.0] * 5 if later else counts),
                "count": "drawn",
            },
            "poisson",
        ),
        ({"kind": "uniform", "low": 300, "high": 700}, "bursty"),
        ({"kind": "rate", "per_s": 8.0}, "gamma"),
    ]
    severities = [1, 1, 2, 2, 2, 3, *([5, 0, 5, 0] if later else [3, 3, 4, 4])]
    streams = tuple(
        Stream(
            name=f"s{k}",
            requests=some,
            arrivals=arrivals,
            forecast="oracle" if k == 0 else "ewma",
            headroom=0.25 if k == 2 else 0.0,
            drift={"kind": "steps", "corruption": "fog", "severities": severities},
            **given,
        )
        for k, (some, arrivals) in enumerate(requests)
    )
    budgets = [4e9, 6e9, 5e9, 7e9, 3e9, 5e9, 6e9, 5e9, 4e9, 5e9]
    gpus = (
        Gpu(
            name="gpu0",
            macs_per_s=1.2e8,
            budget={"csv": column(folder / "c.csv", "budget", budgets, [5e8, 7e9] * 5 if later else budgets)},
        ),
        Gpu(name="gpu1", macs_per_s=1e8, budget={"kind": "uniform", "low": 0.4, "high": 0.9}),
    )
    faults = (
        Fault(kind="burst", stream="s2", slots=(FROM,), factor=9.0),
        Fault(kind="gpu-stall", gpu="gpu1", slots=(FROM + 1,), duration_s=20.0),
        Fault(kind="retraining-crash", stream="s1", slots=(FROM, FROM + 2)),
    )
    return orric.Scenario(
        name="crowd", slots=SLOTS, slot_s=60.0, allocators=("orric",), gpu=gpus, stream=streams,
        fault=faults if later else (),
    )  # fmt: skip


def overheard(scenario: orric.Scenario, name: str) -> Overhearing:
    """Return an allocator that was simulated."""
    allocator = Overhearing(made(scenario, name))
    orric.simulate(scenario, allocator, seed=SEED)
    return allocator


def made(scenario: orric.Scenario, name: str) -> orric.Allocator:
    return _profiled(scenario, orric.make_allocator(name), SEED)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> orric.Scenario:
    return crowd(tmp_path_factory.mktemp("plain"), later=False)


@pytest.fixture(scope="module")
def otherwise(tmp_path_factory: pytest.TempPathFactory) -> orric.Scenario:
    return crowd(tmp_path_factory.mktemp("otherwise"), later=True)


@every_allocator
def test_what_is_told_before_a_slot_does_not_depend_on_what_comes_from_it_on(
    name: str, plain: orric.Scenario, otherwise: orric.Scenario
) -> None:
    one, other = overheard(plain, name), overheard(otherwise, name)
    assert one.task == other.task
    assert one.slots[: FROM - 1] == other.slots[: FROM - 1]
    assert one.decided[: FROM - 1] == other.decided[: FROM - 1]
    before = [[record for record in each.told if record.slot < FROM] for each in (one, other)]
    assert before[0] == before[1]
    assert one.slots != other.slots, "what comes later is something else"


@every_allocator
@pytest.mark.parametrize("seen", [1, FROM, SLOTS])
def test_records_alone_restore_what_was_learned(name: str, seen: int, plain: orric.Scenario) -> None:
    whole = overheard(plain, name)
    restored = Overhearing(made(plain, name))
    restored.reset(whole.task, generator(SEED, "allocator"))
    for record in whole.told:
        if record.slot < seen:
            restored.observe(record)
    assert restored.decide(whole.slots[seen - 1]) == whole.decided[seen - 1]


@pytest.mark.parametrize("name", ["orric-joint", "orric-guided", "orric-placing", "thief"])
def test_a_burst_changes_nothing_before_it(name: str) -> None:
    """As it once did: the range of requests was read off the whole run, and with it every decision."""
    scenario = orric.load_scenario(ROOT / "simulations/rush-hour.toml")
    calm = scenario.model_copy(update={"fault": ()})
    first = min(slot for fault in scenario.fault for slot in fault.slots)
    assert first > 10
    rows = [orric.simulate(one, orric.make_allocator(name), seed=1).allocations for one in (scenario, calm)]
    before = [[row for row in each if row["slot"] < first] for each in rows]
    assert before[0] == before[1]


def test_every_allocator_is_among_them() -> None:
    assert {"orric", "orric-joint", "orric-guided", "orric-placing", *PROFILED} <= set(NAMES)
