"""Timestamps and counts per interval: nothing is lost, nothing is counted twice, and what is wrong has its line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.interval_counts import MOST_TIMESTAMPS, IntervalCounts
from orric.timestamps import MOST_SLOTS

TIMES = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=60).map(sorted)
LENGTHS = st.floats(0.1, 1e5)
COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=20).filter(any)


def refused(action, *words):
    with pytest.raises(orric.TraceError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.args[2], "a remedy is due"
    for word in words:
        assert word in message
    return message


@settings(max_examples=200)
@given(times=st.lists(st.floats(0.0, allow_nan=False, allow_infinity=False), min_size=1).map(sorted))
def test_saved_times_come_back_exactly(times):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.csv"
        orric.Timestamps(times).save(path)
        again = orric.Timestamps.load(path)
        assert again.arrival_s.tolist() == times
        assert again.source == str(path)
        assert [one.name for one in Path(folder).iterdir()] == ["times.csv"]


@settings(max_examples=300)
@given(times=TIMES, slot_s=LENGTHS)
def test_every_request_is_counted_once_in_its_half_open_slot(times, slot_s):
    stamps = orric.Timestamps(times)
    counts = stamps.counts(slot_s)
    assert counts.sum() == len(times)
    assert len(counts) == stamps.slots(slot_s)
    assert counts[-1] > 0
    by_hand = [sum(t * slot_s <= time < (t + 1) * slot_s for time in times) for t in range(min(len(counts), 50))]
    assert counts[:50].tolist() == by_hand


@given(slot_s=st.floats(0.001, 1000.0), slots=st.integers(1, 50))
def test_a_request_at_an_edge_belongs_to_the_later_slot(slot_s, slots):
    edge = slots * slot_s
    stamps = orric.Timestamps([np.nextafter(edge, 0.0), edge])
    assert stamps.slots(slot_s) == slots + 1
    assert stamps.counts(slot_s)[-2:].tolist() == [1, 1]


@given(times=TIMES, slot_s=LENGTHS, slots=st.integers(1, 30))
def test_a_given_number_of_slots_cuts_or_pads(times, slot_s, slots):
    stamps = orric.Timestamps(times)
    whole, asked = stamps.counts(slot_s), stamps.counts(slot_s, slots)
    assert len(asked) == slots
    assert asked[: len(whole)].tolist() == whole[:slots].tolist()
    assert not asked[len(whole) :].any()


@given(times=TIMES, slot_s=LENGTHS, power=st.integers(-4, 4))
def test_compression_shortens_the_slots_alike(times, slot_s, power):
    # Powers of two divide without rounding.
    factor = 2.0**power
    stamps = orric.Timestamps(times)
    quick = stamps.compressed(factor)
    assert quick.counts(slot_s / factor).tolist() == stamps.counts(slot_s).tolist()
    assert quick.arrival_s[-1] == times[-1] / factor


@given(times=TIMES, parts=st.integers(1, 5))
def test_the_parts_are_the_whole(times, parts):
    stamps = orric.Timestamps(times)
    parts = min(parts, len(times))
    shares = [stamps.share(part, parts) for part in range(1, parts + 1)]
    assert sorted(time for share in shares for time in share.arrival_s.tolist()) == times
    sizes = [share.requests for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert shares[0].arrival_s[0] == times[0]


def test_millions_of_rows_are_read(tmp_path):
    times = np.sort(np.random.default_rng(1).random(1_000_000)) * 3600
    orric.Timestamps(times).save(tmp_path / "many.csv")
    assert (orric.Timestamps.load(tmp_path / "many.csv").arrival_s == times).all()


def test_arrays_are_kept_apart_from_the_callers():
    times = np.array([1.0, 2.0])
    stamps = orric.Timestamps(times)
    times[0] = 9.0
    assert stamps.arrival_s.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        stamps.arrival_s[0] = 5.0


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.csv").write_text("earlier")
    (tmp_path / "link.csv").symlink_to("real.csv")
    orric.Timestamps([1.0]).save(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "arrival_s\n1.0\n"


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    refused(lambda: orric.Timestamps([1.0]).save(tmp_path / "none" / "times.csv"), "cannot be written")
    refused(lambda: orric.Timestamps([1.0]).save(tmp_path / ("x" * 300)), "cannot be written")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, ["empty"]),
        ("arrival_s\n", 1, ["no rows"]),
        ("\n\narrival_s\n\n", 3, ["no rows"]),
        ("arrivals\n1\n", 1, ["'arrival_s' is missing", "did you mean 'arrivals'"]),
        ("arrival_s,arrival_s\n1,1\n", 1, ["stands twice"]),
        ('"a\nb"\n1\n', 2, ["'arrival_s' is missing"]),
        ("arrival_s;tokens\n1;2\n", 1, ["separate columns with commas"]),
        ("arrival_s\n1\nsoon\n", 3, ["'arrival_s'", "'soon'"]),
        ("arrival_s\n1\n\n2,3\n", 4, ["2 cells"]),
        ("arrival_s\n1\n\nnan\n", 4, ["'nan'"]),
        ("arrival_s\n1\ninf\n", 3, ["'inf'"]),
        ("arrival_s\n1\n1e999\n", 3, ["'1e999'"]),
        ("arrival_s\n1_0\n", 2, ["'1_0'"]),
        ("arrival_s\n" + "x" * 300 + "\n", 2, ["'xxx", "..."]),
        ("arrival_s\n-1\n2\n", 2, ["-1.0", ">= 0"]),
        ("arrival_s\n1\n2\n\n1.5\n0\n", 5, ["backwards, from 2.0 to 1.5", "sort"]),
        ("arrival_s\n1\n" + "9" * 200_000 + "\n", 3, ["is not CSV"]),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, text, line, words):
    path = tmp_path / "times.csv"
    path.write_text(text)
    message = refused(lambda: orric.Timestamps.load(path), *words)
    assert message.startswith(f"{path}:{line}:" if line else f"{path}: ")
    assert len(message) < len(str(path)) + 250


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    refused(lambda: orric.Timestamps.load(tmp_path), "is a folder")
    refused(lambda: orric.Timestamps.load(tmp_path / "none.csv"), "no such file")
    refused(lambda: orric.Timestamps.load(tmp_path / ("x" * 300)), "cannot be read")
    (tmp_path / "bytes.csv").write_bytes(b"arrival_s\n\xff\xfe\n")
    refused(lambda: orric.Timestamps.load(tmp_path / "bytes.csv"), "UTF-8")


def test_a_file_of_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "times.csv").write_bytes('\ufeff"arrival_s"\r\n\r\n "0.5" \r\n'.replace(" ", "").encode() + b"2\r\n")
    assert orric.Timestamps.load(tmp_path / "times.csv").arrival_s.tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([], ["shape (0,)"]),
        ([[1.0]], ["shape (1, 1)"]),
        (["soon"], ["numbers"]),
        ([0.0, float("nan")], ["request 2", "nan"]),
        ([float("inf")], ["request 1", "inf"]),
        ([0.0, -1.0], ["request 2", "-1.0"]),
        ([2.0, 1.0], ["request 2", "backwards"]),
        ([3.0, 2.0, float("nan")], ["request 2", "backwards"]),
    ],
)
def test_bad_times_are_refused(times, words):
    refused(lambda: orric.Timestamps(times), *words)


STAMPS = orric.Timestamps([0.0, 100.0])
MINUTES = IntervalCounts([2, 1], interval_s=60.0)


@pytest.mark.parametrize("subject", [STAMPS, MINUTES], ids=["timestamps", "counts"])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_lengths_and_factors_are_refused(subject, bad):
    refused(lambda: subject.counts(bad), "slot_s")
    refused(lambda: subject.counts(bad, slots=2), "slot_s")
    refused(lambda: subject.compressed(bad), "factor")


@pytest.mark.parametrize("subject", [STAMPS, MINUTES], ids=["timestamps", "counts"])
def test_bad_numbers_of_slots_and_parts_are_refused(subject):
    for slots in (0, -1, MOST_SLOTS + 1):
        refused(lambda slots=slots: subject.counts(60.0, slots), "slots")
    for part, parts in ((0, 2), (3, 2), (1, 0)):
        refused(lambda part=part, parts=parts: subject.share(part, parts), "part")
    refused(lambda: subject.share(9, 9), "part 9 of 9 has no request")


def test_too_many_slots_are_refused_before_they_take_memory():
    refused(lambda: orric.Timestamps([1.7e9]).counts(1.0), "more than 10,000,000", "from the first request")
    refused(lambda: STAMPS.compressed(1e-320).counts(1.0), "arrival_s")


@pytest.mark.parametrize(
    ("requests", "interval_s", "words"),
    [
        ([], 60.0, ["shape"]),
        ([[1]], 60.0, ["shape"]),
        (["many"], 60.0, ["numbers"]),
        ([1.5], 60.0, ["interval 1", "1.5"]),
        ([1, -1], 60.0, ["interval 2", "-1"]),
        ([float("nan")], 60.0, ["nan"]),
        ([float("inf")], 60.0, ["inf"]),
        ([0, 0], 60.0, ["no request"]),
        ([2**53, 2**53], 60.0, ["requests"]),
        ([1], 0.0, ["interval_s"]),
        ([1], float("nan"), ["interval_s"]),
        ([1, 1], 1.7e308, ["length of all intervals"]),
    ],
)
def test_bad_counts_are_refused(requests, interval_s, words):
    refused(lambda: IntervalCounts(requests, interval_s), *words)


@settings(max_examples=200)
@given(requests=COUNTS, interval_s=st.floats(0.001, 1e5), seed=st.one_of(st.none(), st.integers(0, 5)))
def test_spread_requests_give_the_counts_again(requests, interval_s, seed):
    counts = IntervalCounts(requests, interval_s)
    stamps = counts.timestamps(None if seed is None else np.random.default_rng(seed))
    assert stamps.counts(interval_s, len(requests)).tolist() == requests
    if seed is not None:
        again = counts.timestamps(np.random.default_rng(seed))
        assert again.arrival_s.tolist() == stamps.arrival_s.tolist()


def test_rounding_carries_no_request_into_the_next_interval():
    class Latest:
        def random(self, number):
            return np.full(number, np.nextafter(1.0, 0.0))

    for interval_s in (0.1, 1.0, 60.0):
        requests = [0] * 9 + [1, 0]
        assert IntervalCounts(requests, interval_s).timestamps(Latest()).counts(interval_s, 11).tolist() == requests


def test_evenly_spread_requests_are_equally_far_apart():
    assert IntervalCounts([4], 60.0).timestamps().arrival_s.tolist() == [7.5, 22.5, 37.5, 52.5]


def test_poisson_spread_requests_are_as_far_apart_as_in_a_poisson_process():
    gaps = np.diff(IntervalCounts([1000] * 20, 60.0).timestamps(np.random.default_rng(1)).arrival_s)
    # Standard deviation and mean of exponential gaps are equal; 20,000 of them are known to about 1%.
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)


@given(requests=COUNTS, together=st.integers(1, 7), slots=st.integers(1, 30))
def test_slots_of_several_intervals_add_them_up(requests, together, slots):
    counts = IntervalCounts(requests, 0.1)
    by_hand = [sum(requests[start : start + together]) for start in range(0, len(requests), together)]
    assert counts.counts(0.1 * together).tolist() == by_hand
    assert counts.counts(0.1 * together, slots).tolist() == (by_hand + [0] * slots)[:slots]
    assert counts.compressed(7.0).counts(0.1 * together / 7).tolist() == by_hand


def test_slots_longer_than_all_intervals_hold_everything():
    assert MINUTES.counts(60.0 * 2**40).tolist() == [3]


@pytest.mark.parametrize("slot_s", [90.0, 30.0, 59.9, 1e-9])
def test_slots_that_are_no_whole_number_of_intervals_are_refused(slot_s):
    refused(lambda: MINUTES.counts(slot_s), "no whole number of intervals", "spread")


@given(requests=COUNTS, parts=st.integers(1, 4))
def test_parts_of_counts_are_those_of_the_spread_requests(requests, parts):
    counts = IntervalCounts(requests, 60.0)
    parts = min(parts, sum(requests))
    shares = [counts.share(part, parts).requests for part in range(1, parts + 1)]
    assert np.sum(shares, axis=0).tolist() == requests
    for part, share in enumerate(shares, start=1):
        assert counts.timestamps().share(part, parts).counts(60.0, len(requests)).tolist() == share.tolist()


def test_more_requests_than_memory_holds_are_refused():
    refused(IntervalCounts([MOST_TIMESTAMPS, 1], 60.0).timestamps, "100,000,001 requests")
