"""Certificates of the offline optimum: all that is needed to verify an interval around it anew.

A certificate holds the profile, the trace, the allocations that attain the lower end, and the evidence for the
upper end, of which `checker` tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.competitive.checker import Checker, Verified
from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
FORMAT = 1
# A certificate of the most points that a solver keeps is below it, unpacked.
MOST_BYTES = 1 << 31


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
        total = hashlib.sha256(json.dumps(self.claim, sort_keys=True).encode())
        for name in sorted(self.evidence):
            array = np.ascontiguousarray(self.evidence[name])
            total.update(f"{name} {array.dtype.str} {array.shape}".encode())
            total.update(array.tobytes())
        return total.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the certificate as a ZIP archive of one JSON text and NumPy arrays."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        text = json.dumps({**self.claim, "digest": self.digest()})
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, claim=np.array(text), **self.evidence)  # type: ignore[arg-type]
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
            CertificateError: The file is missing, is no certificate, or does not match its own digest.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                size = sum(part.file_size for part in archive.zip.infolist())
                if size > MOST_BYTES:
                    raise CertificateError(str(path), f"unpacks to {size:,} bytes", f"{MOST_BYTES:,} are the most")
                evidence = {name: archive[name] for name in archive.files if name != "claim"}
                claim = json.loads(str(archive["claim"]))
        except FileNotFoundError:
            raise CertificateError(
                str(path), "there is no such file", "write one with: orric optimum --certificate FILE"
            ) from None
        except CertificateError:
            raise
        except Exception:  # a damaged archive breaks its readers in many ways, and numpy's advice is to unpickle it
            raise CertificateError(
                str(path),
                "is not a certificate, or a damaged one",
                "write one with: orric optimum --certificate FILE",
            ) from None
        if not isinstance(claim, dict) or claim.get("format") != FORMAT:
            raise CertificateError(str(path), "is of another format", f"this version reads format {FORMAT}")
        stated = claim.pop("digest", None)
        certificate = cls(claim, evidence)
        if stated != certificate.digest():
            raise CertificateError(
                str(path), "its contents do not match its digest", "it was changed after it was made"
            )
        return certificate


def profile_claim(profile: Any) -> Any:
    """Return what a certificate says of a profile: all that the optimum depends on, as JSON has it."""
    return json.loads(json.dumps(profile.model_dump(mode="json", exclude_none=True, exclude={"provenance", "table"})))


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
        raise CertificateError(
            "certificate", f"is malformed ({type(error).__name__}: {error})", "make it anew"
        ) from error
