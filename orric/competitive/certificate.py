"""Certificates of the offline optimum: all that is needed to verify an interval around it anew.

A certificate holds the profile, the trace, the allocations that attain the lower end, and the evidence for the
upper end, of which `checker` tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.competitive.archive import read, write
from orric.competitive.checker import Checker, Verified
from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
# 2: of a profile it holds only what the optimum and its bounds depend on.
FORMAT = 2
# Entries of a list that are written in one go.
PIECE = 10_000


@dataclass(frozen=True, eq=False)
class Certificate:
    """All that is needed to verify an interval around the offline optimum.

    Attributes:
        claim: What is claimed and about what: profile, trace, overload, allocations, lower, upper, and in-time parts
            where late answers do not count.
        evidence: Arrays that prove the upper end.
    """

    claim: dict[str, Any]
    evidence: dict[str, Array]

    @classmethod
    def of(
        cls, problem: Any, allocations: list[dict[str, Any]], lower: float, upper: float, evidence: dict[str, Array]
    ) -> Certificate:
        """Put together what a solver found for an `OfflineProblem`."""
        claim = {
            "format": FORMAT,
            "profile": profile_claim(problem.profile),
            "trace": trace_claim(problem.trace),
            "overload": problem.overload,
            "retraining": [one["retraining"] for one in allocations],
            "inference": [one["inference"] for one in allocations],
            "lower": lower,
            "upper": upper,
        }
        if problem.in_time is not None:
            claim["in_time"] = problem.in_time_claim()
        return cls(claim, dict(evidence))

    def digest(self) -> str:
        """Return a SHA-256 over everything in the certificate, in hexadecimal."""
        total = hashlib.sha256()
        for piece in _canonical(self.claim):
            total.update(piece.encode())
        for name in sorted(self.evidence):
            array = np.ascontiguousarray(self.evidence[name]).reshape(np.shape(self.evidence[name]))
            total.update(f"{name} {array.dtype.str} {array.shape}".encode())
            total.update(array.data)
        return total.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the certificate as a ZIP archive of one JSON text and NumPy arrays."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        text = json.dumps({**self.claim, "digest": self.digest()})
        try:
            with partial.open("wb") as file:
                write(file, text, self.evidence)
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise CertificateError(
                str(target), f"cannot be written ({error.strerror})", "choose another file"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate.

        Raises:
            CertificateError: The file is missing, is no certificate, unpacks to more than its size may, or does not
                match its own digest.
        """
        claim, evidence = read(path)
        if not isinstance(claim, dict) or claim.get("format") != FORMAT:
            raise CertificateError(
                str(path), "is of another format", f"this version reads format {FORMAT}; make it anew"
            )
        stated = claim.pop("digest", None)
        certificate = cls(claim, evidence)
        if stated != certificate.digest():
            raise CertificateError(
                str(path), "its contents do not match its digest", "it was changed after it was made"
            )
        return certificate


def _canonical(value: Any) -> Iterator[str]:
    """Yield a value's JSON, keys in order, in pieces that are never much of a long list."""
    if isinstance(value, dict):
        for number, key in enumerate(sorted(value)):
            yield f"{', ' if number else '{'}{json.dumps(key)}: "
            yield from _canonical(value[key])
        yield "}" if value else "{}"
    elif isinstance(value, list):
        yield "["
        for begin in range(0, len(value), PIECE):
            piece = value[begin : begin + PIECE]
            yield ", " if begin else ""
            if any(isinstance(one, list | dict) for one in piece):
                for number, one in enumerate(piece):
                    yield ", " if number else ""
                    yield from _canonical(one)
            else:
                yield json.dumps(piece)[1:-1]
        yield "]"
    else:
        yield json.dumps(value)


def profile_claim(profile: Any) -> Any:
    """Return what a certificate says of a profile: all that the optimum and its bounds depend on, as JSON has it."""
    whole = json.loads(json.dumps(profile.model_dump(mode="json", exclude_none=True)))
    kept = {name: whole[name] for name in ("name", "best_accuracy", "slope_floor", "curve", "memory")}
    for kind in ("retraining", "inference"):
        kept[kind] = [{name: one[name] for name in ("name", "profit", "cost_macs")} for one in whole[kind]]
    if whole["drift_curve"]:
        names = "corruption", "severity", "curve"
        kept["drift_curve"] = [{name: one[name] for name in names} for one in whole["drift_curve"]]
    return kept


def trace_claim(trace: Any) -> Any:
    """Return what a certificate says of a trace."""
    return {
        "stream": trace.stream,
        "requests": trace.requests.tolist(),
        "budget_macs": trace.budget_macs.tolist(),
        "corruption": list(trace.corruption) if trace.corruption else None,
        "severity": list(trace.severity) if trace.severity else None,
    }


def verify(certificate: Certificate | str | Path, progress: Callable[[float], object] = lambda part: None) -> Verified:
    """Verify a certificate.

    Args:
        certificate: The certificate or its file.
        progress: Called with the share of the work done, from 0 to 1.

    Raises:
        CertificateError: Anything in it is not as claimed; says what and in which slot.
    """
    if not isinstance(certificate, Certificate):
        certificate = Certificate.load(certificate)
    try:
        return Checker(certificate.claim, certificate.evidence).verified(progress)
    except CertificateError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        found = " ".join(f"is malformed ({type(error).__name__}: {error})".split())[:200]
        raise CertificateError("certificate", found, "make it anew") from error
