"""Report how long orric takes to import, to print its help and to run the main job, and in how much memory.

usage: python tests/benchmarks/start_up.py      (about a minute and a half on two cores)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
ORRIC = [sys.executable, "-m", "orric"]
HEAVY = ("torch", "onnxruntime", "simpy", "pandas", "matplotlib")
REPEATS = 7


def fastest(command: list[str]) -> float:
    """Return the seconds of the fastest of several runs of a command, the interpreter's own start included."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def main_job() -> tuple[float, float]:
    """Run the quickstart; return its seconds and the largest memory of all its processes together, in GB."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        command = [*ORRIC, "run", "simulations/quickstart.toml", "--output", f"{folder}/quickstart", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        most = 0
        while process.poll() is None:
            most = max(most, _proportional_memory(process.pid))
            time.sleep(0.1)
        if process.returncode:
            sys.exit(f"the main job failed with status {process.returncode}")
        return time.perf_counter() - begun, most / 1e9


def _proportional_memory(pid: int) -> int:
    """Add up the memory of a process and its children, shared pages counted once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        pass
    return total


def main() -> None:
    """Print the figures beside their targets."""
    loaded = f"import orric, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    modules = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True, cwd=ROOT)
    bare = fastest([sys.executable, "-c", "pass"])
    print(f"import orric         {fastest([sys.executable, '-c', 'import orric']) - bare:8.3f} s   target 0.2 s")
    print(f"heavy modules loaded {modules.stdout.strip():>8}     target []")
    print(f"orric --help         {fastest([*ORRIC, '--help']):8.3f} s   target 0.5 s")
    seconds, memory = main_job()
    print(f"main job             {seconds:8.1f} s   target 90 s")
    print(f"main job, memory     {memory:8.2f} GB  target 2 GB")


if __name__ == "__main__":
    main()
