"""Importers of public traces: the documented forms are read exactly, and whatever else comes is refused by line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.importers import IMPORTERS, ORIGINS, azure_functions, azure_llm_2023, counts, timestamps

from ..builders import ROOT

AZURE = ROOT.parent / "shared" / "data" / "azure_llm_2023"
LLM = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
MINUTES = ",".join(map(str, range(1, 1441)))
FUNCTIONS = f"HashOwner,HashApp,HashFunction,Trigger,{MINUTES}\n"


@pytest.fixture
def written(tmp_path):
    """Write a file and return its path."""

    def write(text):
        path = tmp_path / "given.csv"
        path.write_text(text)
        return path

    return write


def refused(action, *words):
    with pytest.raises(orric.TraceError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert caught.value.args[2], "a remedy is due"
    for word in words:
        assert word in message
    return message


def row_of(function, counted, trigger="http"):
    """Return a row of the Azure Functions trace with invocations in some minutes."""
    minutes = [counted.get(minute, 0) for minute in range(1, 1441)]
    return f"owner,app,{function},{trigger},{','.join(map(str, minutes))}\n"


def test_every_public_format_tells_its_origin():
    assert set(IMPORTERS) - {"timestamps", "counts"} == set(ORIGINS)


@pytest.mark.parametrize(("name", "requests", "span_s"), [("conv", 19_366, 3501.722), ("code", 8_819, 3435.948)])
def test_the_real_azure_files_are_read(name, requests, span_s):
    path = AZURE / f"AzureLLMInferenceTrace_{name}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    stamps = azure_llm_2023(path)
    assert stamps.requests == requests
    assert stamps.arrival_s[0] == 0.0
    assert stamps.arrival_s[-1] == pytest.approx(span_s, abs=1e-3)
    assert stamps.counts(60.0).sum() == requests


def test_azure_llm_times_count_from_the_first_request_to_the_last_digit(written):
    path = written(
        LLM
        + "2023-11-16 23:59:59.9999998,374,44\n2023-11-16 23:59:59.9999999,1,1\n"
        + "2023-11-16 23:59:59.9999999,1,1\n2023-11-17 00:00:01.0000000,2,2"
    )
    assert azure_llm_2023(path).arrival_s.tolist() == [0.0, 1e-7, 1e-7, 1.0000002]


@settings(max_examples=100)
@given(ticks=st.lists(st.integers(0, 10**11), min_size=1, max_size=20).map(sorted))
def test_azure_llm_times_of_any_distance_are_exact(ticks):
    start = np.datetime64("2023-11-16T18:17:03.97996", "ns")
    rows = [f"{str(start + np.timedelta64(100 * tick, 'ns'))[:-2].replace('T', ' ')},1,2\n" for tick in ticks]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "llm.csv"
        path.write_text(LLM + "".join(rows))
        assert azure_llm_2023(path).arrival_s.tolist() == [(tick - ticks[0]) / 1e7 for tick in ticks]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, ["empty"]),
        (LLM, 1, ["no rows"]),
        ("\nTIME,ContextTokens,GeneratedTokens\n1,2,3\n", 2, ["'TIME,", "TIMESTAMP,ContextTokens"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\n2023-11-16 18:17:03.8,1,2\n", 3, ["backwards", "sort"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\nsoon,1,2\n", 3, ["'soon'", "ISO 8601"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\n,1,2\n", 3, ["''", "ISO 8601"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\nNaT,1,2\n", 3, ["'NaT'"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\n2023-02-30 18:17:03.9,1,2\n", 3, ["'2023-02-30", "is no time"]),
        (LLM + "2023-11-16 24:17:03.9,1,2\n", 2, ["is no time"]),
        (LLM + "2300-11-16 18:17:03.9,1,2\n", 2, ["1970 to 2199"]),
        (LLM + "2023-11-16 18:17:03.9,1\n", 2, ["2 cells"]),
        (LLM + "2023-11-16 18:17:03.9,1,2\n1.5,1,2\n", 3, ["'1.5'"]),
    ],
)
def test_a_bad_azure_llm_file_is_refused(written, text, line, words):
    path = written(text)
    message = refused(lambda: azure_llm_2023(path), *words)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_azure_functions_are_summed_minute_by_minute(written):
    path = written(FUNCTIONS + row_of("f1", {1: 3, 1440: 1}) + row_of("f2", {1: 2, 700: 5}, "timer") + "\n")
    read = azure_functions(path)
    assert (len(read.requests), read.interval_s) == (1440, 60.0)
    assert {minute + 1: int(read.requests[minute]) for minute in np.flatnonzero(read.requests)} == {
        1: 5,
        700: 5,
        1440: 1,
    }


def test_one_azure_function_is_chosen_by_its_hash(written):
    path = written(FUNCTIONS + row_of("f1", {1: 3}) + row_of("f2", {1: 2}) + row_of("f1", {2: 4}))
    assert azure_functions(path, function="f1").requests[:3].tolist() == [3, 4, 0]
    assert azure_functions(path, function="f2").requests.sum() == 2


@given(rows=st.lists(st.lists(st.integers(0, 1000), min_size=7, max_size=7), min_size=1, max_size=6))
def test_azure_functions_lose_no_invocation(rows):
    total = np.sum(rows, axis=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "functions.csv"
        lines = [f"o,a,f{number},http,{','.join(map(str, row))}" for number, row in enumerate(rows)]
        path.write_text("\n".join(["HashOwner,HashApp,HashFunction,Trigger,1,2,3,4,5,6,7", *lines]))
        if total.any():
            assert azure_functions(path).requests.tolist() == total.tolist()
        else:
            refused(lambda: azure_functions(path), "no request")


@pytest.mark.parametrize(
    ("text", "function", "line", "words"),
    [
        ("", None, None, ["empty"]),
        (FUNCTIONS, None, 1, ["no rows"]),
        (FUNCTIONS.replace("Trigger", "Kind") + row_of("f", {1: 1}), None, 1, ["'HashOwner,", "HashFunction,Trigger"]),
        (FUNCTIONS.replace(",7,", ",8,") + row_of("f", {1: 1}), None, 1, ["1,2,...,1440"]),
        ("HashOwner,HashApp,HashFunction,Trigger\no,a,f,http\n", None, 1, ["1,2,...,1440"]),
        (FUNCTIONS + "o,a,f,http,1\n", None, 2, ["5 cells", "1444 columns"]),
        (FUNCTIONS + row_of("f", {1: 1, 3: -2}), None, 2, ["column '3'", "'-2'", "whole number"]),
        (FUNCTIONS + row_of("f", {1: 1}) + row_of("f", {1440: "many"}), None, 3, ["column '1440'", "'many'"]),
        (FUNCTIONS + row_of("f", {5: "1.5"}), None, 2, ["column '5'", "'1.5'"]),
        (FUNCTIONS + row_of("f", {5: ""}), None, 2, ["column '5'", "''"]),
        (FUNCTIONS + row_of("f", {5: "1_0"}), None, 2, ["column '5'", "'1_0'"]),
        (FUNCTIONS + row_of("f", {5: "9" * 30}), None, 2, ["column '5'"]),
        (FUNCTIONS + 3 * row_of("f", {5: 2**52}), None, 4, ["invocations"]),
        (FUNCTIONS + row_of("f", {}), None, None, ["no request"]),
        (FUNCTIONS + row_of("abcdef", {1: 1}), "abcdeg", None, ["'abcdeg'", "did you mean 'abcdef'"]),
        (FUNCTIONS + "".join(row_of(f"f{n}", {1: 1}) for n in range(30)), "g", None, ["among 30", "HashFunction"]),
        (FUNCTIONS + row_of("f", {1: 1}) + row_of("g", {}), "g", None, ["no request"]),
    ],
)
def test_a_bad_azure_functions_file_is_refused(written, text, function, line, words):
    path = written(text)
    message = refused(lambda: azure_functions(path, function=function), *words)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_rows_of_other_functions_are_not_looked_at(written):
    path = written(FUNCTIONS + row_of("f1", {1: 3}) + row_of("f2", {1: "many"}))
    assert azure_functions(path, function="f1").requests.sum() == 3


def test_seconds_are_kept_or_counted_from_the_first(written):
    path = written("id,when\na,100.5\nb,100.5\nc,103\n")
    assert timestamps(path, column="when").arrival_s.tolist() == [100.5, 100.5, 103.0]
    assert timestamps(path, column="when", from_first=True).arrival_s.tolist() == [0.0, 0.0, 2.5]
    assert timestamps(written("when\n-2\n1\n"), column="when", from_first=True).arrival_s.tolist() == [0.0, 3.0]


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["2023-11-16T18:00:00", "2023-11-16 18:00:01.5"], [0.0, 1.5]),
        (["2023-11-16T18:00Z", "2023-11-16T18:00:00.000000001Z"], [0.0, 1e-9]),
        (["2023-11-16T18:00:00+02:00", "2023-11-16T17:00:00+0100", "2023-11-16T16:00:01Z"], [0.0, 0.0, 1.0]),
        (["2023-11-16T23:59:59-03", '"2023-11-17T03:00:00,25Z"'], [0.0, 1.25]),
        (["2024-02-28 23:00:00", "2024-03-01 00:00:00"], [0.0, 90000.0]),
    ],
)
def test_iso_times_count_from_the_first(written, cells, seconds):
    path = written("when,what\n" + "".join(f"{cell},x\n" for cell in cells))
    assert timestamps(path, column="when").arrival_s.tolist() == seconds


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, ["empty"]),
        ("when\n", 1, ["no rows"]),
        ("wen,what\n1,2\n", 1, ["'when' is missing", "did you mean 'wen'"]),
        ("when,when\n1,2\n", 1, ["stands twice"]),
        (",".join(f"c{n}" for n in range(100)) + "\n" + ",".join("1" * 100) + "\n", 1, ["is missing", "88 more"]),
        ("when\n1\n2023-11-16T18:00\n", 3, ["'2023-11-16T18:00'", "finite number"]),
        ("when\n2023-11-16T18:00\n1\n", 3, ["'1'", "ISO 8601"]),
        ("when\n2023-11-16\n", 2, ["'2023-11-16'"]),
        ("when\n16.11.2023 18:00\n", 2, ["'16.11.2023 18:00'"]),
        ("when\n2023-11-16T18:00Z\n2023-11-16T18:00\n", 3, ["no time zone", "or none"]),
        ("when\n2023-11-16T18:00\n2023-11-16T18:00Z\n", 3, ["a time zone", "or none"]),
        ("when\n2023-11-16T18:00Z\n2023-11-16T18:00:00+00:01\n", 3, ["backwards"]),
        ("when\n2023-11-16T18:00:01\n2023-11-16T18:00\n", 3, ["backwards"]),
        ("when\n5\n4\n", 3, ["backwards"]),
        ("when\n-5\n4\n", 2, ["-5.0"]),
        ("when\n5\ninf\n", 3, ["'inf'"]),
    ],
)
def test_a_bad_column_of_times_is_refused(written, text, line, words):
    path = written(text)
    message = refused(lambda: timestamps(path, column="when"), *words)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_a_column_of_counts_is_read(written):
    read = counts(written("minute, hits\n1,3\n\n2, 0\n3,4.0\n"), column="hits", interval_s=30.0)
    assert (read.requests.tolist(), read.interval_s) == ([3, 0, 4], 30.0)
    assert read.counts(60.0).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("hits\n", 1, ["no rows"]),
        ("hit\n1\n", 1, ["did you mean 'hit'"]),
        ("hits\n1\n1.5\n", 3, ["'hits'", "'1.5'", "whole number"]),
        ("hits\n1\n-1\n", 3, ["'-1'"]),
        ("hits\n1\nnan\n", 3, ["'nan'"]),
        ("hits\n1\ninf\n", 3, ["'inf'"]),
        ("hits\n1_0\n", 2, ["'1_0'"]),
        ("hits\nmany\n", 2, ["'many'"]),
        ("hits\n1e300\n", 2, ["'1e300'"]),
        ("hits\n0\n0\n", None, ["no request"]),
    ],
)
def test_a_bad_column_of_counts_is_refused(written, text, line, words):
    path = written(text)
    message = refused(lambda: counts(path, column="hits", interval_s=60.0), *words)
    assert message.startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_a_bad_interval_is_refused(written):
    refused(lambda: counts(written("hits\n1\n"), column="hits", interval_s=0.0), "interval_s")
