"""Ragged files of cameras: what is read, what is told, what is refused, and how gaps are filled."""

from __future__ import annotations

import numpy as np
import pytest

from orric.cameras import Reading, origin_of, read_cameras, slots_of
from orric.exceptions import TraceError
from orric.instants import SECOND
from orric.local_times import zone_of
from orric.randomness import generator

T0 = 1_792_886_400


@pytest.fixture
def cameras(tmp_path):
    """Write files by name and read them."""

    def call(reading=None, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.csv").write_text(text)
        return read_cameras(tmp_path, reading or Reading())

    return call


def column(seconds, name="time"):
    return "".join([f"{name}\n", *(f"{T0 + second:.3f}\n" for second in seconds)])


def counted(rows):
    return "".join(["time,requests\n", *(f"{T0 + second},{count}\n" for second, count in rows)])


def arrivals(camera):
    return camera.timestamps(T0 * SECOND).arrival_s.tolist()


def refusal(cameras, reading=None, **files):
    with pytest.raises(TraceError) as caught:
        cameras(reading, **files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_cameras_in_the_order_of_their_names(cameras, tmp_path):
    (tmp_path / "notes.txt").write_text("no camera")
    (tmp_path / ".hidden.csv").write_text("nor this")
    found = cameras(b=column([5, 7.5]), a=column([10]))
    assert [(one.name, one.requests, arrivals(one)) for one in found] == [("a", 1, [10.0]), ("b", 2, [5.0, 7.5])]
    assert origin_of(found, 60.0) == T0 * SECOND
    assert slots_of(found, T0 * SECOND, 5.0) == 3


def test_slots_begin_at_full_ones(cameras):
    found = cameras(a=column([125, 250]))
    assert origin_of(found, 60.0) == (T0 + 120) * SECOND
    assert slots_of(found, origin_of(found, 60.0), 60.0) == 3


def test_columns_are_found_by_their_usual_names_or_named(cameras):
    for text in (f"id,TimeStamp\n1,{T0}\n", f"whatever\n{T0}\n", f"date,time\n1,{T0}\n"):
        assert arrivals(cameras(a=text)[0]) == [0.0]
    assert "name one with --column" in refusal(cameras, a="id,seen\n1,2\n")
    assert arrivals(cameras(Reading(column="seen"), a=f"id,seen\n1,{T0}\n")[0]) == [0.0]
    assert "did you mean 'seen'" in refusal(cameras, Reading(column="sean"), a=f"id,seen\n1,{T0}\n")


def test_silences_are_gaps_when_they_are_unusual(cameras):
    busy = [float(second) for second in range(600)]
    (camera,) = cameras(a=column([*busy, *(second + 700.0 for second in busy)]))
    (gap,) = camera.gaps
    assert (gap.start / SECOND - T0, gap.end / SECOND - T0, gap.line) == (599.0, 700.0, 602)
    # Nobody wonders about as long a silence of a camera that sees somebody every ten seconds.
    assert cameras(a=column([10 * second + 100 * (second > 300) for second in busy]))[0].gaps == ()
    assert len(cameras(Reading(gap_s=9.5), a=column([10 * second for second in range(5)]))[0].gaps) == 4
    with pytest.raises(TraceError, match=r"a.csv:602: column 'time': nothing for 1 min 41 s before it") as caught:
        camera.demand_no_gap(zone_of("UTC"))
    assert "--gaps zero" in str(caught.value)


def test_a_gap_is_filled_by_what_came_before(cameras):
    (camera,) = cameras(Reading(gap_s=50.0), a=column([0, 10, 13, 20, 100, 110]))
    assert [gap.length_s for gap in camera.gaps] == [80.0]
    filled = camera.filled()
    assert filled.gaps == ()
    # 20 s stand before the gap of 80 s: they are repeated four times.
    assert arrivals(filled) == [0, 10, 13, 20, 30, 33, 40, 50, 53, 60, 70, 73, 80, 90, 93, 100, 110]


def test_a_gap_with_too_little_before_it_is_not_filled(cameras):
    (camera,) = cameras(Reading(gap_s=50.0), a=column([0, 100]))
    with pytest.raises(TraceError, match="too little to repeat: give --gaps zero"):
        camera.filled()


def test_a_gap_after_a_gap_is_filled_by_what_filled_the_first(cameras):
    """The silence of the first was copied into the second."""
    minutes = {0: 1, 1: 2, 2: 3, 3: 4, 6: 5, 10: 6, 11: 7}
    (camera,) = cameras(a=counted([(60 * minute, count) for minute, count in minutes.items()]))
    assert [gap.length_s for gap in camera.gaps] == [120.0, 180.0]
    # The first gap becomes 3, 4; before the second stand 3, 4, 5.
    assert camera.filled().timestamps(T0 * SECOND).counts(60.0).tolist() == [1, 2, 3, 4, 3, 4, 5, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("minutes", "counts"), [(60, 6), (30, 12), (20, 18)])
def test_counts_of_long_intervals_pass_the_hour_that_comes_twice(cameras, minutes, counts):
    """Two rows of 02:00 in order were refused: of hours the times do not step back, and of half hours by half of it."""
    walls = [60 * hour + minute for hour in (0, 1, 2, 2, 3, 4) for minute in range(0, 60, minutes)]
    rows = [f"2026-10-25T{wall // 60:02}:{wall % 60:02}:00,{n + 1}" for n, wall in enumerate(walls)]
    (camera,) = cameras(Reading(zone=zone_of("Europe/Berlin")), a="\n".join(["time,requests", *rows, ""]))
    assert (np.diff(camera.instants) == 60 * minutes * SECOND).all()
    assert camera.counts.tolist() == list(range(1, counts + 1))
    assert camera.gaps == ()


def test_counts_are_spread_over_their_intervals(cameras):
    (camera,) = cameras(a=counted([(0, 2), (60, 0), (120, 3)]))
    assert (camera.requests, camera.gaps, camera.last / SECOND - T0) == (5, (), 180.0)
    assert arrivals(camera) == [15.0, 45.0, 130.0, 150.0, 170.0]
    drawn = camera.timestamps(T0 * SECOND, generator(1, "arrivals"))
    assert drawn.counts(60.0).tolist() == [2, 0, 3]
    assert drawn.arrival_s.tolist() != arrivals(camera)
    assert slots_of([camera], T0 * SECOND, 60.0) == 3


def test_missing_and_unknown_intervals_are_gaps(cameras):
    (camera,) = cameras(a=counted([(0, 2), (60, 4), (120, "NaN"), (180, ""), (240, 3), (300, 1)]))
    assert camera.unknown == 2
    assert [(gap.start / SECOND - T0, gap.length_s, gap.line) for gap in camera.gaps] == [(120.0, 120.0, 6)]
    assert camera.filled().timestamps(T0 * SECOND).counts(60.0).tolist() == [2, 4, 2, 4, 3, 1]
    assert camera.timestamps(T0 * SECOND).counts(60.0).tolist() == [2, 4, 0, 0, 3, 1]


def test_a_clock_that_is_a_little_off_makes_neither_gaps_nor_overlaps(cameras):
    (camera,) = cameras(a=counted([(0, 1), (61, 1), (119, 1), (180, 1)]))
    assert camera.gaps == ()
    assert arrivals(camera) == [30.5, 90.0, 149.5, 210.5]
    assert "intervals last 1 min" in refusal(cameras, a=counted([(0, 1), (60, 1), (75, 1), (120, 1), (180, 1)]))


def test_counts_that_cannot_be_used_are_refused(cameras):
    assert refusal(cameras, a=counted([(0, 1), (60, -1)])).endswith(
        "a.csv:3: column 'requests': found '-1'; give a whole number >= 0"
    )
    assert "give --interval-s" not in refusal(cameras, a=counted([(0, 1.5)]))
    assert "--interval-s" in refusal(cameras, a=counted([(0, 1)]))
    assert cameras(Reading(interval_s=30.0), a=counted([(0, 1)]))[0].last == (T0 + 30) * SECOND
    assert "holds no request" in refusal(cameras, a=counted([(0, 0), (60, 0)]))
    assert "no row has a count" in refusal(cameras, a=counted([(0, ""), (60, "")]))
    assert "--count-column" in refusal(cameras, Reading(interval_s=60.0), a=column([0]))


def test_repeated_requests_are_kept_unless_said(cameras):
    text = f"time,id\n{T0},1\n{T0},1\n{T0},2\n{T0 + 1},1\n"
    (camera,) = cameras(a=text)
    assert (camera.requests, camera.duplicates) == (4, 1)
    assert cameras(Reading(duplicates="drop"), a=text)[0].requests == 3
    assert "a.csv:3: repeats a row above" in refusal(cameras, Reading(duplicates="refuse"), a=text)


def test_requests_of_an_hour_that_comes_twice_do_not_repeat_each_other(cameras):
    text = "time,id\n" + "".join(f"2026-10-25 02:{minute},1\n" for minute in (10, 50, 50, 10, 50, 50))
    reading = Reading(zone=zone_of("Europe/Berlin"), duplicates="drop")
    (camera,) = cameras(reading, a=text)
    assert (camera.duplicates, arrivals(camera)) == (2, [600.0, 3000.0, 4200.0, 6600.0])


def test_rows_repeat_each_other_over_a_whole_long_file(cameras):
    """Chunks of it are read in two ways, by the quotes in one of them."""
    rows = [f"{T0 + number},{number}" for number in range(200_000)]
    rows += [f'"{T0 + 5}","5"', f"{T0 + 6},7", rows[7]]
    (camera,) = cameras(a="\n".join(["time,id", *rows, ""]))
    assert (camera.requests, camera.duplicates, camera.disordered) == (200_003, 2, 3)
    assert f"a.csv:{200_002}: repeats a row above" in refusal(
        cameras, Reading(duplicates="refuse"), a=camera.file.read_text()
    )


def test_two_counts_of_an_interval_are_refused_unless_said(cameras):
    text = counted([(0, 1), (60, 2), (60, 2), (120, 3)])
    assert "a.csv:4: a second count of the interval of line 3" in refusal(cameras, a=text)
    assert cameras(Reading(duplicates="drop"), a=text)[0].counts.tolist() == [1, 2, 3]
    assert cameras(Reading(duplicates="keep"), a=text)[0].counts.tolist() == [1, 4, 3]
    unlike = counted([(0, 1), (60, 2), (60, 5), (120, 3)])
    assert "counts 5 where line 3 counts 2" in refusal(cameras, Reading(duplicates="drop"), a=unlike)


def test_disorder_is_sorted_and_told(cameras):
    (camera,) = cameras(a=column([0, 2, 1, 3, 2.5]))
    assert arrivals(camera) == [0.0, 1.0, 2.0, 2.5, 3.0]
    assert camera.disordered == 2
    (upwards,) = cameras(a=column([3, 2, 1, 0]))
    assert (arrivals(upwards), upwards.disordered) == ([0.0, 1.0, 2.0, 3.0], 0)
    (counts,) = cameras(a=counted([(120, 3), (0, 1), (60, 2)]))
    assert counts.counts.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("2026-10-25T01:00Z\n2026-10-25T01:01Z\n", "a.csv:1: the first row is no header"),
        ("time\n", "no rows follow the header"),
        ("time,id\n1792886400\n", "a.csv:2: 1 cells"),
        ("time;id\n1792886400;1\n", "separate columns with commas"),
        ("time\nsoon\n", "a.csv:2: column 'time': found 'soon'"),
        ("time,time\n1,2\n", "stands twice"),
        ("time\n2026-10-25 01:00\n", "has no zone"),
    ],
)
def test_what_cannot_be_read_is_refused(cameras, text, expected):
    assert expected in refusal(cameras, a=text)


def test_folders_without_cameras_are_refused(cameras, tmp_path):
    assert "holds no CSV file" in refusal(cameras)
    with pytest.raises(TraceError, match="no such folder"):
        read_cameras(tmp_path / "nowhere", Reading())
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="is a file"):
        read_cameras(tmp_path / "file", Reading())


@pytest.mark.parametrize("name", ["a\nb.csv", "\x1b[31mred.csv", " .csv", b"\xff.csv"])
def test_names_that_cannot_be_printed_are_refused(cameras, tmp_path, name):
    path = tmp_path / (name if isinstance(name, str) else name.decode(errors="surrogateescape"))
    path.write_text(column([0]))
    message = refusal(cameras)
    assert "rename it" in message
    assert message.isprintable()


def test_names_that_are_spelt_in_two_ways_are_one(cameras, tmp_path):
    for name in ("caf\u00e9", "cafe\u0301"):
        (tmp_path / f"{name}.csv").write_text(column([0]))
    if len(list(tmp_path.iterdir())) == 2:
        assert "names the same camera as" in refusal(cameras)


def test_a_time_is_rounded_down_so_that_it_stays_in_its_slot(cameras):
    times = ["2026-10-25T00:00:59.999999999Z", "2026-10-25T00:01:00Z"]
    (camera,) = cameras(a="\n".join(["time", *times, ""]))
    assert camera.timestamps(T0 * SECOND).counts(60.0).tolist() == [1, 1]
    assert np.isclose(arrivals(camera)[0], 59.999999, rtol=0, atol=1e-9)
