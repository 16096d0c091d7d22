"""How fast everybody on a GPU is at an instant, from the definitions."""

from __future__ import annotations

import math

from .plain_state import Gpu, Stream

# Of every stream, by index: the speed, and what it uses of the GPU; of serving that is each batch in service.
Paces = dict[int, tuple[float, float]]


def speeds(gpu: Gpu, now_s: float, lends: bool) -> tuple[Paces, Paces, float]:
    """Return the paces of serving and of retraining, and until when at most they hold.

    Args:
        gpu: The GPU.
        now_s: The instant.
        lends: Whether serving gets the share of retraining that is not under way, in a hard partition.
    """
    serving, learning = ({stream.index: (0.0, 0.0) for stream in gpu.streams} for _ in range(2))
    sharing = gpu.spec.sharing
    if gpu.still_until_s:
        return serving, learning, float("inf")
    if sharing.model not in ("weighted", "priority"):
        return serving, learning, partition(gpu, now_s, lends, serving, learning)
    pool = gpu.pool
    by_batch = sharing.model == "weighted" and sharing.per == "batch"
    served, learned = gpu.served(now_s), gpu.learned()
    # A share of nothing is next to nothing: what others leave.
    least = 1e-4 * pool
    classes = [(serving, one, max(one.shares[1], least) * (len(one.batches) if by_batch else 1)) for one in served]
    jobs = [(learning, one, max(one.shares[0], least)) for one in learned]
    if sharing.model == "weighted":
        classes += jobs
    elif not classes or (gpu.grain_s > 0 and jobs):
        classes = jobs
    slowdown = sharing.slowdown if any(stream.job for stream in gpu.streams) else 1.0
    total = sum(weight for _, _, weight in classes)
    for kind, stream, weight in classes:
        use = pool * weight / total
        if kind is serving:
            each = use / len(stream.batches)
            kind[stream.index] = each / slowdown, each
        else:
            kind[stream.index] = use, use
    return serving, learning, float("inf")


def lent(gpu: Gpu, lends: bool) -> float:
    """Return by what serving's shares of a hard partition grow."""
    total = sum(stream.shares[1] for stream in gpu.streams)
    idle = sum(stream.shares[0] for stream in gpu.streams if stream.job is None)
    return 1 + idle / total if lends and total > 0 else 1.0


def partition(gpu: Gpu, now_s: float, lends: bool, serving: Paces, learning: Paces) -> float:
    """Fill in the paces of a hard partition; return until when at most they hold."""
    place_s, until_s, more = 0.0, float("inf"), lent(gpu, lends)
    for stream in gpu.streams:
        shares = stream.shares[1] * more, stream.shares[0] if stream.job else 0.0
        for kind, share in zip((serving, learning), shares, strict=True):
            speed, use, edge_s = worth_of(gpu, now_s, share, place_s)
            until_s = min(until_s, edge_s)
            if gpu.spec.sharing.model == "time-slice":
                place_s += share * gpu.spec.sharing.round_s
            workers = stream.spec.workers if kind is serving else 1
            kind[stream.index] = speed / workers, use / workers
        if now_s < stream.paused_until_s:
            serving[stream.index] = 0.0, 0.0
    return until_s


def worth_of(gpu: Gpu, now_s: float, share: float, place_s: float) -> tuple[float, float, float]:
    """Return speed and use of a share of a hard partition, whose slices begin at a place of the round, and until when.

    Rounds are counted from when the shares began to hold.
    """
    sharing, never = gpu.spec.sharing, float("inf")
    if share <= 0:
        return 0.0, 0.0, never
    if sharing.model == "time-slice":
        begin_s, end_s = place_s + sharing.switch_s, place_s + share * sharing.round_s
        if begin_s >= end_s:
            return 0.0, 0.0, never
        rounds = math.floor((now_s - gpu.origin_s) / sharing.round_s)
        edges = [
            (gpu.origin_s + n * sharing.round_s + place, on)
            for n in range(rounds - 1, rounds + 3)
            for place, on in ((begin_s, 0.0), (end_s, 1.0))
        ]
        edge_s, on = next(edge for edge in edges if edge[0] > now_s + 1e-12)
        return on, on, edge_s
    fixed = sharing.fixed if sharing.model == "saturating" else 0.0
    return 1 / (fixed + (1 - fixed) / share), share, never


def stands_still(gpu: Gpu, stream: Stream, now_s: float, lends: bool) -> bool:
    """Say whether no batch of a stream may start."""
    sharing, share = gpu.spec.sharing, stream.shares[1]
    if sharing.model == "time-slice" and share * lent(gpu, lends) * sharing.round_s <= sharing.switch_s:
        return True
    if sharing.model in ("weighted", "priority"):
        share = gpu.pool
    return share <= 0 or now_s < stream.paused_until_s or bool(gpu.still_until_s)
