"""An allocator's misbehaviour, turned into one error that says who and when: both engines ask through here."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from orric.allocators.base import Allocator, Array, SingleStreamAllocator, Slot, Task
from orric.configuration import Allocation, StreamAllocation
from orric.exceptions import AllocatorError, OrricError, nearest
from orric.records import Observation

BEFORE = "before slot 1"
_MOST_LETTERS = 300
_NUMBER = (int, float, np.integer, np.floating)


class Guard:
    """Asks an allocator in an engine's stead.

    What the allocator raises, an answer that is no allocation, and a change of what it was given become an
    `AllocatorError`. An `OrricError` by which its `reset` refuses a task is heard as it is. Whatever is handed
    out is frozen, read-only or a private copy, so that no allocator can harm an engine or another allocator.

    Args:
        allocator: Whom to ask. It is reset.
        task: What it is told first.
        rng: Its source of randomness.

    Attributes:
        name: The allocator's name; its class's where it has none.

    Raises:
        AllocatorError: Its `reset` raises, or changes the task.
    """

    def __init__(self, allocator: Allocator, task: Task, rng: np.random.Generator) -> None:
        self.name = str(getattr(allocator, "name", "") or type(allocator).__name__)
        self._allocator, self._task = allocator, _copied(task)
        self._task_before = hash(self._task)
        try:
            allocator.reset(self._task, rng)
        except AllocatorError as error:
            raise self._blamed(BEFORE, error) from error
        except OrricError:
            raise
        except Exception as error:
            raise self._blamed(BEFORE, error) from error
        self._check_unchanged(BEFORE, self._task, self._task_before)

    @property
    def decides_at_once(self) -> bool:
        """Whether the allocator's decisions need no feedback, so that `decide_all` may be asked."""
        return isinstance(self._allocator, SingleStreamAllocator)

    def decide(self, slot: Slot) -> Allocation:
        """Have one slot decided.

        Raises:
            AllocatorError: The allocator raises, changes what it was given, or answers with no allocation.
        """
        before = hash(slot)
        try:
            answer: Any = self._allocator.decide(slot)
        except Exception as error:
            raise self._blamed(slot.index, error) from error
        self._check_unchanged(slot.index, slot, before)
        if slot.index >= self._task.horizon:
            # Only now: to look in every slot would take about as long as to decide it.
            self._check_unchanged(_all(self._task.horizon), self._task, self._task_before)
        if fault := self._fault(answer):
            raise AllocatorError(self.name, slot.index, *fault)
        return _settled(answer)

    def decide_all(self, requests: Array, budgets_macs: Array, in_time: Array | None = None) -> list[Allocation]:
        """Have slots 1..T decided at once by an allocator that can.

        Args:
            requests: D(t), shape (T,).
            budgets_macs: C(t), shape (T,).
            in_time: q_t(i, j), shape (T, M, N), or None where that is not told.

        Raises:
            AllocatorError: As `decide` does. When an error arises for all slots at once, they are decided one by
                one to find its slot.
        """
        assert isinstance(self._allocator, SingleStreamAllocator), "see decides_at_once"
        try:
            given = [_locked(values) for values in (requests, budgets_macs, in_time) if values is not None]
            answers: Any = self._allocator.decide_all(*given)
        except AllocatorError as error:
            raise self._blamed(BEFORE, error) from error
        except Exception as error:
            raise self._blamed(self._slot_of(error, requests, budgets_macs, in_time), error) from error
        every = _all(len(requests))
        self._check_unchanged(every, self._task, self._task_before)
        if not isinstance(answers, (list, tuple)) or len(answers) != len(requests):
            found, wanted = f"answers {_shown(answers)}", f"return a list of {len(requests)} allocations"
            raise AllocatorError(self.name, every, found, wanted)
        # Slots share their allocations: each is checked once, at the first slot that it decides.
        distinct = {id(answer): answer for answer in answers}
        for key, answer in distinct.items():
            if fault := self._fault(answer):
                slot = next(index for index, one in enumerate(answers, start=1) if one is answer)
                raise AllocatorError(self.name, slot, *fault)
            distinct[key] = _settled(answer)
        return [distinct[id(answer)] for answer in answers]

    def observe(self, record: Observation) -> None:
        """Tell the allocator what happened in a slot.

        Raises:
            AllocatorError: It raises, or changes what it was given.
        """
        before = hash(record)
        try:
            self._allocator.observe(record)
        except Exception as error:
            raise self._blamed(record.slot, error) from error
        self._check_unchanged(record.slot, record, before)

    def _blamed(self, slot: int | str, error: Exception) -> AllocatorError:
        return blamed(self.name, slot, error, type(self._allocator).__module__)

    def _check_unchanged(self, slot: int | str, given: Any, before: int) -> None:
        try:
            if hash(given) == before:
                return
        except TypeError:
            pass  # something in it was put in that can change, such as a list
        found = f"changes the {type(given).__name__} that it was given"
        raise AllocatorError(self.name, slot, found, "leave what is given as it is")

    def _slot_of(self, error: Exception, requests: Array, budgets_macs: Array, in_time: Array | None) -> int | str:
        """Decide slot by slot until an error of the same kind comes up, and say in which."""
        for told in told_slots(requests, budgets_macs, in_time):
            try:
                self._allocator.decide(told)
            except Exception as again:
                if type(again) is type(error):
                    return told.index
                break
        return _all(len(requests))

    def _fault(self, answer: Any) -> tuple[str, str] | None:
        """Say what is wrong with an answer, and what would be right."""
        if not isinstance(answer, Allocation):
            return f"answers {_shown(answer)}", "return an orric.Allocation"
        streams, number = answer.streams, len(self._task.streams)
        if not isinstance(streams, (tuple, list)) or len(streams) != number:
            return f"gives {_shown(streams)} as streams", f"give a tuple of {number} orric.StreamAllocation"
        if not isinstance(answer.reason, str):
            return f"gives {_shown(answer.reason)} as reason", "give a text"
        for one in streams:
            if not isinstance(one, StreamAllocation):
                return f"gives {_shown(one)} as the allocation of a stream", "give an orric.StreamAllocation"
            for kind, name in (("retraining", one.retraining), ("inference", one.inference)):
                if not isinstance(name, str):
                    return f"names the {kind} configuration by {_shown(name)}", "give its name"
            for share in (one.retraining_share, one.inference_share):
                if share is not None and not isinstance(share, _NUMBER):
                    return f"gives {_shown(share)} as a share", "give a number from 0 to 1, or None"
            if one.cloud and not self._task.cloud:
                return "retrains in the cloud, and there is none", "heed cloud of the task"
            if one.gpu is not None and one.gpu not in self._task.gpus:
                return f"names the unknown GPU {one.gpu!r}", nearest(str(one.gpu), self._task.gpus)
        return None


def blamed(name: str, slot: int | str, error: Exception, module: str) -> AllocatorError:
    """Turn what an allocator raised into the error that tells it.

    Args:
        name: The allocator's name.
        slot: When it happened.
        error: What was raised.
        module: The module that holds the allocator.
    """
    if isinstance(error, AllocatorError):
        # It tells its slot itself; whomever the allocator asked in its turn, the fault is its own.
        return error.renamed(name)
    text = textwrap.shorten("".join(traceback.format_exception_only(error)), _MOST_LETTERS, placeholder=" ...")
    return AllocatorError(name, slot, f"raised {text}", f"mend the allocator{_place(error, module)}")


def told_slots(requests: Array, budgets_macs: Array, in_time: Array | None) -> Iterator[Slot]:
    """Yield what is told of slots 1..T of one stream on one GPU, without copies of what comes later."""
    given = enumerate(zip(requests.tolist(), budgets_macs.tolist(), strict=True), start=1)
    for slot, (count, budget) in given:
        parts = () if in_time is None else (tuple(tuple(row) for row in in_time[slot - 1].tolist()),)
        yield Slot(slot, (budget,), (count,), (0.0,), parts)


def _copied(task: Task) -> Task:
    """Copy a task down to its configurations, which it has in common with a profile."""
    streams = [
        replace(
            stream,
            retraining=tuple(one.model_copy() for one in stream.retraining),
            inference=tuple(one.model_copy() for one in stream.inference),
            memory=stream.memory.model_copy(),
        )
        for stream in task.streams
    ]
    return replace(task, streams=tuple(streams))


def _locked(values: Array) -> Array:
    """Copy an array; what is returned cannot be written to, nor made so."""
    copied = np.array(values)
    copied.setflags(write=False)
    return copied[:]


def _settled(allocation: Allocation) -> Allocation:
    """Put streams that came in a list, which may change later, into a tuple."""
    if isinstance(allocation.streams, tuple):
        return allocation
    return replace(allocation, streams=tuple(allocation.streams))


def _all(slots: int) -> str:
    return f"slots 1 to {slots}" if slots > 1 else "slot 1"


def _shown(value: Any) -> str:
    """Write a value that should not be there in a few words."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, (int, float, str)):
        return f"the {kind} {textwrap.shorten(repr(value), 60, placeholder='...')}"
    return f"a {kind}" + (f" of {len(value)}" if isinstance(value, (list, tuple)) else "")


def _place(error: Exception, module: str) -> str:
    """Name the innermost line of a traceback that lies in a module or its package, in brackets."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == module.partition(".")[0]:
            file = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
            place = f" ({file}:{line})"
    return place
