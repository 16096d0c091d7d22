"""What goes wrong in a scenario, when, or how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orric.section import Amount, Count, Name, Positive, Real, Section

Probability = Annotated[float, Field(strict=True, gt=0, le=1)]
OF_GPU = ("gpu-stall", "gpu-loss")


class Fault(Section):
    """One fault, at given slots or by chance.

    ================  =============================================================================================
    kind              what happens
    ================  =============================================================================================
    gpu-stall         the GPU stands still for `duration_s`; all goes on afterwards
    gpu-loss          the GPU is lost with the retraining in progress on it, and is back after `duration_s` and
                      `reload_s`; batches in service start anew then
    client-crash      the stream's process dies: its requests, and those that come within `reload_s`, are lost, and so
                      is its retraining in progress; on a GPU whose fault domain is shared all streams' there
    retraining-crash  the retraining in progress is lost
    corrupt-weights   the weights that this slot's retraining makes are refused at the swap
    burst             `factor` times the requests arrive in the slot; forecasts do not foresee it
    clock-skew        from the slot on the stream's requests arrive `skew_s` later than its clock says
    ================  =============================================================================================

    Attributes:
        kind: One of the above.
        gpu: Which GPU, for stalls and losses.
        stream: Which stream, for the others.
        slots: In which slots (from 1); or
        probability: with which probability in each slot, drawn from the seed.
        offset_s: How long after the slot's start.
        duration_s: How long a stall or loss lasts.
        reload_s: How long it takes after a loss or crash until weights are loaded again.
        factor: Of a burst.
        skew_s: Of a clock.
    """

    kind: Literal["gpu-stall", "gpu-loss", "client-crash", "retraining-crash", "corrupt-weights", "burst", "clock-skew"]
    gpu: Name | None = None
    stream: Name | None = None
    slots: tuple[Count, ...] = ()
    probability: Probability | None = None
    offset_s: Amount = 0.0
    duration_s: Positive | None = None
    reload_s: Amount = 0.0
    factor: Annotated[float, Field(strict=True, gt=1)] | None = None
    skew_s: Annotated[Real, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Fault:
        if bool(self.slots) == (self.probability is not None):
            raise ValueError("it has no time, or two; give slots or probability")
        wanted = {"gpu" if self.kind in OF_GPU else "stream"}
        wanted |= {name for name, kind in (("factor", "burst"), ("skew_s", "clock-skew")) if kind == self.kind}
        wanted |= {"duration_s"} if self.kind in OF_GPU else set()
        for name in ("gpu", "stream", "duration_s", "factor", "skew_s"):
            if (getattr(self, name) is not None) != (name in wanted):
                raise ValueError(f"kind is {self.kind!r}; {'give' if name in wanted else 'remove'} {name}")
        if self.reload_s and self.kind not in ("gpu-loss", "client-crash"):
            raise ValueError(f"kind is {self.kind!r}; remove reload_s")
        return self
