"""What a store was begun with: the files that were given, by hashes that no release takes otherwise."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orric.exceptions import EdgeError, extra

# Of what `Given.written` writes. Stores of before have a line of hashes: the profile's, the student's, the teacher's.
FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Given:
    """The models that an operator gave, which a student that was learned stands or falls with.

    Another student or another teacher makes what was learned foreign: the one is what it was learned from, the other
    who taught it. Nothing else does: prices, curves, resolutions, sampling and training may change while it serves.

    Attributes:
        student: SHA-256 of its file and of what an ONNX model keeps beside it.
        teacher: Likewise; "" where there is none, as where a student only serves.
        alone: The same of the files without what lies beside, which is all that landed stores know.
        landed: Whether it was read from such a store, so that only `alone` can be compared.
    """

    student: str
    teacher: str
    alone: tuple[str, str] = field(compare=False)
    landed: bool = False

    @classmethod
    def of(cls, student: Path, teacher: Path) -> Given:
        """Hash what is given; a file that cannot be read has the hash ""."""
        pairs = [(file_hash(path), file_hash(path, beside=True)) for path in (student, teacher)]
        (first, whole), (second, taught) = pairs
        return cls(whole, taught, (first, second))

    @classmethod
    def read(cls, content: bytes) -> Given | None:
        """Read what a store says; None where it says nothing that can be understood.

        Raises:
            EdgeError: It is of a newer format.
        """
        try:
            text = content.decode()
            words = text.split()
            if len(words) in (2, 3) and all(map(_HASH.fullmatch, words)):
                student, teacher = words[1], words[2] if len(words) == 3 else ""
                return cls(student, teacher, (student, teacher), landed=True)
            table = json.loads(text)
            version, student, teacher = table.pop("format"), table.pop("student"), table.pop("teacher")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if isinstance(version, int) and version > FORMAT:
            found = f"was written by a newer orric (format {version})"
            raise EdgeError("store: given", found, f"this one reads format {FORMAT}: upgrade it, or choose another")
        sound = all(isinstance(one, str) and _HASH.fullmatch(one) for one in (student, teacher or "0" * 64))
        if version != FORMAT or table or not sound:
            return None
        return cls(student, teacher, (student, teacher))

    def written(self) -> bytes:
        """Return what a store keeps of it."""
        return json.dumps({"format": FORMAT, "student": self.student, "teacher": self.teacher}).encode() + b"\n"

    def continues(self, begun: Given) -> bool:
        """Say whether what was learned in a store that was begun with `begun` goes on.

        A teacher that is not there, as where retraining was turned off and its file removed, is not compared.
        """
        student, teacher = self.alone if begun.landed else (self.student, self.teacher)
        return student == begun.student and (not teacher or not begun.teacher or teacher == begun.teacher)

    def after(self, begun: Given | None) -> Given:
        """Return what is to be kept: these, and the teacher of before where there is none now."""
        return self if self.teacher or begun is None else Given(self.student, begun.teacher, self.alone)


def file_hash(path: Path, *, beside: bool = False) -> str:
    """Return the SHA-256 of a file, "" where it cannot be read.

    Args:
        path: The file.
        beside: Whether the weights count that an ONNX model keeps in files beside it, as
            `orric.retraining.models.sha256` counts them, which needs torch.
    """
    try:
        found = hashlib.sha256(path.read_bytes())
        if beside and path.suffix.lower() == ".onnx":
            for name in _external(path):
                with suppress(OSError):
                    found.update((path.parent / name).read_bytes())
    except OSError:
        return ""
    return found.hexdigest()


def _external(path: Path) -> list[str]:
    """Return the names of the files beside an ONNX model that hold weights of it, sorted."""
    with extra("models"):
        import onnx
        from google.protobuf.message import DecodeError
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return []
    kept = (entry for one in model.graph.initializer for entry in one.external_data)
    return sorted({str(entry.value) for entry in kept if entry.key == "location"})
