"""Times as files have them, to instants: zones, epochs, and the nights in which clocks are changed."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orric.exceptions import OrricError
from orric.instants import SECOND
from orric.local_times import Times, iso, jumps_between, zone_of

BERLIN = zone_of("Europe/Berlin")
# 2026-10-25 00:00 UTC, an hour before clocks in Berlin go from 03:00 back to 02:00.
NIGHT = 1_792_886_400


def instants(cells, zone=BERLIN, twice="order"):
    def where(line):
        return f"f.csv:{line}: column 'time'"

    times = Times(zone)
    values = times.leading(cells)
    if len(values) < len(cells):
        raise times.fault(cells[len(values)], where(2 + len(values)))
    return times.instants(values, np.arange(2, len(cells) + 2), where, twice)


def seconds(cells, **options):
    return ((instants(cells, **options) - NIGHT * SECOND) / SECOND).tolist()


def refused(cells, **options):
    with pytest.raises(OrricError) as caught:
        instants(cells, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cell", "instant"),
    [
        ("2026-10-25T00:00:00Z", 0.0),
        ("2026-10-25 00:00z", 0.0),
        ("2026-10-25T02:00:00+02:00", 0.0),
        ("2026-10-25T02:00:00+0200", 0.0),
        ("2026-10-24 19:30:00.25-04:30", 0.25),
        ("1792886400", 0.0),
        ("1792886400.5", 0.5),
        ("1792886400500", 0.5),
        (" 2026-10-25T01:59:59,75+02 ", -0.25),
        ("2026-10-25t00:00:00.5000000000009z", 0.5),
        ("1792886400.5000000000009", 0.5),
        ("1792886400000.25", 0.00025),
        ("2026-10-25 01:00", -3600.0),
        ("2026-10-25T03:30", 9000.0),
    ],
)
def test_a_time_is_its_instant(cell, instant):
    assert seconds([cell]) == [instant]


def test_every_nanosecond_is_kept():
    assert instants(["2026-10-25T00:00:00.123456789Z"])[0] == NIGHT * SECOND + 123_456_789


@pytest.mark.parametrize(
    "cell",
    ["", "noon", "25.10.2026 02:30", "10/25/2026 02:30", "2026-02-30 10:00", "2026-10-25", "12.5", "2026-10-25T25:00",
     "2026-10-25T10:00:61", "2026-10-25T10:00+25:00", "1e9", "9999-01-01T00:00Z", "7258118400", "99999999999999",
     "1969-12-31T00:00Z", "\u0661" * 10],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_its_line(cell):
    message = refused(["2026-10-25T00:00:00Z", cell])
    assert message.startswith("f.csv:3: column 'time': ")
    assert "seconds since 1970" in message


def test_an_hour_that_comes_twice_is_told_by_the_order():
    cells = ["2026-10-25 01:50", "2026-10-25 02:10", "2026-10-25 02:50", "2026-10-25 02:05", "2026-10-25 02:55",
             "2026-10-25 03:00"]  # fmt: skip
    assert seconds(cells) == [-600, 600, 3000, 3900, 6900, 7200]


def test_rows_a_little_out_of_order_are_not_the_clocks_doing():
    cells = ["2026-10-25 02:10:05", "2026-10-25 02:10:04", "2026-10-25 02:40", "2026-10-25 02:00", "2026-10-25 02:10"]
    assert seconds(cells) == [605, 604, 2400, 3600, 4200]


def test_a_file_with_the_newest_row_first_is_read_upwards():
    cells = ["2026-10-25 03:00", "2026-10-25 02:20", "2026-10-25 02:10", "2026-10-25 02:50", "2026-10-25 01:50"]
    assert seconds(cells) == [7200, 4800, 4200, 3000, -600]


@pytest.mark.parametrize(
    "cells",
    [
        ["2026-10-25 02:10"],
        ["2026-10-25 01:50", "2026-10-25 02:10", "2026-10-25 02:50", "2026-10-25 03:00"],
        ["2026-10-25 02:59", "2026-10-25 02:01", "2026-10-25 02:58", "2026-10-25 02:02", "2026-10-25 02:59"],
    ],
)
def test_where_order_does_not_tell_it_is_refused_unless_said(cells):
    assert "came twice in Europe/Berlin" in refused(cells)
    assert "--twice first" in refused(cells)
    difference = np.subtract(seconds(cells, twice="second"), seconds(cells, twice="first"))
    assert set(difference) <= {0.0, 3600.0}
    assert 3600.0 in difference


def test_the_nights_of_two_years_are_told_apart():
    cells = ["2025-10-26 02:50", "2025-10-26 02:10", "2026-10-25 02:50", "2026-10-25 02:10"]
    assert seconds(cells)[2:] == [3000, 4200]
    assert "line" not in refused(cells[:3])
    assert refused(cells[:3]).startswith("f.csv:4")


def test_an_hour_that_was_not_is_refused():
    message = refused(["2026-03-29 01:59", "2026-03-29 02:30"])
    assert message.startswith("f.csv:3: column 'time': there was no 2026-03-29 02:30:00 in Europe/Berlin")
    assert np.diff(instants(["2026-03-29 01:59", "2026-03-29 03:00"])).tolist() == [60 * SECOND]
    # A clock that knows of no summer time has it.
    assert iso(int(instants(["2026-03-29 02:30"], zone=zone_of("+01:00"))[0])) == "2026-03-29T01:30:00Z"


def test_a_shift_of_half_an_hour_is_known_as_well():
    cells = ["2026-04-05 01:55", "2026-04-05 01:35", "2026-04-05 02:00"]
    found = instants(cells, zone=zone_of("Australia/Lord_Howe"))
    assert (np.diff(found) / SECOND).tolist() == [10 * 60, 25 * 60]


def test_times_with_a_zone_and_without_are_not_mixed():
    assert refused(["2026-10-25T00:00Z", "2026-10-25T01:00"]).startswith("f.csv:3")
    assert refused(["2026-10-25T01:00", "1792886400"]).startswith("f.csv:3")
    assert seconds(["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]) == [1800, 5400]


def test_local_times_need_a_zone():
    assert "--zone Europe/Berlin" in refused(["2026-10-25T01:00"], zone=None)
    for name in ("Europe/Berln", "../etc/passwd", "", "+25:00", "/etc/localtime", "Europe", "a\nb"):
        with pytest.raises(OrricError) as caught:
            zone_of(name)
        assert "\n" not in str(caught.value)


def test_changes_of_the_clocks_are_found_to_the_second():
    found = jumps_between((NIGHT - 86_400 * 300) * SECOND, (NIGHT + 86_400 * 10) * SECOND, BERLIN)
    assert [(iso(jump.instant), jump.shift_s) for jump in found] == [
        ("2026-03-29T01:00:00Z", 3600),
        ("2026-10-25T01:00:00Z", -3600),
    ]
    assert jumps_between(NIGHT * SECOND, (NIGHT + 3599) * SECOND, BERLIN) == []
    assert len(jumps_between(NIGHT * SECOND, (NIGHT + 3600) * SECOND, BERLIN)) == 1


@given(
    st.lists(st.integers(-20_000, 20_000), min_size=1, max_size=60, unique=True).map(sorted),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu", "UTC"]),
)
def test_local_times_written_in_order_come_back_or_are_refused(offsets, name):
    zone = zone_of(name)
    written = [datetime.fromtimestamp(NIGHT + offset, zone) for offset in offsets]
    try:
        found = seconds([f"{one:%Y-%m-%d %H:%M:%S}" for one in written], zone=zone)
    except OrricError:
        # Undecidable nights are never decided wrongly. Others are decided.
        found = seconds([one.isoformat() for one in written])
        assert any(one.replace(fold=0).utcoffset() != one.replace(fold=1).utcoffset() for one in written)
    assert found == offsets
