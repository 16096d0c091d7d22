"""The status page: what the daemon does, in one HTML document that asks `/v1/status` for news."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from orric import __version__

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon
    from orric.edge.slots import SlotRow


def status(daemon: Daemon) -> dict[str, Any]:
    """Return what the page shows, as plain values; nothing in it tells of this machine's files."""
    loop = daemon.loop
    found: dict[str, Any] = {
        "name": daemon.name, "mode": daemon.config.mode, "allocator": daemon.config.allocator,
        "slot_s": daemon.config.slot_s, "ready": daemon.ready, "version": __version__,
    }  # fmt: skip
    if loop is None:
        assert daemon.decisions is not None, "it serves or decides"
        return {**found, "slot": daemon.decisions.total, "slots": []}
    current = daemon.versions.current
    rows = list(loop.rows)
    return {
        **found,
        "slot": loop.total,
        "deadline_s": daemon.metrics.deadline_s,
        "paused": loop.paused,
        "serving": current.serving,
        "good": current.good,
        "pinned": current.pinned,
        "swaps": daemon.versions.swaps,
        "rollbacks": daemon.versions.rollbacks,
        "failures": dict(loop.failures),
        "samples": daemon.samples(),
        "anchor_accuracy": loop.learner.anchor_accuracy,
        "retraining": loop.learner.state(),
        "clock": {
            "number": daemon.slot_number,
            "missed": loop.missed,
            "overrun_s": loop.overrun_s,
            "left_s": daemon.left_s,
        },
        "beside": list(rows[-1].decision.beside) if rows else [],
        "slots": [_row(daemon, row) for row in rows],
    }


def _row(daemon: Daemon, row: SlotRow) -> dict[str, Any]:
    decision, counts = row.decision, row.counts
    retraining, inference = daemon.split(decision.requests[0], decision.budget_macs, decision.streams[0])
    shown: dict[str, Any] = {
        "slot": row.total, "expected": decision.requests[0], "budget_macs": decision.budget_macs,
        "retraining": decision.streams[0].retraining, "inference": decision.streams[0].inference,
        "retraining_part": retraining, "inference_part": inference, "reason": decision.reason,
        "overloaded": decision.overloaded, "version": row.outcome.version or row.version,
        "swapped": row.outcome.version is not None, "agreement": row.outcome.agreement,
        "failed": row.outcome.failed is not None, "unlearnt": row.outcome.unlearnt,
        "executed": row.outcome.executed, "stepped_back": row.outcome.stepped_back, "late_s": row.late_s,
        "ratio": row.ratio,
        "beside": {name: [one[0].retraining, one[0].inference] for name, one in decision.beside.items()},
    }  # fmt: skip
    if counts is not None:
        shown |= {
            "arrived": counts.arrived, "served": counts.served, "late": counts.late, "shed": counts.shed,
            "in_time": counts.in_time, "p50_s": counts.p50_s, "p99_s": counts.p99_s,
            "labelled": counts.right / counts.labelled if counts.labelled else None,
        }  # fmt: skip
    return shown


def page(daemon: Daemon) -> str:
    """Return the page."""
    text = files("orric.edge").joinpath("page.html").read_text(encoding="utf-8")
    return text.replace("{{name}}", html.escape(daemon.name))
