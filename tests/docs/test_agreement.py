"""Test the comparison that the tests of README and docs rest on."""

from __future__ import annotations

import pytest

from .test_docs import agrees


@pytest.mark.parametrize(
    ("expected", "printed", "tolerance", "agreed"),
    [
        ("a 1.5  b\n", "a 1.5 b", 0.0, True),
        ("a 1.5 b", "a 1.6 b", 0.0, False),
        ("a 1.5 b", "a 1.6 b", 0.2, True),
        ("a 1.5 b", "a 9.5 b", 0.2, False),
        ("a 1,500 b", "a 1,501 b", 2.0, True),
        ("a\n...\nb", "a\nanything 12\nb", 0.0, True),
        ("a\n...\nb 7", "a\nanything 12\nb 8", 2.0, True),
        ("a\n...", "b", 0.0, False),
        ("", "", 0.0, True),
        ("", "something", 0.0, False),
        ("│ x │ 1 │ ... │", "│ x │ 1 │ 9,999 │", 0.0, True),
    ],
)
def test_text_agrees_up_to_dots_space_and_tolerance(expected, printed, tolerance, agreed):
    assert agrees(expected, printed, tolerance) is agreed
