"""Upper bounds of the value function: the compiled passes behind `offline_optimum`.

V_t(x) is what slots t..T can still earn from learning extent x. Backwards from the last slot it is bounded from
above by continuous, piecewise linear functions U_t. Seen through slot t's options, U_{t+1} and the learning curve
give a function that is convex between finitely many places; U_t runs above it at all of them, by at most a
tolerance that may differ from extent to extent. So a bound errs upward, and what it errs by is no more than the
sum of the tolerances along the best path, the curve's bow between two places, and the outward rounding.

Arrays over slots are flat: the points of U_t are `extents[starts[t] : starts[t + 1]]`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from orric.compiled import compiled

Array = np.ndarray[Any, Any]
# Concave, piecewise linear curves: where each begins, extents, accuracies, slopes behind each point, curve per slot.
Tables: TypeAlias = tuple[Array, Array, Array, Array, Array]
# Relative error allowed for some floating-point operations, each good to 2^-53, the checker's among them.
ROUNDING = 2.0**-47
# A curve's table with fewer points than this is taken for measured points, whose kinks are worth a place each.
KINKS = 256
# Places closer than this (relative to the largest profit) count as one.
NEAR = 2.0**-46
# No piece is drawn shorter than this: its slope, which the rounding of places is multiplied by, might be any.
SHORTEST = 2.0**-30
# How many times as long a line that falls has to be.
FALLING = 2.0**10


@compiled
def _line(extents: Array, bounds: Array, k: int, last: int, place: float) -> Any:
    """Evaluate U between its points k and k + 1; a function of one point is constant."""
    if k >= last:
        return bounds[last]
    part = (place - extents[k]) / (extents[k + 1] - extents[k])
    return bounds[k] + (bounds[k + 1] - bounds[k]) * min(max(part, 0.0), 1.0)


@compiled
def _piece(extents: Array, first: int, last: int, place: float) -> int:
    """Return the index of the last point of U at or before an extent."""
    low, high = first, max(last - 1, first)
    while low < high:
        middle = (low + high + 1) // 2
        if extents[middle] <= place:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def value_at(extents: Array, bounds: Array, first: int, last: int, place: float) -> Any:
    """Evaluate the piecewise linear function with points first..last."""
    return _line(extents, bounds, _piece(extents, first, last, place), last, place)


@compiled
def _bow(extents: Array, slopes: Array, left: int, right: int, last: int, begin: float, end: float) -> Any:
    """Return how far a concave curve may rise above its chord: it lies below both end tangents.

    The table's piece `left` holds `begin`, its piece `right` holds `end`. Its slopes are given, because differences
    of its values over short pieces are mostly rounding.
    """
    if left == right or left >= last:
        return 0.0
    if extents[right] >= end:
        right -= 1
    return 0.25 * max(slopes[left] - slopes[right], 0.0) * (end - begin)


@compiled
def _places(
    low: float,
    high: float,
    keep: float,
    shifts: Array,
    extents: Array,
    first: int,
    last: int,
    old_extents: Array,
    old_first: int,
    old_last: int,
    pieces: Array,
    knots: Array,
    near: float,
    out: Array,
) -> int:
    """Write the ascending places of slot t at which U_t must be checked; return how many.

    These are the ends of the domain, the points of U_{t+1} seen through every option, the points of the last
    level's U_t cut into `pieces` each, which holds the curve's bow down, and the curve's kinks.
    """
    options = len(shifts)
    heads = np.full(options, first)
    # What each option, the cuts and the kinks give next; the sources stand in a heap, the least in front.
    ahead = np.full(options + 2, np.inf)
    for i in range(options):
        if keep <= 0.0:
            heads[i] = last + 1
        while heads[i] <= last and extents[heads[i]] - shifts[i] <= keep * low:
            heads[i] += 1
        if heads[i] <= last:
            ahead[i] = (extents[heads[i]] - shifts[i]) / keep
    old, part, knot = old_first, 1, 0
    if old < old_last:
        ahead[options] = old_extents[old] + (old_extents[old + 1] - old_extents[old]) * (part / pieces[old])
    while knot < len(knots) and knots[knot] <= low:
        knot += 1
    if knot < len(knots):
        ahead[options + 1] = knots[knot]
    sources = np.argsort(ahead)
    count = 1
    out[0] = low
    while ahead[sources[0]] < high:
        which = sources[0]
        place = ahead[which]
        if place > out[count - 1] + near and place < high - near:
            out[count] = place
            count += 1
        following = np.inf
        if which < options:
            heads[which] += 1
            if heads[which] <= last:
                following = (extents[heads[which]] - shifts[which]) / keep
        elif which == options:
            part += 1
            if part > pieces[old]:
                old, part = old + 1, 1
            if old < old_last:
                following = old_extents[old] + (old_extents[old + 1] - old_extents[old]) * (part / pieces[old])
        else:
            knot += 1
            if knot < len(knots):
                following = knots[knot]
        ahead[which] = following
        n = 0
        while 2 * n + 1 < len(sources):
            child = 2 * n + 1
            if child + 1 < len(sources) and ahead[sources[child + 1]] < ahead[sources[child]]:
                child += 1
            if following <= ahead[sources[child]]:
                break
            sources[n] = sources[child]
            n = child
        sources[n] = which
    if high > low:
        out[count] = high
        count += 1
    return count


@compiled
def _hull(x: Array, y: Array, room: Array, count: int) -> int:
    """Reduce points to their upper concave hull in place; return how many remain."""
    kept = 0
    for k in range(count):
        while kept >= 2 and (y[kept - 1] - y[kept - 2]) * (x[k] - x[kept - 2]) <= (y[k] - y[kept - 2]) * (
            x[kept - 1] - x[kept - 2]
        ):
            kept -= 1
        x[kept], y[kept], room[kept] = x[k], y[k], room[k]
        kept += 1
    return kept


@compiled
def _simplified(x: Array, y: Array, room: Array, count: int, shortest: float, out_x: Array, out_y: Array) -> int:
    """Write few points whose lines run above (x, y), by at most `room`; return how many. O(count).

    From each point the longest line is drawn for which some slope keeps it in the tube, with the lowest such slope. A
    line that would be shorter than `shortest` is drawn on above the points, whatever their room.
    """
    out_x[0], out_y[0] = x[0], y[0]
    written, k = 1, 1
    while k < count:
        begin, level = out_x[written - 1], out_y[written - 1]
        # What it bounds rises, so a line falls only where it has to come down from a looser part of the tube.
        falls = y[k] + room[k] < level
        least, most = -np.inf if falls else 0.0, np.inf
        fewest = FALLING * shortest if falls else shortest
        while k < count:
            width = x[k] - begin
            low, high = (y[k] - level) / width, (y[k] + room[k] - level) / width
            if max(low, least) > min(high, most) and x[k - 1] - begin >= fewest:
                break
            least, most = max(low, least), min(high, most)
            k += 1
        if x[k - 1] - begin < fewest:  # the end of the domain
            least = max(least, 0.0)
        out_x[written] = x[k - 1]
        out_y[written] = max(level + least * (x[k - 1] - begin), y[k - 1])
        written += 1
    return written


@compiled
def bound_backward(
    low: Array,
    high: Array,
    keep: Array,
    weight: Array,
    gains: Array,
    rewards: Array,
    counts: Array,
    tables: Array,
    table_x: Array,
    table_y: Array,
    table_s: Array,
    which: Array,
    most: float,
    old_starts: Array,
    old_extents: Array,
    tolerance: Array,
    envelope: bool,
    capacity: int,
) -> tuple[Array, Array, Array]:
    """Bound V_t for t = T..1.

    Args:
        low: Least reachable extent of each slot, shape (T,).
        high: Largest reachable extent, shape (T,).
        keep: Share of x that stays in the next slot's extent, shape (T,).
        weight: Share that the slot's own profit gets, 1 - keep, shape (T,).
        gains: Profits of the options, shape (T, M).
        rewards: Rewards of the options, shape (T, M).
        counts: Number of options, shape (T,).
        tables: Where each curve's concave, piecewise linear upper bound begins in the next two, shape (curves + 1,).
        table_x: Its extents, flat.
        table_y: Its accuracies, flat.
        table_s: Its slope behind each point, flat.
        which: Curve of each slot, shape (T,).
        most: A^T_max.
        old_starts: Points of the level before, flat.
        old_extents: Their places.
        tolerance: By how much U_t may exceed what it bounds, for the piece behind each of those points.
        envelope: Bound by concave functions only.
        capacity: Largest number of points altogether; beyond it `starts[0]` of the answer is -1.

    Returns:
        starts, shape (T + 1,), extents and bounds of the points, flat.
    """
    horizon = len(counts)
    sizes = np.zeros(horizon + 1, np.int64)
    # Places that are never written to cost no memory.
    room_left = min(max(4096, 4 * len(old_extents)), max(capacity, 4096))
    xs, us = np.empty(room_left), np.empty(room_left)
    # Filled from the back, slot T first: points of a slot are [first, last].
    top = room_left
    first, last = top, top - 1
    near = NEAR * most
    for t in range(horizon - 1, -1, -1):
        options = counts[t]
        low_f, high_f = tables[which[t]], tables[which[t] + 1] - 1
        knots = table_x[low_f : high_f + 1] if high_f - low_f < KINKS else table_x[:0]
        shifts = weight[t] * gains[t, :options]
        old_first, old_last = old_starts[t], old_starts[t + 1] - 1
        pieces = np.ones(len(old_extents[old_first : old_last + 1]), np.int64)
        extra = 0
        for c in range(old_last - old_first):
            a, b = old_extents[old_first + c], old_extents[old_first + c + 1]
            left, right = _piece(table_x, low_f, high_f, a), _piece(table_x, low_f, high_f, b)
            bow = rewards[t, 0] * _bow(table_x, table_s, left, right, high_f, a, b)
            if bow > 0.0:
                pieces[c] = min(max(int(np.ceil(np.sqrt(8.0 * bow / tolerance[old_first + c]))), 1), 4096)
            extra += pieces[c]
        if extra > capacity:
            sizes[0] = -1
            return sizes, xs, us
        points = 0 if t == horizon - 1 else last - first + 1
        size = options * points + extra + len(knots) + 4
        place = np.empty(size)
        count = _places(
            low[t], high[t], keep[t], shifts, xs, first, last if points else first - 1,
            old_extents[old_first : old_last + 1], 0, old_last - old_first, pieces, knots, near, place,
        )  # fmt: skip
        # Values of every option at every place; where the best option changes, the crossing is a place as well.
        x, y, room = np.empty(3 * count), np.empty(3 * count), np.empty(3 * count)
        now, before = np.empty(options), np.empty(options)
        heads = np.full(options, first)
        best_before, filled, old, plain, f_before = -1, 0, 0, 0.0, 0.0
        steepest, table = 0.0, _piece(table_x, low_f, high_f, low[t])
        for k in range(first, last):
            if points:
                steepest = max(steepest, abs(us[k + 1] - us[k]) / (xs[k + 1] - xs[k]))
        for n in range(count):
            here = place[n]
            behind = table
            while table < high_f - 1 and table_x[table + 1] <= here:
                table += 1
            f = _line(table_x, table_y, table, high_f, here)
            best = 0
            for i in range(options):
                now[i] = rewards[t, i] * f
                if points:
                    image = keep[t] * here + shifts[i]
                    while heads[i] < last - 1 and xs[heads[i] + 1] <= image:
                        heads[i] += 1
                    now[i] += _line(xs, us, heads[i], last, image)
                if now[i] > now[best]:
                    best = i
            while old < old_last - old_first - 1 and old_extents[old_first + old + 1] <= here:
                old += 1
            allowed = tolerance[old_first + old]
            if old > 0 and here <= old_extents[old_first + old] + 2 * near:
                # The line that ends here runs above the piece before, so it must keep to that one's tolerance too.
                allowed = min(allowed, tolerance[old_first + old - 1])
            raised = 0.0
            if n > 0:
                # From place to place the options are straight but for the curve, which lies below its two tangents.
                begin = place[n - 1]
                bow = rewards[t, 0] * _bow(table_x, table_s, behind, table, high_f, begin, here)
                peak, cross = here, here
                if bow > 0.0:
                    right = table - 1 if table_x[table] >= here else table
                    part = ((f - f_before) / (here - begin) - table_s[right]) / (table_s[behind] - table_s[right])
                    peak = begin + min(max(part, 0.0), 1.0) * (here - begin)
                    if not begin + near < peak < here - near:
                        peak, raised = here, bow
                        y[filled - 1] = max(y[filled - 1], plain + bow)
                if best != best_before:
                    gap_before = before[best_before] - before[best]
                    gap_now = now[best] - now[best_before]
                    if gap_before + gap_now > 0.0:
                        cross = begin + gap_before / (gap_before + gap_now) * (here - begin)
                    if abs(cross - peak) <= near:
                        cross = here
                for z in (min(peak, cross), max(peak, cross)):
                    if begin + near < z < here - near:
                        part = (z - begin) / (here - begin)
                        level = -np.inf
                        for i in range(options):
                            level = max(level, before[i] + part * (now[i] - before[i]))
                        if raised > 0.0:
                            level += raised
                        elif bow > 0.0:
                            level += bow * min((z - begin) / (peak - begin), (here - z) / (here - peak))
                        x[filled], y[filled], room[filled] = z, level, allowed
                        filled += 1
            x[filled], y[filled], room[filled] = here, now[best] + raised, allowed
            plain, f_before = now[best], f
            filled += 1
            before[:] = now
            best_before = best
        largest = 0.0
        for n in range(filled):
            largest = max(largest, y[n] + room[n])
        margin = ROUNDING * largest + 4.0 * NEAR * most * steepest
        for n in range(filled):
            y[n] += margin
        if envelope:
            filled = _hull(x, y, room, filled)
        out_x, out_y = np.empty(filled), np.empty(filled)
        written = _simplified(x, y, room, filled, SHORTEST * most, out_x, out_y)
        while first - written < 0:
            if 2 * room_left > capacity:
                sizes[0] = -1
                return sizes, xs, us
            grown_x, grown_u = np.empty(2 * room_left), np.empty(2 * room_left)
            grown_x[room_left + first :] = xs[first:]
            grown_u[room_left + first :] = us[first:]
            xs, us = grown_x, grown_u
            first += room_left
            last += room_left
            room_left *= 2
        last = first - 1
        first -= written
        xs[first : last + 1] = out_x[:written]
        us[first : last + 1] = out_y[:written]
        sizes[t] = written
    starts = np.zeros(horizon + 1, np.int64)
    for t in range(horizon):
        starts[t + 1] = starts[t] + sizes[t]
    return starts, xs[first:], us[first:]


@compiled
def losses_forward(
    low: Array,
    high: Array,
    keep: Array,
    weight: Array,
    gains: Array,
    rewards: Array,
    counts: Array,
    tables: Array,
    table_x: Array,
    table_y: Array,
    table_s: Array,
    which: Array,
    starts: Array,
    extents: Array,
    bounds: Array,
) -> Array:
    """Estimate the least that a path from x_1 = 0 into each piece has fallen behind the bound, flat like the points.

    The value of a path is U_1(0) minus what it loses in its slots, so a piece that is only reached by losing much
    cannot lie on a path that the bound promises. Losses are followed from point to point, straight in between, and one
    that no path reaches counts as the nearest end of what is reached. O(points M).
    """
    lost = np.zeros(len(extents))
    for t in range(len(counts)):
        first, last = starts[t], starts[t + 1] - 1
        if t == len(counts) - 1:
            following, end_of = last, last - 1
        else:
            following, end_of = starts[t + 1], starts[t + 2] - 1
        low_f, high_f = tables[which[t]], tables[which[t] + 1] - 1
        heads, knots = np.full(counts[t], first), np.full(counts[t], low_f)
        for r in range(following, end_of + 1):
            least = np.inf
            for i in range(counts[t]):
                before = low[t]
                if keep[t] > 0.0:
                    before = min(max((extents[r] - weight[t] * gains[t, i]) / keep[t], low[t]), high[t])
                while heads[i] < last - 1 and extents[heads[i] + 1] <= before:
                    heads[i] += 1
                while knots[i] < high_f - 1 and table_x[knots[i] + 1] <= before:
                    knots[i] += 1
                earned = rewards[t, i] * _line(table_x, table_y, knots[i], high_f, before)
                lack = _line(extents, bounds, heads[i], last, before) - earned - bounds[r]
                least = min(least, _line(extents, lost, heads[i], last, before) + max(lack, 0.0))
            lost[r] = least
        # What a piece's ends have lost is settled once the next slot has been reached from them.
        for c in range(first, last):
            lost[c] = min(lost[c], lost[c + 1])
    return lost


@compiled
def best_path(
    keep: Array,
    weight: Array,
    gains: Array,
    rewards: Array,
    counts: Array,
    tables: Array,
    table_x: Array,
    table_y: Array,
    table_s: Array,
    which: Array,
    starts: Array,
    extents: Array,
    bounds: Array,
    breadth: int,
) -> Array:
    """Return the option of every slot on the most promising path, shape (T,).

    A beam search: of the paths into each slot the `breadth` most promising undominated ones are extended. Promise
    is value so far plus the bound of what follows. O(T breadth^2 M).
    """
    horizon = len(counts)
    widest = 0
    for t in range(horizon):
        widest = max(widest, counts[t])
    parents = np.zeros((horizon, breadth), np.int32)
    choices = np.zeros((horizon, breadth), np.int32)
    place, value = np.zeros(breadth), np.zeros(breadth)
    new_place, new_value = np.empty(breadth * widest), np.empty(breadth * widest)
    promise = np.empty(breadth * widest)
    alive = 1
    for t in range(horizon):
        options = counts[t]
        for k in range(alive):
            now = value_at(table_x, table_y, tables[which[t]], tables[which[t] + 1] - 1, place[k])
            for i in range(options):
                n = k * options + i
                new_place[n] = keep[t] * place[k] + weight[t] * gains[t, i]
                new_value[n] = value[k] + rewards[t, i] * now
                promise[n] = new_value[n]
                if t < horizon - 1:
                    end_of = starts[t + 2] - 1
                    piece = _piece(extents, starts[t + 1], end_of, new_place[n])
                    promise[n] += _line(extents, bounds, piece, end_of, new_place[n])
        kept = 0
        for n in np.argsort(-promise[: alive * options], kind="mergesort"):
            dominated = False
            for k in range(kept):
                if place[k] >= new_place[n] and value[k] >= new_value[n]:
                    dominated = True
                    break
            if dominated:
                continue
            place[kept], value[kept] = new_place[n], new_value[n]
            parents[t, kept], choices[t, kept] = n // options, n % options
            kept += 1
            if kept == breadth:
                break
        alive = kept
    chosen = np.zeros(horizon, np.int64)
    k = 0
    for t in range(horizon - 1, -1, -1):
        chosen[t] = choices[t, k]
        k = parents[t, k]
    return chosen
