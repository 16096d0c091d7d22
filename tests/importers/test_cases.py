"""Small files of layouts that were once misread, each with the right value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import orric
from orric.importers import azure_functions_2021, azure_llm_2023, azure_llm_2024, burstgpt, counts, mooncake, timestamps

from .test_importers import refused

CASES = Path(__file__).parent / "cases"


@pytest.fixture
def written(tmp_path):
    """Write a file and return its path."""

    def write(text):
        path = tmp_path / "given.csv"
        path.write_text(text)
        return path

    return write


def test_the_trace_of_2024_is_not_taken_for_that_of_2023_nor_the_other_way_round(written):
    given = CASES / "azure-2024-layout.csv"
    refused(lambda: azure_llm_2023(given), ":2: ", "has a time zone, as in the trace of 2024", "azure-llm-2024")
    assert azure_llm_2024(given).arrival_s[:3].tolist() == [0.0, 1.007919, 2.015838]
    other = written("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    refused(lambda: azure_llm_2024(other), ":2: ", "has no time zone, as in the trace of 2023", "azure-llm-2023")


def test_functions_arrive_when_they_end_less_what_they_last():
    rows = [line.split(",") for line in (CASES / "functions-2021-layout.csv").read_text().splitlines()[1:]]
    wanted = sorted(float(end) - float(duration) for _, _, end, duration in rows)
    assert azure_functions_2021(CASES / "functions-2021-layout.csv").arrival_s.tolist() == wanted


def test_a_negative_duration_is_refused(written):
    path = written("app,func,end_timestamp,duration\na,f,5,1\na,f,5,-1\n")
    assert ":3: column 'duration'" in refused(lambda: azure_functions_2021(path), "'-1'", ">= 0")


def test_mooncake_counts_milliseconds():
    lines = (CASES / "mooncake-layout.jsonl").read_text().splitlines()
    wanted = [json.loads(line)["timestamp"] / 1000 for line in lines]
    assert mooncake(CASES / "mooncake-layout.jsonl").arrival_s.tolist() == wanted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["no JSON"]),
        ("[1]", ["without 'timestamp'"]),
        ('{"time": 1}', ["without 'timestamp'"]),
        ('{"timestamp": -1}', ["'-1'", ">= 0"]),
        ('{"timestamp": true}', ["'True'"]),
        ('{"timestamp": "5"}', ["'5'"]),
        ('{"timestamp": NaN}', ["'nan'"]),
        ('{"timestamp": 1e400}', ["'inf'"]),
        ('{"timestamp": 99}', ["backwards", "from 100 to 99 ms"]),
    ],
)
def test_a_bad_line_of_mooncake_is_named(written, line, words):
    path = written('{"timestamp": 100}\n\n' + line + "\n")
    assert refused(lambda: mooncake(path), *words).startswith(f"{path}:3: ")


def test_later_files_of_burstgpt_have_two_columns_more(written):
    head = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    path = written(head + "7,,1.5,GPT-4,1,2,3,API log\n7,,2.5,GPT-4,1,0,1,API log\n9,,1,GPT-4,1,2,3,API log\n")
    assert burstgpt(path).arrival_s.tolist() == [7.0, 7.0, 9.0]
    assert burstgpt(path, from_first=True).arrival_s.tolist() == [0.0, 0.0, 2.0]
    refused(lambda: burstgpt(written("Timestamp,Model\n1,a\n")), "Timestamp,Model,Request tokens")


def test_a_gap_between_counts_is_refused_by_name_or_filled():
    given = CASES / "counts-with-gap.csv"
    refused(
        lambda: counts(given, column="requests", interval_s=60.0),
        ":31: column 'time': no rows from 2025-03-29T22:29:00 until 2025-03-29T22:59:00, 30 intervals of 60 s",
        "--gaps zero",
    )
    read = counts(given, column="requests", gaps="zero")
    assert (len(read.requests), read.interval_s) == (120, 60.0)
    assert read.requests[28:60].tolist() == [read.requests[28], *[0] * 30, read.requests[59]]
    assert read.requests[28] > 0 < read.requests[59]
    assert read.facts["filled"] == 30
    assert read.facts["time_column"] == "time"
    gap = {"from": "2025-03-29T22:29:00", "until": "2025-03-29T22:59:00", "intervals": 30}
    assert read.facts["gaps"] == [gap]


def column_of(*times):
    """Return a file of counts at these times."""
    return "when,hits\n" + "".join(f"{time},{number}\n" for number, time in enumerate(times, start=1))


@pytest.mark.parametrize(
    ("times", "options", "words"),
    [
        (("2025-03-30T01:58", "2025-03-30T01:59", "2025-03-30T03:00"), {}, ["clocks are put forward", "their zone"]),
        (("2025-10-26T02:58", "2025-10-26T02:59", "2025-10-26T02:00"), {}, ["clocks are put back", "their zone"]),
        (("2025-10-26T02:58Z", "2025-10-26T02:59Z", "2025-10-26T02:00Z"), {}, ["backwards", "sort"]),
        (("2025-03-30T00:00", "2025-03-30T00:01", "2025-03-30T00:01"), {}, [":4: ", "00:01:00 stands twice"]),
        (
            ("2025-03-30T00:00", "2025-03-30T00:01", "2025-03-30T00:02", "2025-03-30T00:02:30"),
            {},
            [":5: ", "30 s after", "of 60 s"],
        ),
        (("2025-03-30T00:00", "2025-03-30T00:05"), {"interval_s": 60.0}, ["300 s apart, not 60 s", "--interval-s 300"]),
        (("2025-03-30T00:00",), {}, ["one row", "--interval-s"]),
        (("0", "60", "180", "240"), {"time_column": "when"}, [":4: ", "from 120 s until 180", "1 interval of 60 s"]),
        (("0", "60"), {}, ["no column of times", "--interval-s", "--time-column"]),
        (("2025-03-30T00:00", "soon"), {}, [":3: ", "'soon'", "ISO 8601"]),
        (("0", "60"), {"time_column": "wen"}, ["did you mean 'when'"]),
        (("1743285600000", "1743285660000"), {"time_column": "when"}, ["give seconds, or ISO 8601"]),
        (("2025-03-30T00:00", "2025-03-30T00:01"), {"gaps": "one"}, ["'one'", "refuse, zero"]),
        (("2020-01-01T00:00:00", "2020-01-01T00:00:01", "2025-01-01T00:00:00"), {"gaps": "zero"}, ["intervals in all"]),
    ],
)
def test_times_that_do_not_go_on_by_an_interval_are_refused(written, times, options, words):
    refused(lambda: counts(written(column_of(*times)), column="hits", **options), *words)


def test_of_two_columns_of_times_one_is_named(written):
    path = written("begin,end,hits\n2025-01-01T00:00,2025-01-01T00:01,1\n2025-01-01T00:01,2025-01-01T00:02,2\n")
    refused(lambda: counts(path, column="hits"), "2 columns hold times: begin, end", "--time-column")
    assert counts(path, column="hits", time_column="end").facts["first"] == "2025-01-01T00:01:00"


def test_times_with_their_zone_go_on_where_clocks_are_put_forward(written):
    path = written(column_of("2025-03-30T01:59+01:00", "2025-03-30T03:00+02:00", "2025-03-30T03:01+02:00"))
    assert counts(path, column="hits").requests.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("first", "origin", "seconds"),
    [
        ("2025-03-29T22:00:00", "2025-03-29T21:00", [3600.0, 3601.5]),
        ("2025-03-29T22:00:00+01:00", "2025-03-29T21:00:00Z", [0.0, 1.5]),
        ("100", "40", [60.0, 61.5]),
    ],
)
def test_files_that_begin_at_different_times_share_an_origin(written, first, origin, seconds):
    second = str(float(first) + 1.5) if first.isdigit() else first.replace("22:00:00", "22:00:01.5")
    path = written(f"when\n{first}\n{second}\n")
    assert timestamps(path, column="when", origin=origin).arrival_s.tolist() == seconds


@pytest.mark.parametrize(
    ("first", "options", "words"),
    [
        ("2025-03-29T22:00:00", {"origin": "2025-03-29T23:00"}, [":2: ", "is before the origin 2025-03-29T23:00:00"]),
        ("2025-03-29T22:00:00", {"origin": "2025-03-29T21:00Z"}, ["origin: ", "has a time zone", "no time zone"]),
        ("2025-03-29T22:00:00Z", {"origin": "2025-03-29T21:00"}, ["origin: ", "has no time zone"]),
        ("2025-03-29T22:00:00", {"origin": "29.03.2025 22:00"}, ["origin: ", "a date of another form"]),
        ("50", {"origin": "60"}, [":2: ", "'50' is before the origin 60"]),
        ("50", {"origin": "2025-03-29T21:00"}, ["origin: ", "seconds"]),
        ("50", {"origin": 1.0, "from_first": True}, ["one of them"]),
    ],
)
def test_an_origin_that_does_not_fit_is_refused(written, first, options, words):
    refused(lambda: timestamps(written(f"when\n{first}\n"), column="when", **options), *words)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("29.03.2025 22:00", ["a date of another form", "ISO 8601 such as"]),
        ("03/29/2025", ["a date of another form", "ISO 8601 such as"]),
        ("1743285600000", ["milliseconds since 1970", "divide by 1000"]),
        ("1743285600000000", ["microseconds since 1970", "divide by 1e+06"]),
        ("1743285600000000000", ["nanoseconds since 1970"]),
    ],
)
def test_dates_of_other_forms_are_told_from_numbers(written, cell, words):
    message = refused(lambda: timestamps(written(f"when\n{cell}\n"), column="when"), *words)
    assert "finite number" not in message


def test_functions_that_began_before_the_trace_are_left_out_and_told(written):
    path = written("app,func,end_timestamp,duration\na,f,5,9\na,f,6,1\n")
    stream = orric.importers.STREAMS["azure-functions-2021"](path)
    assert stream.counts(60.0).tolist() == [1]
    assert stream.facts == {"left_out": 1}
