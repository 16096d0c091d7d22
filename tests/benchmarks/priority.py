"""Compare the compiled simulator with the plain one on random servers that are all shared in one way.

usage: python tests/benchmarks/priority.py [--scenarios 300] [--sharing priority]      (about a quarter of a minute)

Every request and every column must be equal to 1e-9, as in tests/simulation/test_plain.py, whose scenarios share their
GPUs in all ways there are; the seeds here are others. Exit status 1 where they are not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.simulation.random_server import SHARINGS  # noqa: E402
from tests.simulation.test_plain import compare  # noqa: E402

FIRST_SEED = 10_000
# What priority is about, and must have come up.
SEEN = ("grain", "held by a grain", "slowed", "retraining waits", "late", "moved")


def main() -> int:
    """Compare, and print what came up."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", type=int, default=300)
    parser.add_argument("--sharing", choices=SHARINGS, default="priority")
    given = parser.parse_args()
    seen: Counter[str] = Counter()
    unequal, begin_s = [], time.perf_counter()
    for seed in range(FIRST_SEED, FIRST_SEED + given.scenarios):
        with tempfile.TemporaryDirectory() as folder:
            try:
                seen += compare(seed, Path(folder), given.sharing)
            except AssertionError as error:
                unequal.append(seed)
                print(error)
    taken_s = time.perf_counter() - begin_s
    print(f"{given.scenarios} scenarios, sharing {given.sharing}: {len(unequal)} unequal; {taken_s:.0f} s")
    for what, count in sorted(seen.items()):
        print(f"{what:24} {count:8,}")
    absent = set(SEEN) - set(seen) if given.sharing == "priority" else set()
    if absent:
        print(f"never came up: {', '.join(sorted(absent))}")
    return int(bool(unequal or absent))


if __name__ == "__main__":
    sys.exit(main())
