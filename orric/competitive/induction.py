"""The induction over slots by which functions U_t prove an upper end, checked on every interval between their kinks.

In slot t, for every option and every extent y, U_t(y) must be at least reward f(y) + U_{t+1}(keep y + weight profit).
The first pass puts a piecewise linear function above f, with kinks at those of U_t alone: then both sides are straight
between the kinks of U_t and those of U_{t+1}, and the kinks are all that has to be looked at. Where that is not enough,
every interval between two kinks is held against a tangent of f that touches it where both sides are nearest; where that
fails, too, the interval is halved. No NaN passes: everything must be shown to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orric.competitive.claims import ULP, Curve, accuracy, demand, place_of_slope, slope
from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
# Intervals that are looked at together, how often they are halved, and how many points are looked at in all.
TOGETHER, HALVINGS, MOST_POINTS = 2**17, 40, 2**31


@dataclass
class Induction:
    """The functions U_t of all slots, held against one another.

    Attributes:
        curves: f_t.
        options: (profit, reward) of what every slot may choose.
        keep: x_{t+1} = keep_t x_t + weight_t A_t, shape (T,).
        weight: Likewise.
        reach: The least and the largest extent that any allocations reach in each slot, shape (T, 2).
        most: The largest extent of all.
    """

    curves: Sequence[Curve]
    options: Any
    keep: Array
    weight: Array
    reach: Array
    most: float
    checks: int = 0
    waiting: dict[int, list[Array]] = field(default_factory=dict)
    held: int = 0

    def value(
        self, starts: Array, extents: Array, bounds: Array, progress: Callable[[float], object]
    ) -> tuple[float, int]:
        """Check all slots, backwards; return U_1(0) and the number of points looked at."""
        counts = np.diff(np.append(starts, starts[-1] + 1))
        knots = [len(curve["x"]) if curve["form"] == "tabulated" else 0 for curve in self.curves]
        work = sum(
            len(some) * int(counts[slot] + counts[slot + 1] + knots[slot]) for slot, some in enumerate(self.options)
        )
        demand(work <= MOST_POINTS, "evidence", f"takes {work:,} points to check", f"{MOST_POINTS:,} are the most")
        ahead_x, ahead_u = np.array([0.0]), np.array([0.0])
        for slot in range(len(counts) - 2, -1, -1):
            x, u = extents[starts[slot] : starts[slot + 1]], bounds[starts[slot] : starts[slot + 1]]
            low, high = self.reach[slot].tolist()
            demand(
                bool((x[:-1] < x[1:]).all()) and bool(0 <= x[0] <= low) and bool(high <= x[-1] <= self.most),
                f"slot {slot + 1}", f"its points do not ascend from {low:g} to {high:g}, as far as it goes",
            )  # fmt: skip
            with np.errstate(all="ignore"):
                self._step(slot, x, u, ahead_x, ahead_u)
            ahead_x, ahead_u = x, u
            if slot % 64 == 0:
                progress(1 - slot / len(self.curves))
        self._flush()
        return float(np.interp(0.0, ahead_x, ahead_u)), self.checks

    def _step(self, slot: int, x: Array, u: Array, ahead_x: Array, ahead_u: Array) -> None:
        """Check one slot as far as a coarse bound of f goes; put aside what remains."""
        curve, keep, options = self.curves[slot], float(self.keep[slot]), self.options[slot]
        above = accuracy(curve, x)[1]
        # Between two points f exceeds its chord by no more than what its slopes there allow, nor by all that it rises.
        bows = np.maximum(slope(curve, x[:-1], 1) - slope(curve, x[1:], -1), 0) * np.diff(x) / 4
        bows = np.minimum(bows, above[1:] - accuracy(curve, x[:-1])[0])
        coarse = above + np.maximum(np.append(bows, 0), np.append(0, bows))
        # A kink may lie beside where it is computed by some roundings of the largest extent.
        steepest = float(np.abs(np.diff(ahead_u) / np.diff(ahead_x)).max()) if len(ahead_x) > 1 else 0.0
        slack = ULP * (64 * self.most * steepest + 4 * float(np.abs(u).max()) + 4 * float(np.abs(ahead_u).max()))
        for profit, reward in options:
            shift = float(self.weight[slot]) * profit
            # What lies between two places may be as far off as rewards are large.
            room = u - reward * (coarse + 16 * ULP) - slack
            low = ~(room >= np.interp(keep * x + shift, ahead_x, ahead_u))
            images = (ahead_x - shift) / keep if keep > 0 else ahead_x[:0]
            inside = (images > x[0]) & (images < x[-1])
            images, values = images[inside], ahead_u[inside]
            self.checks += len(x) + len(images)
            beside = ~(np.interp(images, x, room) >= values)
            if not low.any() and not beside.any():
                continue
            alive = low[:-1] | low[1:]
            alive[np.searchsorted(x, images[beside], side="right") - 1] = True
            self._put_aside(slot, x, u, ahead_x, ahead_u, images, alive, reward, shift, slack)

    def _put_aside(
        self, slot: int, x: Array, u: Array, ahead_x: Array, ahead_u: Array, images: Array, alive: Array,
        reward: float, shift: float, slack: float,
    ) -> None:  # fmt: skip
        """Cut the pieces of U_t that are in doubt at every kink, check their ends, and keep the rest for later."""
        curve, keep = self.curves[slot], float(self.keep[slot])
        kinks = images
        if curve["form"] == "tabulated":
            knots = curve["x"]
            kinks = np.concatenate([images, knots[(knots > x[0]) & (knots < x[-1])]])
        if len(x) == 1:
            begins = ends = x
        else:
            kinks = kinks[alive[np.searchsorted(x, kinks, side="right") - 1]]
            places = np.sort(np.concatenate([x[:-1][alive], x[1:][alive], kinks]))
            begins, ends = places[:-1], places[1:]
            # What begins at the end of a piece in doubt belongs to the next one.
            inside = np.append(alive, False)[np.searchsorted(x, begins, side="right") - 1] & (begins < ends)
            begins, ends = begins[inside], ends[inside]
        rooms = []
        for place in (begins, ends):
            room = np.interp(place, x, u) - np.interp(keep * place + shift, ahead_x, ahead_u) - slack
            short = ~(room >= reward * accuracy(curve, place)[1])
            if short.any():
                at = float(place[short][0])
                raise CertificateError(
                    f"slot {slot + 1}", f"the bound at extent {at!r} is too low", "the certificate proves nothing"
                )
            rooms.append(room)
        if curve["form"] == "tabulated":
            return  # straight between the ends
        rows = np.stack([begins, ends, *rooms, np.full(len(begins), reward), np.full(len(begins), slot)])
        self.checks += rows.shape[1]
        self.waiting.setdefault(id(curve), []).append(rows)
        self.held += rows.shape[1]
        if self.held > TOGETHER:
            self._flush()

    def _flush(self) -> None:
        """Hold what was put aside against tangents."""
        for blocks in self.waiting.values():
            rows = np.concatenate(blocks, axis=1)
            curve = self.curves[int(rows[5, 0])]
            with np.errstate(all="ignore"):
                self._tangents(curve, rows)
        self.waiting, self.held = {}, 0

    def _tangents(self, curve: Curve, rows: Array) -> None:
        """Show that room, straight between its ends, lies above reward x f in between."""
        for _ in range(HALVINGS):
            begins, ends, at_begin, at_end, rewards, slots = rows
            place = place_of_slope(curve, (at_end - at_begin) / (ends - begins) / rewards)
            middles = begins + (ends - begins) / 2
            place = np.clip(np.where(np.isnan(place), middles, place), begins, ends)
            above = accuracy(curve, place)[1]
            falls, rises = slope(curve, place, -1) * (place - begins), slope(curve, place, 1) * (ends - place)
            # Two lines from where they touch, the right one no less steep: room, which is straight, need only lie above
            # them at its ends. A few roundings more than the margins of f and its slopes hold.
            before = rewards * (above - falls + 4 * ULP * (above + falls))
            after = rewards * (above + rises) * (1 + 4 * ULP)
            fails = ~((at_begin >= before) & (at_end >= after))
            self.checks += 2 * rows.shape[1]
            if not fails.any():
                return
            halves = (at_begin + at_end) / 2
            short = fails & ~(halves >= rewards * accuracy(curve, middles)[1])
            # Halving on would never end, and double what is held every time.
            if short.any() or int(fails.sum()) > TOGETHER:
                rows = rows[:, short] if short.any() else rows[:, fails]
                break
            left, right = (
                np.stack([begins, middles, at_begin, halves, rewards, slots]),
                np.stack([middles, ends, halves, at_end, rewards, slots]),
            )
            rows = np.concatenate([left[:, fails], right[:, fails]], axis=1)
            # Of what has no middle any more both ends were looked at.
            rows = rows[:, rows[0] < rows[1]]
            if not rows.size:
                return
        begin, slot = float(rows[0, 0]), int(rows[5, 0])
        raise CertificateError(f"slot {slot + 1}", f"the bound near extent {begin!r} cannot be shown to hold")
