"""Where a scenario leaves what its profiles have measured: warnings in a line each, with the error to expect there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.drift import DriftBySlot
from orric.profile import Profile
from orric.scenario.warned import Warned
from orric.transfer import distance

if TYPE_CHECKING:
    from orric.scenario import Scenario

Array = np.ndarray[Any, np.dtype[np.float64]]
# How far predictions were off where nothing of the kind had been measured (docs/background/prediction.md).
UNMEASURED = "up to 11 points in the mean (docs/background/prediction.md)"
# Slots are others where they have fewer samples than all that were measured, by this factor where one size was.
BEYOND = 2.0
# A mix of classes this far from all alike is another one, and going back to an earlier drift as often is taking turns.
SKEWED, BACK = 0.2, 2
# Slots in a row whose budget pays for no retraining; profiles measure spells of about four.
LONG_SPELL = 16


def of_measurement(
    scenario: Scenario, seed: int, k: int, profile: Profile, requests: Array, budgets: Array, named: str
) -> Iterator[Warned]:
    """Warn of streams unlike all that the profile has measured, where accuracies are predicted and not measured.

    Args:
        scenario: Valid.
        seed: Of the run.
        k: Index of the stream.
        profile: Its profile; only those that say how they were calibrated are judged.
        requests: Of each slot, shape (T,); 0 throughout where nobody knows.
        budgets: Of its GPU in MACs, shape (T,).
        named: The stream in words.
    """
    facts = profile.provenance
    usual, model = facts.get("samples_per_slot"), scenario.accuracy.model
    if model == "onnx" or not isinstance(usual, int):
        return
    drift = scenario.stream[k].drift.by_slot(scenario.slots, seed, k)
    told = f'profile {profile.name!r} by accuracy.model = "{model}"'
    remedy = 'measure with model = "onnx"'
    if model == "curve" and profile.transfer is not None:
        remedy = f'take model = "table", or {remedy}'
    elif profile.transfer is None:
        remedy = f"{remedy}, or the profile anew: orric calibrate --learning-of"
    followed = model == "table" and profile.transfer is not None
    back = returns(drift)
    if back >= BACK and not followed:
        text = f"{named}: drift goes back to an earlier kind {back} times, which {told} does not follow"
        yield Warned("turns", f"{text}: expect errors {_expected(facts, model, 'turns')}; {remedy}")
    if drift.label_mix is not None and not followed:
        far = max(distance(mix) for mix in drift.label_mix)
        if far > SKEWED:
            text = f"{named}: a mix of classes {far:.0%} away from all alike, which {told} does not know"
            yield Warned("classes", f"{text}: expect errors {_expected(facts, model, 'few classes')}; {remedy}")
    few = [one for one in facts.get("samples_per_small_slot", ()) if isinstance(one, int)] if followed else []
    least = min([usual, *few])
    there = requests[requests > 0]
    if len(there) and there.mean() < least / (1 if followed else BEYOND):
        kind = f"{min(few)} samples a slot" if few else "20 samples a slot"
        text = f"{named}: {there.mean():.3g} samples a slot on average, where {told} has measured {least} or more"
        yield Warned("few samples", f"{text}: expect errors {_expected(facts, model, kind)}; {remedy}")
    spell = _longest_spell(profile, requests, budgets)
    if spell > LONG_SPELL and spell < scenario.slots:
        text = f"{named}: {spell} slots in a row whose budget pays for no retraining, where spells of about 4 were"
        yield Warned("spells", f"{text} measured: expect errors {_expected(facts, model, 'spells')}; {remedy}")


def returns(drift: DriftBySlot) -> int:
    """Return how often a drift becomes one that was there before, with another in between.

    >>> returns(DriftBySlot(("fog", "none", "fog", "fog"), np.array([1, 0, 1, 1])))
    1
    """
    kinds = np.where(drift.severities == 0, "none", np.array(drift.corruptions)).tolist()
    seen: set[str] = set()
    count, last = 0, None
    for kind in kinds:
        if kind != last:
            count += kind in seen
            seen.add(kind)
        last = kind
    return count


def _expected(facts: dict[str, Any], model: str, kind: str) -> str:
    """Return the error to expect on streams of a kind, as the profile has it or as the documentation has."""
    errors = facts.get(f"validation_of_the_{model}", {}).get(kind)
    if not isinstance(errors, dict) or "mean" not in errors:
        return UNMEASURED
    return f"of {100 * errors['mean']:.1f} points in the mean, {100 * errors['worst']:.1f} in the worst stream"


def _longest_spell(profile: Profile, requests: Array, budgets: Array) -> int:
    """Return the most slots in a row in which the cheapest retraining does not fit beside the cheapest inference."""
    costs = [one.cost_macs for one in profile.retraining if one.profit > 0]
    if not costs or not requests.any():
        return 0
    needed = requests * (min(costs) + min(one.cost_macs for one in profile.inference))
    longest = now = 0
    for short in (needed > budgets * (1 + 1e-9)).tolist():
        now = now + 1 if short else 0
        longest = max(longest, now)
    return longest
