"""Which of a slot's images are kept and drawn: fair parts, each image once, true labels with their images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orric.edge.config import Samples
from orric.edge.samples import SlotSamples
from orric.edge.sender import Sender
from orric.edge.sources import MOST_SOURCES, OTHERS, fair_parts, fairly_drawn, source_of
from orric.edge.uploads import Uploads


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)


def everything(samples: Any, part: float = 1.0, count: int = 10**6) -> np.ndarray:
    return samples.drawn(lambda there: min(there, count), part, {}, np.random.default_rng(0)).images


@given(wanted=st.lists(st.integers(0, 1000), min_size=1, max_size=20), most=st.integers(0, 5000))
def test_parts_are_as_even_as_they_can_be(wanted: list[int], most: int) -> None:
    parts = fair_parts(wanted, most)
    assert sum(parts) == min(most, sum(wanted))
    assert all(part <= asked for part, asked in zip(parts, wanted, strict=True))
    short = [part for part, asked in zip(parts, wanted, strict=True) if part < asked]
    assert max(parts) <= min(short, default=max(parts)) + 1, "nobody has more while another has less than asked for"


@given(
    sizes=st.lists(st.integers(0, 60), min_size=2, max_size=6), count=st.integers(1, 100),
    part=st.floats(0.05, 1.0), seed=st.integers(0, 9),
)  # fmt: skip
def test_no_source_has_more_than_its_part(sizes: list[int], count: int, part: float, seed: int) -> None:
    sources = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    if len(set(sources)) < 2:
        return
    chosen = fairly_drawn(sources, count, part, np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == len(chosen) <= count
    found = Counter(sources[place] for place in chosen)
    assert max(found.values(), default=0) <= np.ceil(part * count)


def test_one_source_alone_has_all() -> None:
    assert len(fairly_drawn(["a"] * 50, 40, 0.1, np.random.default_rng(0))) == 40


def test_who_floods_crowds_nobody_out() -> None:
    samples = SlotSamples(100, np.random.default_rng(0))
    honest = pictures(30, 1)
    samples.arrive(honest[:10], "honest", 0, 0.0)
    for number in range(50):
        samples.arrive(pictures(40, 100 + number), "flood", 0, 0.0)
    samples.arrive(honest[10:], "honest", 0, 0.0)
    samples.close()
    kept = {image.tobytes() for image in everything(samples)}
    assert len(kept) == 100
    assert all(image.tobytes() in kept for image in honest)
    assert samples.crowded_out == 2030 - 100
    drawn = {image.tobytes() for image in everything(samples, 0.5, 40)}
    assert sum(image.tobytes() in drawn for image in honest) == 20


def test_what_is_kept_of_a_source_is_a_uniform_sample() -> None:
    kept = np.zeros(200)
    for seed in range(200):
        samples = SlotSamples(50, np.random.default_rng(seed))
        for at in range(0, 200, 20):
            numbered = np.zeros((20, 1, 1, 3), np.uint8)
            numbered[:, 0, 0, 0] = np.arange(at, at + 20)
            samples.arrive(numbered, "a", 0, 0.0)
        samples.close()
        kept[everything(samples)[:, 0, 0, 0]] += 1
    assert kept.sum() == 200 * 50
    assert np.abs(kept - 50).max() < 5 * np.sqrt(50 * 0.75), "no image is likelier to stay than another"


def test_each_image_counts_once_whoever_sends_it() -> None:
    samples = SlotSamples(100, np.random.default_rng(0))
    for source in ("a", "b"):
        samples.arrive(np.repeat(pictures(1, 1), 30, axis=0), source, 0, 0.0)
    samples.close()
    assert len(everything(samples)) == 1
    assert samples.duplicates == 59


def test_sources_are_told_apart_up_to_a_number() -> None:
    samples = SlotSamples(10_000, np.random.default_rng(0))
    for number in range(MOST_SOURCES + 50):
        samples.arrive(pictures(1, number), str(number), 0, 0.0)
    assert len(samples._sources) == MOST_SOURCES + 1
    assert samples._sources[OTHERS].held == 50
    assert source_of(Sender("192.0.2.1")) != source_of(Sender("192.0.2.1", client="gate"))


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(Samples(retention_s=10.0), None, np.random.default_rng(0), lambda: clock[0])


clock = [0.0]


def test_true_labels_come_to_their_images(uploads: Uploads) -> None:
    clock[0] = 0.0
    one, other = Sender("192.0.2.1"), Sender("192.0.2.2")
    images, again, theirs = pictures(3, 1), pictures(3, 3), pictures(3, 2)
    uploads.remember("7", np.array([1, 2, 3]), uploads.arrive(images, one), one)
    assert uploads.label("7", [1, 2, 5]) == 2
    uploads.remember("7", np.array([4, 4, 4]), uploads.arrive(again, one), one)
    uploads.remember("8", np.array([1, 1, 1]), uploads.arrive(theirs, one), one)
    uploads.remember("8", np.array([9, 9, 9]), uploads.arrive(theirs, other), other)
    assert uploads.label("8", [1, 1, 1]) is None, "two sources used it, so that it names neither's request"
    uploads.close_slot()
    drawn = uploads.drawn(lambda there: there, np.random.default_rng(0))
    truths = {image.tobytes(): truth for image, truth in zip(drawn.images, drawn.truths.tolist(), strict=True)}
    assert [truths[image.tobytes()] for image in images] == [1, 2, 5]
    assert [truths[image.tobytes()] for image in again] == [-1, -1, -1], "of a later request of the same name"
    assert [truths[image.tobytes()] for image in theirs] == [-1, -1, -1]
    clock[0] = 11.0
    assert not len(uploads.drawn(lambda there: there, np.random.default_rng(0)).images), "nothing is kept for longer"


def test_a_few_images_of_another_source_do_not_end_learning() -> None:
    sources = ["camera"] * 300 + ["probe"]
    assert len(fairly_drawn(sources, 30, 0.5, np.random.default_rng(0))) == 16
    assert len(fairly_drawn(sources, 30, 0.5, np.random.default_rng(0), fewest=32)) == 30
    assert len(fairly_drawn(sources, 300, 0.5, np.random.default_rng(0), fewest=32)) == 151


def test_what_is_kept_holds_no_more_than_itself() -> None:
    """An image is a view of the body that it came in, which may be much larger."""
    samples = SlotSamples(10, np.random.default_rng(0))
    samples.arrive(pictures(100, 1)[:1], "a", 0, 0.0)
    (request,) = samples._sources["a"].requests
    assert request.images.base is None or request.images.base.size == request.images.size


def test_after_what_expired_there_is_room_again() -> None:
    samples = SlotSamples(50, np.random.default_rng(0))
    samples.arrive(pictures(2000, 1), "a", 0, 0.0)
    samples.expire(1.0)
    samples.arrive(pictures(40, 2), "a", 0, 2.0)
    samples.close()
    assert len(everything(samples)) == 40


def test_whoever_has_no_token_teaches_nothing_where_that_is_asked_for() -> None:
    uploads = Uploads(Samples(), None, np.random.default_rng(0), everybody=False)
    uploads.arrive(pictures(3, 1), Sender("192.0.2.1"))
    uploads.arrive(pictures(2, 2))
    uploads.arrive(pictures(4, 3), Sender("192.0.2.1", authenticated=True))
    assert uploads.close_slot().arrived == 9, "all of them are served and counted"
    assert len(uploads.drawn(lambda there: there, np.random.default_rng(0)).images) == 4
    assert uploads.outcomes["unauthenticated"] == 5
