"""Traces: what is read is what was written, and what is wrong is named in one line."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric

HEADER = "slot,requests,budget_macs"


def refused(path: Path, *words: str) -> orric.TraceError:
    """Return the error of loading, after checks of what every message must hold."""
    with pytest.raises(orric.TraceError) as caught:
        orric.Trace.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert isinstance(caught.value, ValueError)
    assert caught.value.args[2], "a remedy is due"
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    for word in words:
        assert word in message
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, ["empty", HEADER]),
        ("\n \n", None, ["empty"]),
        (HEADER + "\n", 1, ["no slots"]),
        ("slot,request,budget_macs\n1,2,3\n", 1, ["'request'", "did you mean 'requests'"]),
        ("slot;requests;budget_macs\n1;2;3\n", 1, ["separate columns with commas"]),
        ("slot;requests;budget_macs\n1;2,5;3\n", 1, ["separate columns with commas"]),
        ("slot\trequests\tbudget_macs\n1\t2\t3\n", 1, ["separate columns with commas"]),
        ("slot,requests\n1,2\n", 1, ["'budget_macs' is missing", HEADER]),
        ("slot,requests,requests,budget_macs\n1,2,2,3\n", 1, ["twice"]),
        (HEADER + "\n1,ten,3\n", 2, ["'requests'", "'ten' is not a number"]),
        (HEADER + "\n1,10,3\n2,,3\n", 3, ["'requests'", "''"]),
        (HEADER + "\n1,10,nan\n", 2, ["'budget_macs'", "nan", "finite"]),
        (HEADER + "\n1,10,3\n2,inf,3\n", 3, ["'requests'", "inf", "finite"]),
        (HEADER + "\n1,10,1e999\n", 2, ["'budget_macs'", "1e999"]),
        (HEADER + "\n1,-10,3\n", 2, ["'requests'", "-10", ">= 0"]),
        (HEADER + "\n1,10,-3\n", 2, ["'budget_macs'", "-3", ">= 0"]),
        (HEADER + "\n1,10\n", 2, ["2 cells", "3 columns"]),
        (HEADER + "\n1,10,3,4\n", 2, ["4 cells"]),
        (HEADER + "\n0,10,3\n", 2, ["'slot'", "found 0", "expected 1"]),
        (HEADER + "\n1,10,3\n3,10,3\n", 3, ["'slot'", "found 3", "expected 2"]),
        (HEADER + "\n1,10,3\n1,10,3\n", 3, ["'slot'", "expected 2"]),
        (HEADER + "\n1,0,3\n2,0,3\n", None, ["no slot has any requests"]),
        (HEADER + ",severity\n1,10,3,6\n", 2, ["'severity'", "6", "0 to 5"]),
        (HEADER + ",severity\n1,10,3,1.5\n", 2, ["'severity'", "1.5"]),
        (HEADER + ",duration_s\n1,10,3,-1\n", 2, ["'duration_s'", "-1"]),
        (HEADER + ",stream\n1,10,3,a\n2,10,3,b\n", None, ["2 streams"]),
    ],
)
def test_bad_file_is_refused(tmp_path: Path, text: str, line: int | None, words: list[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    error = refused(path, *words)
    if line is not None:
        assert str(error).startswith(f"{path}:{line}:")


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.csv", "no such file")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    refused(tmp_path, "folder")


def test_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "trace.csv")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    refused(path, "UTF-8")


def test_cell_too_long_for_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HEADER + "\n1," + "9" * 200_000 + ",3\n")
    refused(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"requests": [], "budget_macs": []}, ["requests"]),
        ({"requests": [1.0], "budget_macs": [1.0, 2.0]}, ["budget_macs", "2 slots"]),
        ({"requests": [1.0, float("nan")], "budget_macs": [1.0, 1.0]}, ["slot 2", "requests", "nan"]),
        ({"requests": [1.0], "budget_macs": [float("inf")]}, ["slot 1", "budget_macs", "inf"]),
        ({"requests": [-1.0], "budget_macs": [1.0]}, ["slot 1", "-1"]),
        ({"requests": [0.0], "budget_macs": [1.0]}, ["no slot has any requests"]),
        ({"requests": ["many"], "budget_macs": [1.0]}, ["requests", "numbers"]),
        ({"requests": [[1.0]], "budget_macs": [[1.0]]}, ["shape"]),
        ({"requests": [1.0], "budget_macs": [1.0], "severity": (1, 2)}, ["severity"]),
        ({"requests": [1.0], "budget_macs": [1.0], "corruption": ()}, ["corruption"]),
        ({"requests": [1.0], "budget_macs": [1.0], "duration_s": [float("nan")]}, ["duration_s"]),
        ({"requests": [1.0], "budget_macs": [1.0], "severity": (7,)}, ["severity", "7"]),
    ],
)
def test_bad_arrays_are_refused(values: dict[str, list[float]], words: list[str]) -> None:
    with pytest.raises(orric.TraceError) as caught:
        orric.Trace(**values)
    for word in words:
        assert word in str(caught.value)


def test_arrays_are_kept_apart_from_the_callers() -> None:
    requests = np.array([1.0, 2.0])
    trace = orric.Trace(requests=requests, budget_macs=[1, 1])
    requests[0] = 99.0
    assert trace.requests.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        trace.requests[0] = 5.0


def test_range_of_requests_leaves_out_idle_slots() -> None:
    trace = orric.Trace(requests=[0, 7, 3], budget_macs=[1, 1, 1])
    assert (trace.slots, trace.least_requests, trace.most_requests) == (3, 3.0, 7.0)


FLOATS = st.floats(0.0, allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)


def round_trip(trace: orric.Trace) -> orric.Trace:
    """Write a trace and read it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.csv"
        trace.save(path)
        return orric.Trace.load(path)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(FLOATS, FLOATS, FLOATS, st.integers(0, 5)), min_size=1, max_size=6), optional=st.booleans()
)
def test_saved_numbers_come_back_exactly(rows: list[tuple[float, float, float, int]], optional: bool) -> None:
    requests, budgets, durations, severities = zip(*rows, strict=True)
    if not any(requests):
        requests = (1.0, *requests[1:])
    extras = {"duration_s": durations, "severity": severities, "corruption": ("fog",) * len(rows)} if optional else {}
    trace = orric.Trace(requests=requests, budget_macs=budgets, stream="camera", **extras)
    again = round_trip(trace)
    assert again.requests.tolist() == list(requests)
    assert again.budget_macs.tolist() == list(budgets)
    assert again.stream == "camera"
    if optional:
        assert again.duration_s is not None
        assert again.duration_s.tolist() == list(durations)
        assert again.severity == severities
        assert again.corruption == ("fog",) * len(rows)
    else:
        assert again.duration_s is again.severity is again.corruption is None


@settings(max_examples=100)
@given(stream=TEXT, corruption=TEXT)
def test_saved_names_come_back_exactly(stream: str, corruption: str) -> None:
    again = round_trip(orric.Trace(requests=[1], budget_macs=[2], stream=stream, corruption=(corruption,)))
    assert again.stream == stream
    assert again.corruption == (corruption,)


def test_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """A byte-order mark, Windows line ends, blank lines, spaces and another order of columns."""
    path = tmp_path / "trace.csv"
    path.write_bytes("\ufeffbudget_macs, slot ,requests\r\n\r\n8e9, 1 ,10\r\n9e9,2,20\r\n\r\n".encode())
    trace = orric.Trace.load(path)
    assert trace.requests.tolist() == [10.0, 20.0]
    assert trace.budget_macs.tolist() == [8e9, 9e9]
