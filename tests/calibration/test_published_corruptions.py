"""The comparison with CIFAR-10-C agrees with itself, and tells a corruption that is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import orric
from orric.calibration.published_corruptions import compare_corruptions

from ..vision.layouts import CLASSES, TESTED, write_corrupted

pytest.importorskip("PIL", reason="needs orric[models]")
FIXED = ("contrast", "jpeg_compression")


def test_own_corruptions_agree_with_themselves(tmp_path: Path) -> None:
    write_corrupted(tmp_path, ("gaussian_noise", "contrast", "impulse_noise", "jpeg_compression"))
    rows = compare_corruptions(tmp_path)
    assert [row.corruption for row in rows[::5]] == ["gaussian_noise", "contrast", "impulse_noise", "jpeg_compression"]
    assert [row.severity for row in rows] == [1, 2, 3, 4, 5] * 4
    for row in rows:
        if row.corruption in FIXED:
            assert row.own_rms == row.published_rms
            assert row.mean_difference == row.std_difference == 0.0
        else:
            assert row.own_rms == pytest.approx(row.published_rms, rel=0.15)
            assert 0.0 < row.mean_difference < 1.0
            assert 0.0 < row.std_difference < 1.0
        assert row.own_accuracy == row.published_accuracy == {}


def test_another_corruption_shows(tmp_path: Path) -> None:
    folder = write_corrupted(tmp_path, ("gaussian_noise", "contrast"))
    (folder / "contrast.npy").rename(folder / "brightness.npy")
    rows = {(row.corruption, row.severity): row for row in compare_corruptions(folder)}
    assert {corruption for corruption, _ in rows} == {"gaussian_noise", "brightness"}
    for severity in (3, 4, 5):
        row = rows["brightness", severity]
        assert row.mean_difference > 10
        assert row.std_difference > 20
        assert abs(row.own_rms / row.published_rms - 1) > 0.2


def test_classifiers_see_both_kinds_and_the_right_labels(tmp_path: Path) -> None:
    write_corrupted(tmp_path, ("contrast",))
    seen = []

    def first(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return np.zeros(len(images), np.int64)

    rows = compare_corruptions(tmp_path, {"first": first}, samples=10_000)
    assert len(seen) == 10
    assert all(len(images) == TESTED for images in seen)
    for row in rows:
        assert row.published_accuracy == row.own_accuracy == {"first": pytest.approx(1 / len(CLASSES))}
    assert compare_corruptions(tmp_path, {"first": first}, samples=5, seed=2)[0].severity == 1
    assert len(seen[-1]) == 5
    assert compare_corruptions(tmp_path, samples=5, seed=2) == compare_corruptions(tmp_path, samples=5, seed=2)


def test_nothing_to_compare(tmp_path: Path) -> None:
    folder = write_corrupted(tmp_path, ("contrast",))
    with pytest.raises(orric.ScenarioError, match="samples: 0; give at least 1"):
        compare_corruptions(folder, samples=0)
    (folder / "contrast.npy").rename(folder / "dust.npy")
    with pytest.raises(orric.ScenarioError, match="none of dust is known; give files named as in"):
        compare_corruptions(folder)
