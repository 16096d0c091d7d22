"""Import a week of requests, and compare time and memory with an earlier build of orric, run in turns.

usage: python tests/benchmarks/importing.py [--rows 27303999] [--turns 3] [--against 24e9a43]      (some minutes)

The file is generated in the layout of the conversation trace of Azure's LLM services of 2024: 27,303,999 rows, times
with microseconds and a zone. Every import is a process of its own, whose start counts. The earlier build, taken from
git into a temporary folder, reads a sample of so many rows as --sample says, since it needs some 266 bytes a row; both
read it by the format `timestamps`, to the same bytes. Rows per second are compared on the sample, and told of the whole
file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ROWS, SAMPLE, WEEK_US = 27_303_999, 3_000_000, 7 * 86_400_000_000
CHUNK = 250_000
# Prints the most memory that the process held, in bytes, after the command has run.
RUN = """
import sys
from pathlib import Path
from orric.cli import main
try:
    main()
finally:
    # Not getrusage, which counts what the parent held when it started this process.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024, file=sys.stderr)
"""


def write(path: Path, rows: int, seed: int = 1) -> None:
    """Write so many requests, spread over a week in order of time."""
    rng = np.random.default_rng(seed)
    start = np.datetime64("2024-05-12T00:00:00", "us").astype(np.int64)
    edges = np.linspace(0, WEEK_US, -(-rows // CHUNK) + 1).astype(np.int64)
    with path.open("w", encoding="ascii") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for number, (low, high) in enumerate(pairwise(edges)):
            count = min(CHUNK, rows - number * CHUNK)
            times = np.sort(rng.integers(low, high, count)) + start
            texts = np.datetime_as_string(times.astype("datetime64[us]")).tolist()
            tokens = rng.integers(1, 8000, (count, 2)).tolist()
            file.writelines(
                f"{text[:10]} {text[11:]}+00:00,{given},{generated}\n"
                for text, (given, generated) in zip(texts, tokens, strict=True)
            )


def imported(build: Path, source: Path, form: str, output: Path) -> tuple[float, int]:
    """Return seconds and bytes of an import by a build of orric, start of the process included."""
    command = [
        sys.executable,
        "-c",
        RUN,
        "trace",
        "import",
        str(source),
        "--format",
        "timestamps",
        "--column",
        "TIMESTAMP",
    ]
    command += ["--as", form, "--output", str(output), "--json"]
    command += ["--budget-macs", "1e12"] if form == "slots" else []
    begun = time.perf_counter()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(build)}, cwd=build
    )
    return time.perf_counter() - begun, int(done.stderr.split()[-1])


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the whole file")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="rows that both builds read")
    parser.add_argument("--turns", type=int, default=3, help="turns of both builds")
    parser.add_argument("--against", default="24e9a43", help="commit of the earlier build")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "earlier"
        earlier.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", options.against, "orric"], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive.stdout, check=True)
        answer = measured(options, Path(folder), earlier)
    if options.json:
        print(json.dumps(answer))
        return
    for name, figures in answer.items():
        told = ", ".join(f"{key} {value:,.4g}" for key, value in figures.items())
        print(f"{name}: {told}")


def measured(options: argparse.Namespace, folder: Path, earlier: Path) -> dict[str, dict[str, float]]:
    """Return the figures of both builds on the sample, and of this one on the whole file."""
    sample, whole, output = folder / "sample.csv", folder / "whole.csv", folder / "output.csv"
    write(sample, options.sample)
    answer: dict[str, dict[str, float]] = {}
    for form in ("slots", "timestamps"):
        turns = []
        for _ in range(options.turns):
            before, before_bytes = imported(earlier, sample, form, output)
            content = output.read_bytes()
            now, now_bytes = imported(ROOT, sample, form, output)
            if output.read_bytes() != content:
                raise SystemExit(f"both builds import the sample as {form}, and not alike")
            turns.append((before / now, options.sample / before, options.sample / now, before_bytes, now_bytes))
        faster, before_rate, rate, before_bytes, now_bytes = map(statistics.median, zip(*turns, strict=True))
        answer[f"{form}, {options.sample:,} rows"] = {
            "times as fast": faster,
            "rows/s": rate,
            "rows/s before": before_rate,
            "MB": now_bytes / 1e6,
            "MB before": before_bytes / 1e6,
        }
    write(whole, options.rows)
    for form in ("slots", "timestamps"):
        seconds, most = imported(ROOT, whole, form, output)
        answer[f"{form}, {options.rows:,} rows"] = {
            "s": seconds,
            "rows/s": options.rows / seconds,
            "MB": most / 1e6,
            "bytes a row": most / options.rows,
        }
    return answer


if __name__ == "__main__":
    main()
