"""Numbers of a JSON array: as a parser of JSON reads them, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orric.edge.numbers import PIECE, numbers

RNG = np.random.default_rng(1)


def by_the_book(text: bytes, count: int) -> list[int] | None:
    """Return what a parser of JSON finds, None where it is not so many numbers, all equally deep."""
    try:
        level = json.loads(text)
    except ValueError:
        return None
    if not isinstance(level, list):
        return None
    for _ in range(5):
        if not level or not isinstance(level[0], list):
            break
        if any(not isinstance(row, list) for row in level):
            return None
        level = [one for row in level for one in row]
    if len(level) != count or any(type(one) is not int or not 0 <= one <= 255 for one in level):
        return None
    return level


@pytest.mark.parametrize("count", [1, 2, 100, 25_000])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t", ":")])
def test_numbers_of_any_spacing_and_length(count: int, separators: tuple[str, str]) -> None:
    values = RNG.integers(0, 256, count).tolist()
    text = json.dumps(values, separators=separators).encode()
    assert numbers(text, count).tolist() == values
    assert numbers(b" \n" + text + b"\t", count).tolist() == values
    assert numbers(text, count + 1) is None
    assert count == 1 or numbers(text, count - 1) is None


@pytest.mark.parametrize("value", [0, 7, 10, 99, 100, 255])
def test_every_number_of_digits_at_the_seams_of_pieces(value: int) -> None:
    count = 3 * PIECE // len(f"{value},")
    assert (numbers(json.dumps([value] * count, separators=(",", ":")).encode(), count) == value).all()


def test_nested_arrays() -> None:
    values = RNG.integers(0, 256, (9, 32, 32, 3))
    for indent in (None, 1):
        text = json.dumps(values.tolist(), indent=indent).encode()
        assert numbers(text, values.size).tolist() == values.ravel().tolist()
    for wrong in (b"[[1],2]", b"[1,[2]]", b"[[1][2]]", b"[[1],[2]", b"[[1],[2]]]", b"[1],[2]", b"[[1,],[2]]",
                  b"[[],[1,2]]", b"[[[[[[1,2]]]]]]", b"[[1[,]2]]", b"[]1,2[]", b"[1]2,[3]"):  # fmt: skip
        assert numbers(wrong, 2) is None, wrong


@pytest.mark.parametrize(
    "wrong",
    ["", "[]", "[1,2", "1,2", "[1,,2]", "[,1,2]", "[1,2,]", "[1 2]", "[01,2]", "[1,00]", "[1,256]", "[1,1000]",
     "[1,0255]", "[1,-2]", "[1,2.0]", "[1,2e0]", "[1,+2]", "[1,null]", '[1,"2"]', "[1;2]", "[1,2\x00]", "[1,\xa02]",
     "[1, 2 3]",
     "[1\x0b,2]", "[1,99999999999999999999]", "[ , 1 2]", "[1 2 ,]", "{1,2}", "[1,2]x"],
)  # fmt: skip
def test_anything_else_is_nothing(wrong: str) -> None:
    assert numbers(wrong.encode("latin-1"), 2) is None


def test_what_is_wrong_is_found_wherever_it_stands() -> None:
    values = RNG.integers(0, 256, 60_000).tolist()
    text = json.dumps(values, separators=(",", ":")).encode()
    for at in range(1, len(text) - 1, 9973):
        for wrong in (b",", b"x", b" ", b"[", b"]", b"-"):
            changed = text[:at] + wrong + text[at:]
            expected = by_the_book(changed, 60_000)
            found = numbers(changed, 60_000)
            assert (found is None) == (expected is None), (at, wrong)
            assert found is None or found.tolist() == expected


@settings(max_examples=1500, deadline=None)
@given(st.text(alphabet="0125, []\n", max_size=14), st.integers(1, 4))
def test_it_agrees_with_a_parser_of_json(text: str, count: int) -> None:
    given_text = f"[{text}]".encode()
    found, expected = numbers(given_text, count), by_the_book(given_text, count)
    assert (None if found is None else found.tolist()) == expected
