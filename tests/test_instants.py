"""ISO 8601 times: read a column at a time as one by one, and whatever is none is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orric
from orric.instants import instant, instants, text_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def nanoseconds_of(moment):
    """Return what Python's own clock says, which counts microseconds."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


@given(st.lists(st.datetimes(datetime(1970, 1, 3), datetime(2199, 12, 30), timezones=zones), min_size=1, max_size=30))
def test_times_of_any_zone_and_of_mixed_lengths_are_read_as_python_reads_them(moments):
    found, zoned = instants([moment.isoformat() for moment in moments], range(len(moments)), "f", "when")
    assert zoned
    assert found.tolist() == [nanoseconds_of(moment) for moment in moments]


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)), min_size=1, max_size=30), st.data())
def test_times_without_a_zone_are_read_as_the_clock_shows_them(moments, data):
    cells = [moment.isoformat(sep=data.draw(st.sampled_from("T "))) for moment in moments]
    found, zoned = instants(cells, range(len(cells)), "f", "when")
    assert not zoned
    assert found.tolist() == [nanoseconds_of(moment.replace(tzinfo=UTC)) for moment in moments]
    assert [text_of(int(one), False) for one in found] == [
        moment.isoformat().rstrip("0") if moment.microsecond else moment.isoformat() for moment in moments
    ]


@given(st.lists(st.text("0123456789-:.,+TZ é\x00", max_size=30), min_size=1, max_size=6), st.integers(0, 6))
def test_the_first_that_is_no_time_is_named_wherever_it_stands(others, place):
    """What is good alone is good among others, and the first that is bad is bad for the same reason."""
    cells = [*others[:place], "2023-11-16 18:00", *others[place:]]

    def outcome(some):
        try:
            return instants(some, range(len(some)), "f", "when", zoned=False)[0].tolist()
        except orric.TraceError as error:
            return str(error)

    alone = [outcome([cell]) for cell in cells]
    bad = next((index for index, one in enumerate(alone) if isinstance(one, str)), None)
    wanted = [one for (one,) in alone] if bad is None else alone[bad].replace("f:0", f"f:{bad}")
    assert outcome(cells) == wanted


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        ("29.03.2025 22:00", "a date of another form"),
        ("03/29/2025", "a date of another form"),
        ("Mar 29 2025", "a date of another form"),
        ("2025-03-29", "a date of another form"),
        ("20250329T220000", "a date of another form"),
        ("2025-02-29 22:00", "is no time"),
        ("2025-13-01 22:00", "is no time"),
        ("2025-03-29 24:00", "is no time"),
        ("2025-03-29 22:00+24:00", "found"),
        ("2200-01-01 00:00", "1970 to 2199"),
        ("1969-12-31 23:59", "1970 to 2199"),
        ("٢٠٢٥-03-29 22:00", "ISO 8601"),
        ("10.0.0.1", "found '10.0.0.1'; give"),
        ("", "found ''; give"),
    ],
)
def test_what_is_no_time_is_told_from_a_date_of_another_form(cell, word):
    with pytest.raises(orric.TraceError, match="ISO 8601") as caught:
        instants(["2025-01-01 00:00", cell], [2, 3], "log.csv", "when")
    assert str(caught.value).startswith("log.csv:3: column 'when': ")
    assert word in str(caught.value)


def test_zones_are_given_throughout_or_never():
    with pytest.raises(orric.TraceError, match=r"3: .*has no time zone, other than the first"):
        instants(["2025-01-01 00:00Z", "2025-01-01 00:00"], [2, 3], "log.csv", "when")
    with pytest.raises(orric.TraceError, match=r"2: .*has a time zone"):
        instants(["2025-01-01 00:00Z"], [2], "log.csv", "when", zoned=False)


def test_one_time_is_read_to_the_nanosecond():
    assert instant("1970-01-01T01:00:00.000000001+01:00", "--origin") == (1, True)
    assert text_of(1, True) == "1970-01-01T00:00:00.000000001Z"
    assert instants(["1970-01-01 00:00"] * 3, [2, 3, 4], "f", "when")[0].dtype == np.int64
