"""The file of a certificate, read as what a stranger wrote: every size and name is bounded before it is unpacked.

It is a ZIP archive of NumPy arrays, as `numpy.savez` writes it: one JSON text and the evidence. Nothing here trusts
what the archive says of itself, and what it may unpack to follows from the size of the file.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from orric.exceptions import CertificateError

Array = np.ndarray[Any, Any]
# The arrays of all kinds of evidence, and the type of each.
EVIDENCE = {"starts": "<i8", "extents": "<f8", "bounds": "<f8", "prices": "<f8", "states": "<i8"}
# What files up to 10 MB may unpack to, in bytes, and larger ones per byte: numbers hardly compress, texts do.
MOST_EVIDENCE, MOST_TEXT, MOST_PARSED = 1 << 27, 3 << 24, 3 << 26
EVIDENCE_PER_BYTE, TEXT_PER_BYTE, PARSED_PER_BYTE = 8, 8, 20
# The list of members at the end of the archive, a few dozen bytes each.
MOST_DIRECTORY = 1 << 12
CHUNK = 1 << 20
_HEADER = re.compile(
    r"\{'descr': '(<i8|<f8|<U(\d{1,10}))', 'fortran_order': False, 'shape': \((?:(\d{1,10}),)?\), \} *\n"
)


def read(path: str | Path) -> tuple[Any, dict[str, Array]]:
    """Read a certificate's text, parsed as JSON, and its evidence.

    Raises:
        CertificateError: The file is missing, is no such archive, or unpacks to more than its size may.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file, str(path))
    except FileNotFoundError:
        raise CertificateError(
            str(path), "there is no such file", "write one with: orric optimum --certificate FILE"
        ) from None
    except CertificateError:
        raise
    except Exception as error:  # a damaged archive breaks its readers in many ways
        known = isinstance(error, _MalformedError)
        raise CertificateError(
            str(path),
            f"is not a certificate, or a damaged one{f' ({error})' if known else ''}",
            "write one with: orric optimum --certificate FILE",
        ) from None


def write(file: IO[bytes], text: str, evidence: dict[str, Array]) -> None:
    """Write a certificate's text, packed, and its evidence, which would hardly become smaller, as it is."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in (("claim", np.array(text)), *evidence.items()):
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED if name == "claim" else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=True) as place:
                np.lib.format.write_array(place, np.asarray(array, order="C"), (1, 0), allow_pickle=False)


class _MalformedError(Exception):
    """The archive is not laid out as certificates are; the message says how."""


def _demand(holds: bool, found: str) -> None:
    if not holds:
        raise _MalformedError(found)


def _read(file: IO[bytes], where: str) -> tuple[Any, dict[str, Array]]:
    size = _directory_is_small(file)
    with zipfile.ZipFile(file) as archive:
        members = {one.filename: one for one in archive.infolist()}
        known = {f"{name}.npy" for name in (*EVIDENCE, "claim")}
        _demand(len(members) == len(archive.infolist()), "a member stands twice")
        _demand(set(members) <= known and "claim.npy" in members, f"its members are {str(sorted(members))[:80]}")
        plain = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
        _demand(
            all(one.compress_type in plain and not one.flag_bits & 1 for one in members.values()),
            "its members are packed in an unknown way",
        )
        text_bytes = members["claim.npy"].file_size
        evidence_bytes = sum(one.file_size for name, one in members.items() if name != "claim.npy")
        for unpacked, most, each in (
            (text_bytes, MOST_TEXT, TEXT_PER_BYTE),
            (evidence_bytes, MOST_EVIDENCE, EVIDENCE_PER_BYTE),
        ):
            limit = max(most, each * size)
            if unpacked > limit:
                raise CertificateError(where, f"unpacks to {unpacked:,} bytes", f"{limit:,} are the most for its size")
        claim = _claim(_unpacked(archive, members["claim.npy"]), max(MOST_PARSED, PARSED_PER_BYTE * size), where)
        evidence = {
            name.removesuffix(".npy"): _array(_unpacked(archive, one), EVIDENCE[name.removesuffix(".npy")])
            for name, one in members.items()
            if name != "claim.npy"
        }
    return claim, evidence


def _directory_is_small(file: IO[bytes]) -> int:
    """Check the end of the archive, by which its list of members is found; return the file's size in bytes."""
    size = file.seek(0, 2)
    _demand(size >= 42, "it is too short")
    file.seek(size - 42)
    end = file.read(42)
    # 42 bytes from the end a larger list of members would announce itself.
    _demand(end[:4] != b"PK\6\7" and end[20:24] == b"PK\5\6" and end[-2:] == b"\0\0", "it does not end as an archive")
    entries, directory = struct.unpack("<H", end[30:32])[0], struct.unpack("<I", end[32:36])[0]
    _demand(entries <= len(EVIDENCE) + 1 and directory <= MOST_DIRECTORY, "it holds too many members")
    file.seek(0)
    return size


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> memoryview:
    """Unpack a member to the size that it states, and not a byte more."""
    room = bytearray(member.file_size)
    view, filled = memoryview(room), 0
    with archive.open(member) as packed:
        while filled < len(room):
            got = packed.read(min(CHUNK, len(room) - filled))
            _demand(len(got) > 0, f"{member.filename} is shorter than stated")
            view[filled : filled + len(got)] = got
            filled += len(got)
        _demand(not packed.read(1), f"{member.filename} is longer than stated")
    return view


def _parts(member: memoryview) -> tuple[re.Match[str], memoryview]:
    """Split an array of NumPy's format 1.0 into its header and its data."""
    _demand(bytes(member[:8]) == b"\x93NUMPY\1\0" and len(member) >= 10, "an array is of another format")
    length = struct.unpack("<H", member[8:10])[0]
    header = _HEADER.fullmatch(bytes(member[10 : 10 + length]).decode("latin-1"))
    _demand(header is not None, "an array's header is unknown")
    assert header is not None
    return header, member[10 + length :]


def _array(member: memoryview, kind: str) -> Array:
    """Return an array of numbers of a kind, in at most one dimension."""
    header, data = _parts(member)
    count = 1 if header[3] is None else int(header[3])
    _demand(header[1] == kind and len(data) == 8 * count, "an array is of another kind or length")
    array: Array = np.frombuffer(data, np.dtype(kind))
    return array if header[3] is not None else array.reshape(())


def _claim(member: memoryview, limit: int, where: str) -> Any:
    """Parse the JSON text, in the four bytes a character that NumPy gives it, once it is known to need less memory."""
    header, data = _parts(member)
    _demand(header[2] is not None and header[3] is None and len(data) == 4 * int(header[2]), "its text is none")
    text = str(data, "utf-32-le")
    # What Python needs at most for lists and tables, for texts and for numbers, one after every separator.
    needed = 200 * (text.count("[") + text.count("{")) + 40 * text.count('"') + 48 * text.count(",") + 2 * len(text)
    if needed > limit:
        raise CertificateError(where, f"its text may need {needed:,} bytes", f"{limit:,} are the most for its size")
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a table of keys that stand once each."""
    table = dict(pairs)
    _demand(len(table) == len(pairs), "a key stands twice")
    return table
