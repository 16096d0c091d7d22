"""Results read back from a result folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

from orric.exceptions import ScenarioError, extra
from orric.records import COLUMNS, Result


def load_results(folder: Path) -> list[Result]:
    """Read the results of a run back: all that was written of them, which is all but the latencies.

    Args:
        folder: Of `orric run`.

    Raises:
        ScenarioError: It is none, or of an earlier version.
        MissingExtraError: pandas is not installed.
    """
    with extra("sim"):
        import pandas
    path = folder / "result.parquet"
    try:
        rows = pandas.read_parquet(path)
        gpus = pandas.read_parquet(folder / "gpus.parquet") if (folder / "gpus.parquet").is_file() else None
        scenario = tomllib.loads((folder / "scenario.toml").read_text(encoding="utf-8"))
        streams = scenario.get("stream", [])
        if missing := [name for name in (*COLUMNS, "allocator", "accuracy_model", "seed") if name not in rows]:
            raise KeyError(f"no column {missing[0]!r}")
    except (OSError, ValueError, KeyError) as error:
        raise ScenarioError(str(path), f"cannot be read ({error})", "make the folder anew with orric run") from None
    found: list[Result] = []
    for (model, name), mine in rows.groupby(["accuracy_model", "allocator"], sort=False):
        # Lines of several accuracy models follow upon one another, and so do the rows of their GPUs.
        place = sum(result.allocator == name for result in found)
        of_gpus = {}
        if gpus is not None and len(theirs := gpus[gpus["allocator"] == name]):
            length = len(theirs) // rows[rows["allocator"] == name]["accuracy_model"].nunique()
            part = theirs.iloc[place * length : (place + 1) * length]
            of_gpus = {str(column): part[column].to_numpy() for column in part if column != "allocator"}
        found.append(
            Result(
                allocator=str(name),
                engine="simulator",
                accuracy_model=str(model),
                seed=int(mine["seed"].iloc[0]),
                columns={column: mine[column].to_numpy() for column in COLUMNS},
                gpu_columns=of_gpus,
                has_deadlines=any("deadline_s" in stream for stream in streams),
            )
        )
    return found
