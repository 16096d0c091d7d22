"""Drives the real store and journal until it is killed; run by test_store.py.

usage: python keeper.py FOLDER ROUNDS

Every line on standard output was true when it was written: "slot N" is on the disk, "version N" serves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orric.edge.journal import Journal
from orric.edge.store import MODEL, WEIGHTS, Current, ModelStore


def main() -> None:
    """Keep records and versions."""
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    store, journal = ModelStore(folder, keep=3), Journal(folder / "journal")
    print("opened", flush=True)
    if not journal.records:
        journal.begin({"kind": "episode", "total": 0})
    slot = max((record["slot"] for record in journal.records if "slot" in record), default=0)
    for number in range(slot + 1, slot + rounds + 1):
        journal.append({"kind": "decision", "slot": number})
        print(f"slot {number}", flush=True)
        version = store.keep({MODEL: b"m" * 5000, WEIGHTS: b"%d" % number * 1000}, number, None)
        good = store.current.serving if store.current else version.number
        store.point_at(Current(version.number, good))
        print(f"version {version.number}", flush=True)
        if number % 7 == 0:
            store.point_at(Current(good, good))
            print(f"version {good}", flush=True)


if __name__ == "__main__":
    main()
