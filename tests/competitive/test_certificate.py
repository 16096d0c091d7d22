"""The checker accepts what the solver proves, and nothing else."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.competitive import states, window
from orric.competitive.checker import Checker
from orric.learning import LearningExtent

from ..builders import ROOT, build_profile
from .instances import MEMORIES, random_instance

Change = Callable[[dict[str, Any], dict[str, Any]], Any]
COMPETITIVE = ROOT / "orric" / "competitive"


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices need not be good ones to be verified."""
    monkeypatch.setattr(window, "STEPS", 60)


def priced(*instance: Any, gap: float) -> orric.OfflineOptimum:
    """Solve an instance as if its window were too wide to go through all states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "MOST_TRANSITIONS", 0)
        return orric.offline_optimum(*instance, gap)


def save_raw(path: Path, claim: dict[str, Any], evidence: dict[str, Any], digest: str) -> Path:
    """Write a certificate as its file lays it down, with whatever digest."""
    with path.open("wb") as file:
        np.savez_compressed(file, claim=np.array(json.dumps({**claim, "digest": digest})), **evidence)
    return path


def changed(certificate: orric.Certificate, change: Change) -> orric.Certificate:
    """Return a certificate with something changed and a digest that fits."""
    claim, evidence = copy.deepcopy(certificate.claim), copy.deepcopy(certificate.evidence)
    change(claim, evidence)
    return orric.Certificate(claim, evidence)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("first", range(0, 120, 40))
def test_what_the_solver_claims_is_verified_from_its_file(first: int, memory: str, tmp_path: Path) -> None:
    for seed in range(first, first + 40):
        instance = random_instance(seed, memory, compete=seed % 2 == 0)
        best = orric.offline_optimum(*instance, (1e-3, 1e-5, 1e-7)[seed % 3])
        path = tmp_path / f"{seed}.npz"
        best.certificate.save(path)
        parts: list[float] = []
        found = orric.verify(path, parts.append)
        assert (found.lower, found.upper, found.gap) == (best.lower, best.upper, best.gap), seed
        assert found.slots == instance[1].slots
        assert found.checks >= found.slots
        assert parts == sorted(parts)
        assert all(0 < part <= 1 for part in parts)
        assert orric.Certificate.load(path).digest() == best.certificate.digest()


def test_overloaded_slots_are_verified() -> None:
    for memory in MEMORIES:
        for seed in range(20):
            profile, trace = random_instance(seed, memory, compete=True)
            scarce = np.random.default_rng(seed).choice([0.02, 1.0], trace.slots)
            trace = orric.Trace(requests=trace.requests, budget_macs=trace.budget_macs * scarce)
            best = orric.offline_optimum(profile, trace, 1e-5, overload="shed")
            assert orric.verify(best.certificate).upper == best.upper
            if trace.requests[scarce < 1].any():
                strict = changed(best.certificate, lambda claim, _: claim.update(overload="error"))
                with pytest.raises(orric.CertificateError, match="no pair of configurations fits"):
                    orric.verify(strict)


# What each of the checker's modules may import of the others.
CHECKING = {
    "certificate.py": {".archive", ".checker"},
    "archive.py": set(),
    "checker.py": {".claims", ".induction", ".states_check"},
    "claims.py": set(),
    "states_check.py": set(),
    "induction.py": {".claims"},
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKING)
def test_checker_shares_no_code_with_the_solver(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((COMPETITIVE / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    own = {module for module in imported if module.split(".")[0] == "orric"}
    assert own == {"orric.exceptions", *(f"orric.competitive{one}" for one in CHECKING[name])}
    assert not imported & {"scipy", "numba", "importlib"}


# Slot 3's budget pays for one of the dear configurations and not for both.
RETRAINING = ((0.0, 0.0), (0.1, 1.0), (0.3, 3.0), (1.0, 10.0))
INFERENCE = ((0.5, 1.0), (0.8, 4.0), (1.0, 10.0))
EACH = (9.0, 12.0, 11.0, 10.5, 13.0, 10.0)


@pytest.fixture(scope="module")
def genuine() -> dict[str, orric.Certificate]:
    """Return a certificate of six slots under each kind of memory."""
    certificates = {}
    for kind in MEMORIES:
        memory = {"uniform": {}, "decay": {"factor": 0.5}, "window": {"slots": 2}}[kind]
        profile = build_profile(RETRAINING, INFERENCE, memory=LearningExtent(kind=kind, **memory))
        requests = np.array([10.0, 40.0, 30.0, 20.0, 50.0, 10.0])
        best = priced(profile, orric.Trace(requests=requests, budget_macs=requests * EACH), gap=1e-6)
        assert orric.verify(best.certificate).upper == best.upper
        certificates[kind] = best.certificate
    return certificates


def scale(name: str, factor: float) -> Change:
    """Multiply one of the claimed numbers."""
    return lambda claim, _: claim.update({name: claim[name] * factor})


def allocate(slot: int, retraining: str, inference: str) -> Change:
    """Replace a slot's allocation."""

    def change(claim: dict[str, Any], _: dict[str, Any]) -> None:
        claim["retraining"][slot], claim["inference"][slot] = retraining, inference

    return change


def put(*keys: str | int, value: Any) -> Change:
    """Replace a value deep in the claim by another, or by a function of it."""

    def change(claim: dict[str, Any], _: dict[str, Any]) -> None:
        place: Any = claim
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value(place[keys[-1]]) if callable(value) else value

    return change


def extend_trace(claim: dict[str, Any], _: dict[str, Any]) -> None:
    """Append a slot without work to the trace."""
    claim["trace"]["requests"].append(0.0)
    claim["trace"]["budget_macs"].append(0.0)


def extend_allocations(claim: dict[str, Any], _: dict[str, Any]) -> None:
    """Append an allocation beyond the trace."""
    claim["retraining"].append("r0")
    claim["inference"].append("i0")


def points(name: str, change: Callable[[Any], Any]) -> Change:
    """Change an array of the evidence."""
    return lambda _, evidence: evidence.update({name: change(evidence[name].copy())})


def with_nan(array: Any) -> Any:
    """Put NaN in the middle."""
    array = array.astype(float)
    array[len(array) // 2] = np.nan
    return array


# What is changed, and what of the message tells. The claim becomes false, or is no longer what the evidence says.
CLAIMS: dict[str, tuple[Change, str]] = {
    "lower end raised": (scale("lower", 1.001), "lower: claimed"),
    "lower end lowered": (scale("lower", 0.999), "lower: claimed"),
    "lower end above the upper": (lambda claim, _: claim.update(lower=2 * claim["upper"]), "lower: claimed"),
    "upper end lowered": (lambda claim, _: claim.update(upper=claim["lower"]), "upper: claimed"),
    "upper end below the lower": (scale("upper", 0.5), "upper: .* below the lower"),
    "upper end raised": (scale("upper", 1.001), "upper: claimed"),
    "upper end infinite": (put("upper", value=float("inf")), "upper: claimed"),
    "upper end not a number": (put("upper", value=float("nan")), "upper"),
    "lower end not a number": (put("lower", value=float("nan")), "lower: claimed"),
    "infeasible pair": (allocate(2, "r3", "i2"), r"slot 3: .* does not fit"),
    "another pair that fits": (allocate(2, "r1", "i0"), "lower: claimed"),
    "unknown retraining": (allocate(2, "r9", "i0"), r"slot 3: .* is unknown"),
    "unknown inference": (allocate(2, "r0", "large"), r"slot 3: .* is unknown"),
    "budget lowered": (put("trace", "budget_macs", 2, value=lambda budget: budget / 4), r"slot 3: .* does not fit"),
    "budget below every pair": (put("trace", "budget_macs", 4, value=1.0), "slot 5: no pair"),
    "requests changed": (put("trace", "requests", 2, value=lambda requests: requests - 1), "lower: claimed"),
    "requests negative": (put("trace", "requests", 2, value=-1.0), "trace: requests"),
    "requests not a number": (put("trace", "requests", 2, value=float("nan")), "trace: requests"),
    "curve's parameter changed": (put("profile", "curve", "a", value=0.3), "lower: claimed"),
    "curve reversed": (put("profile", "curve", "a", value=-0.3), "increasing and concave"),
    "curve convex": (
        put("profile", "curve", value={"form": "tabulated", "x": [0.0, 0.5, 1.0], "y": [0.5, 0.5, 0.8]}),
        "increasing and concave",
    ),
    "curve negative": (put("profile", "curve", "c", value=0.2), "positive"),
    "curve of an unknown form": (put("profile", "curve", "form", value="spline"), "form 'spline'"),
    "inference profit raised": (put("profile", "inference", 2, "profit", value=1.1), "profit is 1.1, above 1"),
    "retraining profit negative": (put("profile", "retraining", 1, "profit", value=-0.1), "configuration 'r1'"),
    "cost not a number": (put("profile", "inference", 1, "cost_macs", value=float("nan")), "configuration 'i1'"),
    "configuration twice": (put("profile", "retraining", 1, "name", value="r0"), "stands twice"),
    "memory unknown": (put("profile", "memory", "kind", value="forever"), "memory"),
    "one slot more": (extend_trace, "allocations"),
    "one allocation more": (extend_allocations, "allocations"),
    "one allocation less": (lambda claim, _: claim["inference"].pop(), "allocations"),
    "a part missing": (lambda claim, _: claim.pop("trace"), "malformed"),
    "evidence missing": (lambda _, evidence: evidence.clear(), "evidence"),
    "evidence of both kinds": (lambda _, evidence: evidence.update(prices=np.zeros(6), bounds=np.zeros(6)), "evidence"),
}  # fmt: skip
BOUNDS: dict[str, tuple[Change, str]] = {
    "a bound lowered in the middle": (
        points("bounds", lambda u: np.where(np.arange(len(u)) == len(u) // 2, 0.99 * u, u)),
        "too low",
    ),
    "all bounds lowered": (
        lambda claim, evidence: (
            claim.update(upper=claim["lower"]),
            evidence.update(bounds=evidence["bounds"] * (claim["lower"] / evidence["bounds"][0])),
        ),
        "too low|cannot be shown",
    ),
    "first bound lowered": (
        lambda claim, evidence: (claim.update(upper=claim["lower"]), np.put(evidence["bounds"], 0, claim["lower"])),
        "slot 1: the bound .* too low",
    ),
    "points of a slot removed": (
        lambda _, evidence: evidence.update(
            starts=np.concatenate([evidence["starts"][:3], evidence["starts"][3:] - 1]),
            extents=np.delete(evidence["extents"], evidence["starts"][3] - 1),
            bounds=np.delete(evidence["bounds"], evidence["starts"][3] - 1),
        ),
        "slot 3: its points",
    ),
    "extents beyond any profit": (points("extents", lambda x: np.where(x == x.max(), 10.0, x)), "its points"),
    "extents below nothing": (points("extents", lambda x: np.concatenate([[-1e-9], x[1:]])), "its points"),
    "extents out of order": (points("extents", lambda x: x[::-1]), "its points"),
    "a slot's points missing": (points("starts", lambda starts: starts[:-1]), "one function per slot"),
    "not a number among the bounds": (points("bounds", with_nan), "one function per slot"),
    "not a number among the extents": (points("extents", with_nan), "one function per slot"),
}
PRICES: dict[str, tuple[Change, str]] = {
    "a price raised": (points("prices", lambda prices: prices + np.eye(6)[3] * prices.max()), "upper: claimed"),
    "all prices nothing": (points("prices", np.zeros_like), "upper: claimed"),
    "a price missing": (points("prices", lambda prices: prices[:-1]), "prices are missing"),
    "not a number among the prices": (points("prices", with_nan), "prices are missing"),
    "other memory": (put("profile", "memory", value={"kind": "decay", "factor": 0.5}), "lower: claimed|do not fit"),
}


CASES = {
    **{f"{kind}: {name}": case for name, case in CLAIMS.items() for kind in MEMORIES},
    **{f"{kind}: {name}": case for name, case in BOUNDS.items() for kind in ("uniform", "decay")},
    **{f"window: {name}": case for name, case in PRICES.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_tampering_is_found_with_and_without_a_new_digest(
    case: str, genuine: dict[str, orric.Certificate], tmp_path: Path
) -> None:
    (change, message), certificate = CASES[case], genuine[case.partition(":")[0]]
    tampered = changed(certificate, change)
    with pytest.raises(orric.CertificateError, match="do not match its digest"):
        orric.verify(save_raw(tmp_path / "edited.npz", tampered.claim, tampered.evidence, certificate.digest()))
    tampered.save(tmp_path / "forged.npz")
    with pytest.raises(orric.CertificateError, match=message) as caught:
        orric.verify(tmp_path / "forged.npz")
    assert "\n" not in str(caught.value)


def test_no_evidence_bent_below_the_optimum_passes() -> None:
    """A bound that ends a millionth below what some allocations earn is refused, however it follows the true one."""
    for seed in range(100):
        instance = random_instance(seed, ("uniform", "decay")[seed % 2], compete=True)
        best = orric.offline_optimum(*instance, 1e-8)
        false = best.lower * (1 - 1e-6)
        for bent in (
            lambda u, false=false: u * (false / u[0]),
            lambda u, false=false: u - (u[0] - false),
            lambda u, false=false: np.minimum(u, false),
        ):
            forged = changed(best.certificate, points("bounds", bent))
            with pytest.raises(orric.CertificateError, match=r"too low|cannot be shown"):
                Checker(forged.claim, forged.evidence).bounds(lambda part: None)


def test_no_prices_prove_less_than_the_optimum() -> None:
    """Every price is a bound, so whatever they are the checker must find the optimum or more."""
    for seed in range(40):
        instance = random_instance(seed, "window", compete=True, slots=6, choices=3)
        certificate = priced(*instance, gap=1e-1).certificate
        optimum, _ = orric.exact_optimum(*instance)
        rng = np.random.default_rng(seed)
        for spread in (0.0, 1e-9, 0.1, 10.0, 1e6):
            prices = certificate.evidence["prices"] + spread * rng.normal(size=instance[1].slots)
            proven, _ = Checker(certificate.claim, {"prices": prices}).prices()
            assert proven >= optimum


def test_a_domain_cut_by_less_than_rounding_is_found() -> None:
    """Where the curve is steep, even extents that round to nothing beside the largest profit are worth a lot."""
    profile = build_profile(
        ((0.0, 0.0), (5e-13, 1.0), (1.0, 100.0)),
        ((1.0, 1.0),),
        curve=orric.Exponential(c=0.9, a=0.8, k=1e13),
        slope_floor=1e-300,
    )
    trace = orric.Trace(requests=[1.0, 1.0, 1.0], budget_macs=[2.0, 1.0, 101.0])
    best = orric.offline_optimum(profile, trace, 1e-6)
    assert best.lower > 1.8
    bounds = np.array([0.3, 0.2, 0.1]) * (1 + 1e-12)
    evidence = {"starts": np.arange(4), "extents": np.zeros(3), "bounds": bounds}
    claim = {**best.certificate.claim, "retraining": ["r0"] * 3, "lower": 0.3 * (1 - 1e-12), "upper": float(bounds[0])}
    with pytest.raises(orric.CertificateError, match="its points do not ascend"):
        orric.verify(orric.Certificate(claim, evidence))


def complaint(path: Path) -> str:
    """Return what is wrong with a file, nothing if it is whole."""
    try:
        orric.Certificate.load(path)
    except orric.CertificateError as error:
        return str(error)
    return ""


def test_a_damaged_file_is_no_certificate(genuine: dict[str, orric.Certificate], tmp_path: Path) -> None:
    """Flipped bits either change nothing that counts or are told in one line."""
    path, certificate = tmp_path / "certificate.npz", genuine["decay"]
    certificate.save(path)
    whole = path.read_bytes()
    told = []
    for place in range(0, len(whole), 23):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        told.append(complaint(path))
    assert sum(map(bool, told)) > 100
    assert not any("\n" in message for message in told)
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(orric.CertificateError, match="is not a certificate"):
            orric.verify(path)


def test_other_files_are_no_certificates(genuine: dict[str, orric.Certificate], tmp_path: Path) -> None:
    with pytest.raises(orric.CertificateError, match="there is no such file"):
        orric.verify(tmp_path / "missing.npz")
    with pytest.raises(orric.CertificateError, match="is not a certificate"):
        orric.verify(tmp_path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", claim=np.array({"format": 1}, object), allow_pickle=True)
    np.savez(tmp_path / "text.npz", claim=np.array("format = 1"))
    for name in ("array.npy", "arrays.npz", "pickled.npz", "text.npz"):
        with pytest.raises(orric.CertificateError, match="is not a certificate"):
            orric.verify(tmp_path / name)
    for name, given in (("list", [1]), ("later", {**genuine["uniform"].claim, "format": 1}), ("none", {})):
        path = tmp_path / f"{name}.npz"
        np.savez(path, claim=np.array(json.dumps(given)))
        with pytest.raises(orric.CertificateError, match=r"is of another format.*reads format 2"):
            orric.verify(path)


def test_unwritable_place_leaves_nothing_behind(genuine: dict[str, orric.Certificate], tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(orric.CertificateError, match="cannot be written"):
        genuine["uniform"].save(tmp_path / "taken")
    with pytest.raises(orric.CertificateError, match="cannot be written"):
        genuine["uniform"].save(tmp_path / "missing" / "certificate.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
