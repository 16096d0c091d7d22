"""The ends that a request may come to; together they are all requests."""

from __future__ import annotations

IN_TIME, LATE, SHED, ABANDONED, LOST, WAITING = range(6)
FATES = ("in time", "late", "shed", "abandoned", "lost", "waiting")
