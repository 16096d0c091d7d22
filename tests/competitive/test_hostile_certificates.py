"""Certificates that strangers made: every kind of tampering is refused in one line, and none costs much memory."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.by_drift import DriftCurve
from orric.competitive import archive
from orric.learning import TimeVarying

from ..builders import ROOT, build_profile

Table = dict[str, Any]
RETRAINING = ((0.0, 0.0), (0.1, 1.0), (0.3, 3.0), (1.0, 10.0))
INFERENCE = ((0.5, 1.0), (0.8, 4.0), (1.0, 10.0))
REQUESTS = np.array([10.0, 40.0, 30.0, 20.0, 50.0, 10.0])
BUDGETS = REQUESTS * (9.0, 12.0, 11.0, 10.5, 13.0, 10.0)


@pytest.fixture(scope="module")
def genuine() -> orric.Certificate:
    """Return a certificate of six slots under drift, of whose curves one changes with time."""
    curves = orric.Exponential(c=0.8, a=0.5, k=2.0), orric.Tabulated(x=(0.0, 0.5, 1.0), y=(0.3, 0.6, 0.7))
    changing = TimeVarying(starts=(1, 3), curves=(curves[0], TimeVarying(starts=(1, 5), curves=curves)))
    fog = DriftCurve(corruption="fog", severity=2, curve=changing)
    profile = build_profile(RETRAINING, INFERENCE, drift_curve=(fog,))
    drift: Any = {"corruption": ["none", *["fog"] * 5], "severity": [0, *[2] * 5]}
    best = orric.offline_optimum(profile, orric.Trace(requests=REQUESTS, budget_macs=BUDGETS, **drift), 1e-6)
    assert orric.verify(best.certificate).upper == best.upper
    return best.certificate


def put(*keys: str | int, value: Any) -> Callable[[Table], object]:
    """Set a value deep in the claim, whether there is one or not."""

    def change(claim: Table) -> None:
        place: Any = claim
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def drop(*keys: str | int) -> Callable[[Table], object]:
    """Leave a value out."""

    def change(claim: Table) -> None:
        place: Any = claim
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


CURVE, FOG = ("profile", "curve"), ("profile", "drift_curve", 0, "curve")
NESTED: Any = {"form": "exponential", "c": 0.8, "a": 0.5, "k": 2.0}
for _ in range(40):
    NESTED = {"form": "time-varying", "starts": [1], "curves": [NESTED]}
CLAIMS: dict[str, tuple[Callable[[Table], object], str]] = {
    "key of another form": (put(*CURVE, "alpha", value=-1e17), "key 'alpha' is missing or unknown"),
    "key of another form, in drift": (put(*FOG, "curves", 0, "alpha", value=-1e17), "key 'alpha'"),
    "unknown key of the claim": (put("proof", value=1), "key 'proof'"),
    "unknown key of the profile": (put("profile", "table", value=[]), "key 'table'"),
    "unknown key of the trace": (put("trace", "duration_s", value=1), "key 'duration_s'"),
    "unknown key of a configuration": (put("profile", "inference", 0, "latency_s", value=1e-3), "key 'latency_s'"),
    "unknown key of the memory": (put("profile", "memory", "slots", value=2), "memory: .* key 'slots'"),
    "unknown key of a drift": (put("profile", "drift_curve", 0, "teacher", value=1), "key 'teacher'"),
    "claim's key missing": (drop("overload"), "key 'overload'"),
    "curve's key missing": (drop(*CURVE, "k"), "key 'k'"),
    "trace's key missing": (drop("trace", "severity"), "key 'severity'"),
    "name missing": (drop("profile", "retraining", 1, "name"), "key 'name'"),
    "truth for a number": (put(*CURVE, "a", value=True), "True is not a finite number"),
    "text for a number": (put(*CURVE, "a", value="0.35"), "is not a finite number"),
    "nothing for a number": (put(*CURVE, "c", value=None), "None is not a finite number"),
    "a number beyond all": (put(*CURVE, "c", value=10**400), "is not a finite number"),
    "infinite parameter": (put(*CURVE, "c", value=float("inf")), "inf is not a finite number"),
    "lower end of truth": (put("lower", value=True), "lower: claimed: True"),
    "lower end negative": (put("lower", value=-1.0), "lower: claimed -1.0"),
    "upper end a list": (put("upper", value=[1.0]), "upper: claimed: a list of 1"),
    "requests of truth": (put("trace", "requests", 0, value=True), "trace: requests"),
    "requests of text": (put("trace", "requests", 0, value="10"), "trace: requests"),
    "requests no list": (put("trace", "requests", value=10), "trace: requests: found 10"),
    "requests none": (put("trace", "requests", value=[]), "not one number >= 0 per slot"),
    "requests beyond counting": (put("trace", "requests", 0, value=1e301), "trace: requests"),
    "a budget more": (lambda claim: claim["trace"]["budget_macs"].append(1.0), "not one number >= 0 per slot"),
    "a stream without name": (put("trace", "stream", value=""), "is no name"),
    "corruptions too few": (lambda claim: claim["trace"]["corruption"].pop(), "corruption is not one per slot"),
    "severities of text": (put("trace", "severity", 1, value="2"), "severity is not one per slot"),
    "overload unknown": (put("overload", value="queue"), "overload: found 'queue'"),
    "overload a table": (put("overload", value={}), "overload: found a table"),
    "profile a list": (put("profile", value=[]), "profile: is malformed"),
    "curve a text": (put(*CURVE, value="exponential"), "does not know curves of form"),
    "form a list": (put(*CURVE, "form", value=["power"]), "does not know curves of form"),
    "curve above 1": (put(*CURVE, "c", value=1.2), "accuracies end at 1"),
    "curve that falls": (put(*CURVE, "k", value=-3.0), "not positive, increasing and concave"),
    "curve that overflows": (
        put(*CURVE, value={"form": "power", "c": 0.9, "a": 1e299, "b": 1e-299, "alpha": 9.0}), "not positive",
    ),
    "points that are not finite": (
        put(*FOG, "curves", 1, "curves", 1, "y", value=[0.3, float("nan"), 0.7]), "is not a finite number",
    ),
    "points that fall": (put(*FOG, "curves", 1, "curves", 1, "y", value=[0.3, 0.2, 0.7]), "not positive, increasing"),
    "points bent upwards": (put(*FOG, "curves", 1, "curves", 1, "y", value=[0.3, 0.4, 0.7]), "not positive, incr"),
    "points of other lengths": (put(*FOG, "curves", 1, "curves", 1, "y", value=[0.3, 0.6]), "not positive, increasing"),
    "points not from 0": (put(*FOG, "curves", 1, "curves", 1, "x", value=[0.1, 0.5, 1.0]), "not positive, incr"),
    "pieces out of order": (put(*FOG, "starts", value=[3, 1]), "one after the other from slot 1 on"),
    "pieces from slot 2": (put(*FOG, "starts", value=[2, 3]), "one after the other from slot 1 on"),
    "pieces by parts of slots": (put(*FOG, "starts", value=[1, 2.5]), "one after the other from slot 1 on"),
    "pieces too few": (lambda claim: claim["profile"]["drift_curve"][0]["curve"]["curves"].pop(), "one after"),
    "pieces nested without end": (put(*CURVE, value=NESTED), "within one that does"),
    "another piece": (put(*FOG, "starts", value=[1, 6]), "lower: claimed|too low"),
    "a nested piece later": (put(*FOG, "curves", 1, "starts", value=[1, 6]), "lower: claimed|too low"),
    "drift twice": (
        lambda claim: claim["profile"]["drift_curve"].append(claim["profile"]["drift_curve"][0]), "stands twice",
    ),
    "severity of truth": (put("profile", "drift_curve", 0, "severity", value=True), "a severity of True"),
    "no choice not to retrain": (put("profile", "retraining", 0, "cost_macs", value=0.5), "costs and gains nothing"),
    "inference worth nothing": (put("profile", "inference", 0, "profit", value=0.0), "inference profit is 0"),
    "inference worth too much": (put("profile", "inference", 2, "profit", value=1.01), "above 1"),
    "no configurations": (put("profile", "inference", value=[]), "has no inference configuration"),
    "configurations no list": (put("profile", "inference", value={"i0": 1}), "in place of a list"),
    "cost of truth": (put("profile", "inference", 0, "cost_macs", value=False), "has a cost_macs"),
    "name no text": (put("profile", "inference", 0, "name", value=7), "is no name"),
    "name of lines": (put("profile", "retraining", 1, "name", value="r\n1"), "slot .* is unknown|lower: claimed"),
    "best accuracy below 0": (put("profile", "best_accuracy", value=-0.9), "best_accuracy is -0.9"),
    "memory no table": (put("profile", "memory", value="uniform"), "memory: 'uniform' is not known"),
    "a factor of 1": (put("profile", "memory", value={"kind": "decay", "factor": 1.0}), "a factor of 1.0"),
    "a window of nothing": (put("profile", "memory", value={"kind": "window", "slots": 0}), "a window of 0"),
    "a window of a part": (put("profile", "memory", value={"kind": "window", "slots": 1.5}), "a window of 1.5"),
    "allocations no list": (put("retraining", value="r0"), "allocations: found 'r0'"),
    "an allocation that is none": (put("inference", 0, value=None), "slot 1: .* None is unknown"),
    "in-time parts of nothing": (put("in_time", value={}), "in_time: is malformed"),
}  # fmt: skip


def replace_by(**arrays: Any) -> Callable[[dict[str, Any]], object]:
    """Put other evidence in the place of all."""

    def change(evidence: dict[str, Any]) -> None:
        evidence.clear()
        evidence.update(arrays)

    return change


EVIDENCE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "starts of parts": (lambda e: e.update(starts=e["starts"].astype(float)), "arrays are no lists|another kind"),
    "bounds in two dimensions": (lambda e: e.update(bounds=e["bounds"][:, None]), "arrays are no lists|unknown"),
    "starts beyond the points": (lambda e: e.update(starts=e["starts"] + 1), "do not make up one function"),
    "starts that go back": (lambda e: e.update(starts=e["starts"][[0, 2, 1, 3, 4, 5, 6]]), "make up one function"),
    "starts that wrap": (
        lambda e: e.update(starts=np.array([0, 2**63 - 1, -(2**63), 1, 2, 3, len(e["bounds"])])), "one function",
    ),
    "a bound beyond all": (lambda e: e["bounds"].__setitem__(3, 1e305), "do not make up one function"),
    "bounds that overflow": (
        lambda e: e.update(bounds=np.where(np.arange(len(e["bounds"])) % 2, 9e299, -9e299)), "too low|cannot be shown",
    ),
    "prices in their place": (
        replace_by(prices=np.array([1e299, -1e299, 0, 0, 0, 0])), "upper: claimed",
    ),
    "prices that are none": (replace_by(prices=np.full(6, np.inf)), "prices are missing"),
    "prices of whole numbers": (
        replace_by(prices=np.zeros(6, np.int64)), "prices are missing|another kind",
    ),
}  # fmt: skip


def changed(certificate: orric.Certificate, claim_by: Any = None, evidence_by: Any = None) -> orric.Certificate:
    """Return a certificate with something changed and a digest that fits."""
    claim, evidence = copy.deepcopy(certificate.claim), copy.deepcopy(certificate.evidence)
    if claim_by:
        claim_by(claim)
    if evidence_by:
        evidence_by(evidence)
    return orric.Certificate(claim, evidence)


def refused(certificate: orric.Certificate, path: Path, message: str) -> None:
    """Demand that a certificate is refused, as it is and from its file, in one line."""
    with pytest.raises(orric.CertificateError, match=message) as caught:
        orric.verify(certificate)
    certificate.save(path)
    with pytest.raises(orric.CertificateError, match=message) as from_file:
        orric.verify(path)
    for one in (caught, from_file):
        assert "\n" not in str(one.value)
        assert len(str(one.value)) < 400


@pytest.mark.parametrize("case", CLAIMS)
def test_claims_that_are_not_what_claims_are(case: str, genuine: orric.Certificate, tmp_path: Path) -> None:
    change, message = CLAIMS[case]
    refused(changed(genuine, change), tmp_path / "forged", message)


@pytest.mark.parametrize("case", EVIDENCE)
def test_evidence_that_is_not_what_evidence_is(case: str, genuine: orric.Certificate, tmp_path: Path) -> None:
    change, message = EVIDENCE[case]
    refused(changed(genuine, evidence_by=change), tmp_path / "forged", message)


def test_a_key_of_another_form_made_error_margins_negative(tmp_path: Path) -> None:
    """The first forgery that was accepted: an optimum of 0.909 where 1.3 is true."""
    curve = orric.Exponential(c=0.9, a=0.4, k=3.0)
    profile = build_profile(((0.0, 0.0), (1.0, 1.0)), ((1.0, 1.0),), curve=curve)
    best = orric.offline_optimum(
        profile, orric.Trace(requests=np.array([1.0, 1.0]), budget_macs=np.array([2.0, 1.0])), 1e-9
    )
    factor = 0.9 / best.upper

    def forge(claim: Table) -> None:
        claim.update(upper=0.9, lower=0.9)
        claim["profile"]["curve"]["alpha"] = -1e15

    forged = changed(best.certificate, forge, lambda e: e.update(bounds=e["bounds"] * factor))
    refused(forged, tmp_path / "forged", "profile: curve: is malformed: the key 'alpha'")


def archived(members: list[tuple[str, bytes]], **options: Any) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return file.getvalue()


def array_of(value: Any, **options: Any) -> bytes:
    """Return an array as NumPy writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(value), **options)
    return file.getvalue()


def members_of(certificate: orric.Certificate) -> list[tuple[str, bytes]]:
    """Return what a certificate's file holds."""
    file = io.BytesIO()
    archive.write(file, json.dumps({**certificate.claim, "digest": certificate.digest()}), certificate.evidence)
    with zipfile.ZipFile(file) as packed:
        return [(name, packed.read(name)) for name in packed.namelist()]


def text_of(text: str) -> tuple[str, bytes]:
    """Return a member that holds a text."""
    return "claim.npy", array_of(np.array(text))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_not_laid_out_as_certificates(genuine: orric.Certificate, tmp_path: Path) -> None:
    whole = members_of(genuine)
    claim, others = whole[0], whole[1:]
    header = claim[1][10:128]
    twice = '{"format": 2, "format": 2}'
    end = archived(whole)
    cases = {
        "a member more": archived([*whole, ("readme.txt", b"")]),
        "a member twice": archived([*whole, whole[1]]),
        "a member elsewhere": archived([(f"../{name}", content) for name, content in whole]),
        "members without end": archived([(f"{n}.npy", b"") for n in range(500)]),
        "another packing": archived(whole, compression=zipfile.ZIP_BZIP2),
        "a third packing": archived(whole, compression=zipfile.ZIP_LZMA),
        "a comment": end[:-2] + struct.pack("<H", 3) + b"abc",
        "something before": b"MZ" * 50 + end[:40],
        "no text": archived(others),
        "text of numbers": archived([("claim.npy", array_of(1.5)), *others]),
        "text of objects": archived([("claim.npy", array_of(np.array({}, object), allow_pickle=True)), *others]),
        "text in bytes": archived([("claim.npy", array_of(np.array(b"{}"))), *others]),
        "text that ends early": archived([(claim[0], claim[1][:-4]), *others]),
        "text of no characters": archived([(claim[0], claim[1][:-4] + b"\xff\xff\xff\x7f"), *others]),
        "a header that computes": archived(
            [(claim[0], claim[1].replace(header, b"{'descr': '<U' + '9', 'shape': ()}".ljust(117) + b"\n")), *others]
        ),
        "another version": archived([("claim.npy", array_of(np.array("{}"), version=(2, 0))), *others]),
        "numbers of half the size": archived([claim, ("bounds.npy", array_of(np.zeros(6, np.float32)))]),
        "numbers in columns": archived([claim, ("bounds.npy", array_of(np.zeros((3, 2), order="F")))]),
        "a key twice": archived([text_of(twice), *others]),
        "no JSON": archived([text_of("{"), *others]),
        "lists without end": archived([text_of("[" * 100_000), *others]),
        "a number without end": archived([text_of('{"format": ' + "9" * 50_000 + "}"), *others]),
    }
    for case, content in cases.items():
        path = tmp_path / "forged"
        path.write_bytes(content)
        with pytest.raises(orric.CertificateError, match="is not a certificate, or a damaged one") as caught:
            orric.verify(path)
        assert "\n" not in str(caught.value), case
    # A member that states another size than it has.
    for stated in (10, len(claim[1]) + 8):
        packed = bytearray(archived(whole))
        for signature, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
            at = packed.index(signature) + place
            packed[at : at + 4] = struct.pack("<I", stated)
        (tmp_path / "forged").write_bytes(packed)
        with pytest.raises(orric.CertificateError, match="is not a certificate"):
            orric.verify(tmp_path / "forged")


# Files of at most 10 MB that ask for as much memory as they may: numbers, texts, lists, tables, characters.
MEASURED = """
import json, resource, sys
import numpy as np
import orric
from orric.competitive import archive

def tried(text, **evidence):
    with open("hostile", "wb") as file:
        archive.write(file, text, evidence)
    del text, evidence
    try:
        orric.verify("hostile")
    except orric.CertificateError as error:
        return str(error)

kind = sys.argv[1]
most = archive.MOST_TEXT // 4 - 100
if kind == "evidence":
    print(tried("{}", bounds=np.zeros(archive.MOST_EVIDENCE // 8 - 100)))
else:
    piece, each = {"numbers": ("1.5,", 54), "texts": ('"",', 134), "lists": ("[],", 254), "tables": ('{"":{}},', 550),
                   "characters": ("\\U0001F600", 2)}[kind]
    count = min(archive.MOST_PARSED // each, most // len(piece)) - 9
    body = '"' + piece * count + '"' if kind == "characters" else "[" + piece * count + "0]"
    print(tried('{"format": 2, "digest": "", "x": ' + body + "}"))
# What getrusage tells includes the process that this one was started from.
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["evidence", "numbers", "texts", "lists", "tables", "characters"])
def test_memory_is_bounded_whatever_the_file_holds(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, kind], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search("do not match its digest|of another format", done.stdout), done.stdout
    assert int(done.stderr) < 512


def test_what_unpacks_to_more_than_its_size_may_is_refused_before(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    for text, evidence, told in (
        ("{}", {"bounds": np.zeros(archive.MOST_EVIDENCE // 8)}, "unpacks to"),
        (" " * (archive.MOST_TEXT // 4), {}, "unpacks to"),
        ("[" + "{}," * 900_000 + "0]", {}, "its text may need"),
    ):
        with path.open("wb") as file:
            archive.write(file, text, {})
        if evidence:
            packed = archived([text_of(text), ("bounds.npy", array_of(evidence["bounds"]))], compression=8)
            path.write_bytes(packed)
        assert path.stat().st_size < 10**6
        with pytest.raises(orric.CertificateError, match=told):
            orric.Certificate.load(path)
