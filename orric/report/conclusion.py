"""What a comparison says in plain sentences: who did best, by how much, why, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from orric.records import Array, Result
from orric.report.facts import (
    TIE,
    budget_parts,
    contenders,
    leading,
    leading_by_stream,
    leading_in,
    leading_words,
    macs_unit,
    main_results,
    percent,
    severity_groups,
    spoken,
    tie_margin,
    winners,
)
from orric.report.table import MODELS, all_answered

# Parts of the budget and of all requests that together are worth a warning.
IDLE, LATE = 0.2, 0.05
# How a sentence begins that warns.
WARNING = "Warning: "
# What lets the rest of the budget serve, by the key of a scenario.
REMEDIES = {
    "spare": 'let what is left over serve (spare = "inference")',
    "sharing": "share the GPU by a work-conserving sharing",
    "headroom": "plan for more than the forecast (headroom)",
}
_ENDS = {
    "late": "late", "shed": "shed", "abandoned": "abandoned", "lost": "lost in a crash",
    "waiting": "waiting at the end",
}  # fmt: skip


def conclusion(results: Sequence[Result], untried: Sequence[str] = tuple(REMEDIES)) -> list[str]:
    """Say in plain sentences which allocator did best, by how much, why, and what it costs.

    Results of real models are taken where there are any, else those of the learning curve. Where a stream has a
    deadline, all goes by in-time accuracy, else by mean accuracy; allocators that differ by no more than
    `tie_margin` count as equal.

    Args:
        results: Of one scenario and seed, under one accuracy model or both.
        untried: Keys of `REMEDIES` that the scenario leaves to be set.
    """
    shown = main_results(results)
    tied = winners(shown)
    if not any(result.served.any() for result in shown):
        fates = dict.fromkeys(_answers(result) for result in shown)
        return ["No request was answered, so there is nothing to compare.", *(f"{one.capitalize()}." for one in fates)]
    named = {result.allocator: result for result in shown}
    best = tied[0]
    sentences = [_verdict(shown, tied), *idle_while_late(shown, untried), _over_all(shown, best), _margins(best, named)]
    orric = named.get("orric")
    if orric is not None and orric not in tied:
        sentences.append(_behind(orric, best, named))
    sentences += [
        _without_cloud(shown, best),
        *_reasons(best),
        _gap(best, named),
        _latency(best, named),
        _overloaded(shown),
        _among_tied(tied),
    ]
    sentences.append(_by_curve(results, tied))
    return [sentence for sentence in sentences if sentence]


def _verdict(shown: Sequence[Result], tied: Sequence[Result]) -> str:
    rivals, best = contenders(shown), tied[0]
    model = MODELS.get(best.accuracy_model, best.accuracy_model)
    what = leading_words(shown)
    found = f"{percent(leading(best))} {what}"
    opening = f"On {model}" if best.accuracy_model == "onnx" else f"By {model}"
    if len(rivals) == 1:
        return f"{opening}, {spoken(best.allocator)} had {found}; no other allocator ran, so nothing ranks it."
    if len(tied) > 1:
        names = _listed([spoken(result.allocator) for result in tied])
        some, every = f"{names} tie as the best of {len(rivals)} allocators", f"all {len(rivals)} allocators tie"
        ordered = dict.fromkeys(percent(value)[:-2] for value in sorted(map(leading, tied)))
        found = f"{' to '.join([*ordered][:: max(len(ordered) - 1, 1)])} % {what}"
        margin = "0.05 points" if tie_margin(best) == TIE else f"the {_points(tie_margin(best))} that may be chance"
        return f"{opening}, {every if len(tied) == len(rivals) else some} (to within {margin}), with {found}."
    runner = max((leading(one) for one in rivals if one is not best), default=math.nan)
    lead = f", {_points(leading(best) - runner)} ahead of the next" if math.isfinite(runner) else ""
    return f"{opening}, {spoken(best.allocator)} did best of {len(rivals)} allocators, with {found}{lead}."


def _margins(best: Result, named: Mapping[str, Result]) -> str:
    phrases = []
    for name, remark in (
        ("inference-only", "which never retrains"),
        ("batch-norm-only", "which makes ORRIC's allocations but refreshes batch-norm statistics only"),
        ("teacher-only", "which ignores the budget"),
    ):
        other = named.get(name)
        if other is None or other is best:
            continue
        margin = leading(best) - leading(other)
        level = abs(margin) <= tie_margin(best)
        side = "level with" if level else f"{_points(abs(margin))} {'over' if margin > 0 else 'below'}"
        phrases.append(f"{side} {name} ({percent(leading(other))}), {remark}")
    measure = "By in-time accuracy it is" if best.has_deadlines else "That is"
    return f"{measure} {'; '.join(phrases)}." if phrases else ""


def _without_cloud(shown: Sequence[Result], best: Result) -> str:
    """Say who did best by the budgets alone, where the best had its retraining done in a cloud."""
    if not best.in_the_cloud:
        return ""
    said = f"{spoken(best.allocator)} retrains in the cloud, whose compute and energy are not counted here"
    edge = [result for result in contenders(shown) if not result.in_the_cloud]
    if not edge:
        return f"{said}."
    other = max(edge, key=leading)
    return f"{said}; without it {spoken(other.allocator)} does best ({percent(leading(other))})."


def _behind(orric: Result, best: Result, named: Mapping[str, Result]) -> str:
    _, own, _ = budget_parts(orric)
    _, other, _ = budget_parts(best)
    loss = f"{percent(leading(orric))} is {_points(leading(best) - leading(orric))} less"
    spent = f"{percent(own, 0)} of the budget on retraining, {spoken(best.allocator)} {percent(other, 0)}"
    if any(name.startswith("orric-") for name in named):
        return f"orric, which decides for each stream on its part of the budget, loses here: {loss}. It spent {spent}."
    return f"ORRIC loses here: {loss}. It spent {spent}."


def _reasons(best: Result) -> list[str]:
    inference, retraining, unused = budget_parts(best)
    if not math.isfinite(inference):
        return []
    pairs = list(zip(best.retraining.tolist(), best.inference.tolist(), strict=True))
    (trained, served), most = Counter(pairs).most_common(1)[0]
    spending = (
        f"{spoken(best.allocator)} spent {percent(retraining, 0)} of the budget on retraining and "
        f"{percent(inference, 0)} on inference, and left {percent(unused, 0)} unused."
    )
    streams = leading_by_stream(best)
    if len(streams) > 1:
        low, high = (choose(streams, key=lambda name: streams[name]) for choose in (min, max))
        return [
            spending,
            f"It retrained each stream in {best.retrained.mean() * len(pairs):.0f} of {len(pairs)} slots on average; "
            f"{low} fares worst ({percent(streams[low])}) and {high} best ({percent(streams[high])}).",
        ]
    retrained = int((best.retraining_macs > 0).sum())
    used = f"retraining {trained} with inference {served}" if retrained else f"inference {served} alone"
    when = f"It retrained in {retrained} of {len(pairs)} slots" if retrained else "It never retrained"
    return [spending, f"{when}; its most frequent choice was {used} ({most} of {len(pairs)} slots)."]


def _gap(best: Result, named: Mapping[str, Result]) -> str:
    """Say in which severities and slots the gap to inference-only lies."""
    other = named.get("inference-only")
    if other is None or other is best or not (best.retrained > 0).any():
        return ""
    groups, at = severity_groups(best), "at"
    if len(groups) == 1 or any("unknown" in name for name in groups):
        at = "in"
        half = np.arange(len(best.slot)) < len(best.slot) // 2
        groups = {"the first half": half, "the second half": ~half}
    gaps = {name: leading_in(best, slots) - leading_in(other, slots) for name, slots in groups.items()}
    gaps = {name: gap for name, gap in gaps.items() if math.isfinite(gap)}
    if len(gaps) < 2:
        return ""
    widest, narrowest = max(gaps, key=lambda name: gaps[name]), min(gaps, key=lambda name: gaps[name])
    if gaps[widest] <= tie_margin(best):
        return "Over inference-only it gains nothing, early or late."
    opening = next(name for name, gap in gaps.items() if gap >= gaps[widest] / 2)
    told = gaps if len(gaps) <= 6 else dict.fromkeys((opening, narrowest, widest))
    listed = [f"{100 * gaps[name]:+.1f} {at} {name} ({_span(best.slot[groups[name]])})" for name in told]
    opens = f"the gap opens {at} {opening}; in points" if at == "at" else "it gains, in points"
    return f"Over inference-only {opens}: {', '.join(listed)}."


def idle_while_late(results: Sequence[Result], untried: Sequence[str] = tuple(REMEDIES)) -> list[str]:
    """Warn, in a line, of budget that the best allocator leaves unused while its answers come late.

    Args:
        results: Of one scenario, seed and accuracy model, pooled.
        untried: Keys of `REMEDIES` that the scenario leaves to be set; only these are advised.
    """
    wasting = [one for one in contenders(results) if budget_parts(one)[2] >= IDLE and _late(one) >= LATE]
    best = next(iter(winners(results)), None)
    if best is None or best not in wasting:
        return []
    others, too = [spoken(one.allocator) for one in wasting if one is not best], ""
    if others:
        too = f" (and likewise under {_listed(others) if len(others) <= 3 else f'{len(others)} others'})"
    return [
        f"{WARNING}under {spoken(best.allocator)} {percent(budget_parts(best)[2], 0)} of the budget is left unused "
        f"while {percent(_late(best), 0)} of all requests come late{too}. {_advice(best, results, untried)}"
    ]


def _advice(best: Result, results: Sequence[Result], untried: Sequence[str]) -> str:
    """Say what may be set, or where all is set that lets the rest serve, what the lateness comes from."""
    remedies = [REMEDIES[key] for key in untried]
    if remedies:
        advised = f"{', '.join(remedies)}, or give a deadline that can be met."
        return advised[0].upper() + advised[1:]
    median, base = best.summary()["latency_p50_s"], _named(results, "inference-only")
    took = "" if median is None else f" (half of the answers take {median:.3g} s or more)"
    base = None if base is best else base
    if base is not None and _late(base) < _late(best) / 2:
        return (
            f"Serving may use all of that already, and under inference-only {percent(_late(base), 0)} come late: what "
            "delays the others is retraining. Retrain less, or give a faster GPU or a longer deadline."
        )
    too = "" if base is None else f", as {percent(_late(base), 0)} do under inference-only"
    return (
        f"Serving may use all of that already, so that they are late by service times{took} and bursts{too}: a faster "
        "GPU, a cheaper inference configuration or a longer deadline helps."
    )


def _named(results: Sequence[Result], name: str) -> Result | None:
    return next((one for one in results if one.allocator == name), None)


def _late(result: Result) -> float:
    whole = sum(result.fates.values())
    return result.fates["late"] / whole if whole else 0.0


def _over_all(shown: Sequence[Result], best: Result) -> str:
    """Say what late answers change, and who did best where they count; nothing where no stream has a deadline."""
    if not best.has_deadlines:
        return ""
    said = f"With late answers counted, too, {percent(best.mean_accuracy)} were answered correctly"
    rivals = contenders(shown)
    if len(rivals) == 1:
        return f"{said}."
    first = max(rivals, key=lambda one: one.mean_accuracy)
    if first.mean_accuracy == best.mean_accuracy:
        return f"{said}: the most, by that measure, too."
    if first.mean_accuracy - best.mean_accuracy <= tie_margin(best):
        return (
            f"{said}, level with {spoken(first.allocator)} ({percent(first.mean_accuracy)}), the most by that measure."
        )
    return f"{said}; by that measure {spoken(first.allocator)} did best ({percent(first.mean_accuracy)})."


def _overloaded(shown: Sequence[Result]) -> str:
    """Name those whose queues grow without end."""
    told = []
    for result in shown:
        growing = {name: one for name, one in result.overloads.items() if one.overloaded}
        if not growing:
            continue
        worst = max(growing, key=lambda name: growing[name].growth.low)
        growth, others = growing[worst].growth, len(growing) - 1
        where = f"{worst}" + f" and {others} more" * bool(others)
        told.append(
            f"{spoken(result.allocator)} ({growth.mean:+.1f} ± {growth.half_width:.1f} waiting a slot at {where})"
        )
    if not told:
        return ""
    return f"Overloaded, so that latencies say how long the run was and nothing else: {_listed(told)}."


def _latency(best: Result, named: Mapping[str, Result]) -> str:
    base = named.get("inference-only")
    base = None if base is best else base
    told = _answers(best)
    if best.summary()["latency_p99_s"] is None:
        return f"The slot model knows no latencies; {told}." if best.engine == "slot model" else f"{told.capitalize()}."
    against = f", against {_tail(base)} for inference-only" if base and base.summary()["latency_p99_s"] else ""
    other = f" With inference-only, {_answers(base)}." if base and _answers(base) != told else ""
    return f"What it costs: a p99 latency of {_tail(best)}{against}; {told}.{other}"


def _tail(result: Result) -> str:
    """Say a 99th percentile, and of how many where it is not of all."""
    summary = result.summary()
    found = f"{summary['latency_p99_s']:.1f} s"
    return found if all_answered([result]) else f"{found} of the {percent(summary['answered'])} that were answered"


def _answers(result: Result) -> str:
    """Say what became of all requests."""
    fates = {name: number for name, number in result.fates.items() if number}
    deadline = " by their deadline" * result.has_deadlines
    if not fates:
        return "no request came"
    if set(fates) == {"in time"}:
        return f"all requests were answered{deadline}"
    whole = sum(fates.values())
    first = percent(fates.pop("in time", 0.0) / whole)
    others = [f"{_part(number, whole)} {_ENDS[name]}" for name, number in fates.items()]
    return f"of all requests {first} were answered{deadline} ({', '.join(others)})"


def _part(number: float, whole: float) -> str:
    return percent(number / whole) if number >= whole / 2000 else f"{number:,.0f} of {whole:,.0f}"


def _among_tied(tied: Sequence[Result]) -> str:
    """Tell the tied allocators apart by what they spend."""
    if len(tied) < 2:
        return ""
    costs = {result.allocator: float(result.summary()["macs_per_request"]) for result in tied}
    factor, unit = macs_unit(max(costs.values()))
    cheapest = [name for name, cost in costs.items() if cost <= 1.005 * min(costs.values())]
    if len(cheapest) == len(costs):
        return "Those that tie cost the same compute per request, too (to within 0.5 %)."
    cheap = f"{_listed([spoken(name) for name in cheapest])} {'is' if len(cheapest) == 1 else 'are'} the cheapest"
    listed = _listed([f"{spoken(name)} {cost / factor:.3g}" for name, cost in costs.items()])
    return f"Of those that tie, {cheap}, in {unit} per request: {listed}."


def _by_curve(results: Sequence[Result], tied: Sequence[Result]) -> str:
    """Say whether the learning curve would have named the same allocators."""
    curve = [result for result in results if result.accuracy_model == "curve"]
    if tied[0].accuracy_model == "curve" or not curve:
        return ""
    would = winners(curve)
    if not would:
        return ""
    names, real = [result.allocator for result in would], {result.allocator for result in tied}
    listed = _listed([spoken(name) for name in names])
    said = f"The learning curve alone would name {listed} ({percent(leading(would[0]))})"
    if set(names) == real:
        return f"{said}: the same answer."
    return f"{said}: {'partly the same answer' if real & set(names) else 'another answer than the real models give'}."


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _span(slots: Array) -> str:
    first, last = int(slots.min()), int(slots.max())
    if last - first + 1 != len(slots):
        return f"{len(slots)} slots"
    return f"slots {first} to {last}" if last > first else f"slot {first}"
