"""Columns read chunk by chunk: the quick reading is the exact one, value by value and message by message."""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import orric
from orric import csv_chunks, csv_rows
from orric.csv_chunks import Instants, Numbers, WholeNumbers, read_chunks

SMALL = 64


def outcome(path, kinds, **patches):
    """Return all values, lines and keys, and the message where reading ends in an error."""
    found = {name: [] for name in (*kinds, "lines", "keys")}
    places = []
    try:
        with patch.multiple(csv_chunks, **patches):
            for chunk in read_chunks(path, {name: kind() for name, kind in kinds.items()}):
                assert len(chunk)
                places += [chunk.place(index, next(iter(kinds))) for index in (0, len(chunk) - 1)]
                assert chunk.lines[[0, -1]].tolist() == [line for line, _ in places[-2:]]
                for name, values in {**chunk.columns, "lines": chunk.lines, "keys": chunk.keys}.items():
                    found[name] += values.tolist()
    except orric.TraceError as error:
        return found, str(error), places
    return found, None, places


def both(content, kinds):
    """Read a file the quick way, in chunks so small that many end within it, and the exact way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.csv"
        path.write_bytes(content)
        quick = [outcome(path, kinds, CHUNK_BYTES=size, CHUNK_ROWS=rows) for size, rows in ((SMALL, 2), (2**21, 2**15))]
        with patch.dict(sys.modules, {"pyarrow": None, "pyarrow.csv": None}):
            exact = outcome(path, kinds, CHUNK_ROWS=5)
    return quick, exact


number = st.one_of(
    st.integers(0, 10**18).map(str),
    st.floats(allow_nan=True).map(repr),
    st.decimals(0, 10**6, places=7).map(str),
    st.sampled_from(
        ["", " 1 ", "+1", "-0", "1_0", "nan", "inf", "-Infinity", "1e999", ".5", "5.", "1,5", "٣", "\u00a01", "0x10",
         "1d5", "NULL", "NA", "true", "1\x00", "\x0c1", "1e", "9" * 400, "1 000", "29.03.2025 22:00"]
    ),
)  # fmt: skip
moment = st.one_of(
    st.datetimes().map(lambda when: when.isoformat(" ")),
    st.sampled_from(
        ["2023-11-16 18:17:03.9799600", "2023-11-16T18:17Z", "2023-11-16 18:17:03,5+02", " 2023-11-16 18:17 ",
         "2023-11-16", "2023-11-16 18", "2023-11-16 1817", "2023-11-16 18:60", "2023-02-29 00:00", "é", "", "1.5",
         "NaT", "2023-11-16T18:17:60Z"]
    ),
)  # fmt: skip
quoted = st.sampled_from(
    [str, str, str, str, lambda cell: f'"{cell}"', lambda cell: f'"{cell}\n"', lambda cell: f'{cell}"']
)
ends = st.sampled_from(["\n", "\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n \n", "\n,,\n", "\r\n\r\n"])
plain_numbers = st.integers(0, 99).map(str)
plain_moments = st.integers(10, 59).map(lambda second: f"2024-05-10 00:00:{second}.5+00:00")


@st.composite
def files(draw, odd, plain):
    """Draw a file of three columns, of which the middle one is wanted; mostly plain, here and there odd."""
    text = draw(st.sampled_from(["", "\ufeff"])) + draw(st.sampled_from(["", "\n", " \r\n"])) + "id,value,name"
    text += draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    usual = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    for _ in range(draw(st.integers(0, 12))):
        cell = draw(st.one_of(plain, plain, plain, odd))
        if draw(st.integers(0, 9)) == 0:
            cell = draw(quoted)(cell)
        name = draw(st.sampled_from(["a", "a", "a", "Straße", "", 'say "x"', '"a,b"', "\x00", "x" * 70]))
        row = draw(st.sampled_from([f"7,{cell},{name}"] * 9 + [f"7,{cell}", f"7,{cell},{name},8", ""]))
        text += row + (draw(ends) if draw(st.integers(0, 7)) == 0 else usual)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    content = text.encode()
    if draw(st.integers(0, 19)) == 0:
        content = content[:-1] + b"\xff"
    return content


@settings(max_examples=150, deadline=None)
@given(content=files(number, plain_numbers), kind=st.sampled_from([Numbers, WholeNumbers]))
@example(content=b"value\n1\n\n2\n", kind=Numbers)
@example(content=b"value\n1\n \n2", kind=Numbers)
@example(content=b"value,value\n1,2\n", kind=Numbers)
def test_numbers_are_read_quickly_as_they_are_exactly(content, kind):
    quick, (values, error, _) = both(content, {"value": kind})
    for found, told, _ in quick:
        assert (repr(found), told) == (repr(values), error)


@settings(max_examples=150, deadline=None)
@given(content=files(moment, plain_moments))
def test_times_are_read_quickly_as_they_are_exactly(content):
    quick, (values, error, _) = both(content, {"value": Instants})
    for found, told, _ in quick:
        assert (found, told) == (values, error)


def test_two_columns_are_read_and_the_first_fault_of_a_row_is_told():
    content = b"a,b\n1,2\n3,x\ny,4\n"
    quick, (values, error, _) = both(content, {"a": Numbers, "b": Numbers})
    assert (values["a"], values["b"], values["lines"]) == ([1.0], [2.0], [2])
    assert error.endswith("given.csv:3: column 'b': found 'x'; give a finite number")
    assert all((found, told) == (values, error) for found, told, _ in quick)


def test_a_chunk_knows_line_and_cell_of_every_value():
    content = b"\nvalue,x\r\n" + b"".join(b"%d,a\r\n\r\n" % number for number in range(50))
    quick, exact = both(content, {"value": Numbers})
    for found, told, places in (*quick, exact):
        assert told is None
        assert found["value"] == list(range(50))
        assert all(line == 3 + 2 * int(cell) for line, cell in places)
    assert len(quick[0][2]) > 10


def test_rows_have_the_same_key_where_they_have_the_same_cells():
    rows = ["1,a,b", '"1",a,b', '1,"a",b', '1,"a,b",', '1,a,"b,"', "1,a,b "]
    content = "\n".join(["value,x,y", *(row for row in rows for _ in range(20)), ""]).encode()
    quick, exact = both(content, {"value": Numbers})
    for found, _, _ in (*quick, exact):
        keys = [set(found["keys"][start : start + 20]) for start in range(0, 120, 20)]
        assert keys[0] == keys[1] == keys[2]
        assert len(set.union(*keys)) == 4


def test_plain_files_never_meet_the_exact_reader(tmp_path, monkeypatch):
    """Which would cost what chunks save."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "given.csv"
    path.write_text("when,n\n" + "".join(f"2024-05-10 00:00:{n % 60:02}.000001+00:00,{n}\n" for n in range(1000)))
    rows = []
    monkeypatch.setattr(csv_chunks, "_exact_chunks", lambda *given: rows.append(given) or iter(()))
    monkeypatch.setattr(csv_chunks, "CHUNK_BYTES", 4096)
    assert sum(map(len, read_chunks(path, {"when": Instants(), "n": WholeNumbers()}))) == 1000
    assert not rows


def test_a_fault_sends_its_own_chunk_to_the_exact_reader_and_no_other(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    path = tmp_path / "given.csv"
    path.write_text("n\n" + "".join(f"{n}\n" for n in range(1000)).replace("\n500\n", "\n\u00a0500\n"))
    exact, seen = csv_chunks._exact_chunks, []

    def counted(rows, *given):
        rows = list(rows)
        seen.append(len(rows))
        return exact(iter(rows), *given)

    monkeypatch.setattr(csv_chunks, "_exact_chunks", counted)
    monkeypatch.setattr(csv_chunks, "CHUNK_BYTES", 256)
    values = np.concatenate([chunk.columns["n"] for chunk in read_chunks(path, {"n": Numbers()})])
    assert values.tolist() == list(range(1000))
    assert len(seen) == 1
    assert seen[0] < 150


def test_a_field_that_csv_refuses_is_refused(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text("n,x\n1,a\n2," + "a" * 140_000 + "\n")
    with pytest.raises(orric.TraceError, match=r":3: is not CSV: field larger than field limit"):
        list(read_chunks(path, {"n": Numbers()}))


def test_a_line_without_an_end_in_sight_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_rows, "LONGEST_LINE", 1000)
    path = tmp_path / "given.csv"
    path.write_text("n\n1\n" + "2" * 5000)
    with pytest.raises(orric.TraceError, match=r":3: a line of more than 1,000 characters"):
        list(csv_rows.read_rows(path))


def test_compressed_files_are_read_as_what_is_in_them(tmp_path):
    path = tmp_path / "given.csv.gz"
    text = b"n\n" + b"".join(b"%d\n" % number for number in range(1000))
    path.write_bytes(gzip.compress(text))
    with patch.multiple(csv_chunks, CHUNK_BYTES=256):
        found = np.concatenate([chunk.columns["n"] for chunk in read_chunks(path, {"n": Numbers()})])
    assert found.tolist() == list(range(1000))
    for content in (text, gzip.compress(text)[:-20], gzip.compress(text)[:40] + b"damaged" * 99, b""):
        path.write_bytes(content)
        with pytest.raises(orric.TraceError, match=r"is no whole gzip file|the file is empty") as caught:
            list(read_chunks(path, {"n": Numbers()}))
        assert str(path) in str(caught.value)
