"""Reports of small and large runs: how big they are, how long they take to write and to open, and what they look like.

    python tests/benchmarks/reports.py [--pictures FOLDER] [--only NAME ...]

Runs quickstart, cameras, a server of 500 streams and one of 86,400 slots with two allocators each, writes their
reports, and opens each in Chromium at 1,280 and 400 pixels, light and dark. Milliseconds are from the begin of
navigation to the moment when every figure is drawn. Any complaint of the browser's console ends it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import orric
from orric.comparison import lines, simulate_line
from orric.report.page import page
from orric.scenario import Gpu, Scenario, Stream

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.browser import CHROMIUM, browser  # noqa: E402

MOST_BYTES = 3_000_000
NAMES = ("quickstart", "cameras", "500 streams", "86,400 slots")


def server(name: str, slots: int, streams: int, gpus: int, slot_s: float) -> Scenario:
    """Return a scenario of alike streams whose drift begins at different times."""
    profile = str(ROOT / "traces" / "profiles" / "digits.toml")
    return Scenario(
        name=name,
        slots=slots,
        slot_s=slot_s,
        allocators=("orric", "inference-only"),
        gpu=tuple(
            Gpu(
                name=f"gpu{n}",
                macs_per_s=1.2e7 * streams / gpus,
                budget={"kind": "uniform", "low": 0.5, "high": 1.0},
                power={"idle_w": 10.0, "busy_w": 40.0},
            )
            for n in range(gpus)
        ),
        stream=tuple(
            Stream(
                name=f"camera-{k:03d}",
                profile=profile,
                gpu=f"gpu{k % gpus}",
                requests={"kind": "uniform", "low": int(0.2 * slot_s), "high": int(2 * slot_s), "count": "drawn"},
                arrivals="poisson",
                deadline_s=5.0,
                drift={"kind": "steps", "corruption": "fog", "severities": [(k + n) % 6 for n in range(6)]},
            )
            for k in range(streams)
        ),
    )


def scenarios(only: list[str]) -> Iterator[tuple[str, Scenario]]:
    """Yield what is to be reported."""
    made = {
        "quickstart": lambda: orric.load_scenario(ROOT / "simulations" / "quickstart.toml"),
        "cameras": lambda: orric.load_scenario(ROOT / "simulations" / "cameras.toml"),
        "500 streams": lambda: server("500 streams", 60, 500, 8, 30.0),
        "86,400 slots": lambda: server("86,400 slots", 86_400, 10, 2, 10.0),
    }
    yield from ((name, made[name]()) for name in only)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="Folder for pictures of every page.")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    given = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("this needs Chromium")
    bad = []
    opened = "ready after (ms), at 1280 light, dark, 400 light, dark"
    print(f"{'report':14}{'simulated':>11}{'written':>9}{'size':>10}   {opened}")
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as shown:
        for name, scenario in scenarios(given.only):
            begun = time.perf_counter()
            results = [simulate_line(scenario, "curve", line, 1) for line in lines(scenario, "curve")]
            simulated = time.perf_counter()
            text = page(
                name,
                results,
                {"seed": 1},
                deadlines_s={one.name: one.deadline_s for one in scenario.stream if one.deadline_s is not None},
                capacities_macs={one.name: one.macs_per_s * scenario.slot_s for one in scenario.gpu},
                slot_s=scenario.slot_s,
            )
            written = time.perf_counter()
            path = Path(folder) / "report.html"
            path.write_text(text, encoding="utf-8")
            took = []
            for width in (1280, 400):
                for scheme in ("light", "dark"):
                    shown.colours(scheme)
                    shown.errors.clear()
                    shown.open(path, width)
                    shown.wait("document.body.dataset.ready === 'true'")
                    took.append(int(shown.value("document.body.dataset.milliseconds")))
                    bad += [f"{name} at {width}, {scheme}: {error}" for error in shown.errors]
                    if shown.value("document.documentElement.scrollWidth") > width:
                        bad.append(f"{name} at {width}: wider than the window")
                    if given.pictures:
                        given.pictures.mkdir(parents=True, exist_ok=True)
                        stem = "".join(one if one.isalnum() else "-" for one in name)
                        shown.picture(given.pictures / f"{stem}-{width}-{scheme}.png")
            size = path.stat().st_size
            if size > MOST_BYTES:
                bad.append(f"{name}: {size} bytes")
            print(
                f"{name:14}{simulated - begun:9.1f} s{written - simulated:7.1f} s{size / 1e6:7.2f} MB   "
                + " ".join(f"{one:6d}" for one in took)
                + f"   median {np.median(took):.0f}",
                flush=True,
            )
    if bad:
        sys.exit("\n".join(bad))


if __name__ == "__main__":
    main()
