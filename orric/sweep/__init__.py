"""Sweeps: a grid of scenarios, allocators and seeds, on one machine or a cluster, resumable."""

from orric.sweep.conduct import Outcome, Progress, check_all, run_sweep
from orric.sweep.engines import on_cluster, on_cores
from orric.sweep.plan import Sweep

__all__ = ["Outcome", "Progress", "Sweep", "check_all", "on_cluster", "on_cores", "run_sweep"]
