"""The command `explain`: what it leaves, and unusable options."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("captum")

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "traces/profiles/digits.toml"
SMALL = ["--slots", "5", "--per-slot", "20", "--examples", "2"]


def test_it_leaves_pictures_and_numbers(orric, tmp_path):
    folder = tmp_path / "found"
    status, out, err = orric("explain", "--profile", DIGITS, *SMALL, "--output", folder, "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts == {"folder": str(folder), **json.loads((folder / "summary.json").read_text())}
    assert set(facts["correlation"]) == {"attention", "agreement", "confidence"}
    assert [row["severity"] for row in facts["rows"]] == [1, 2, 3, 4, 5]
    rows = list(csv.DictReader((folder / "signals.csv").read_text().splitlines()))
    assert len(rows) == 10
    assert float(rows[0]["attention"]) == pytest.approx(facts["rows"][0]["attention, frozen"])
    assert {path.name for path in folder.iterdir()} == {
        "attention.png", "attention.svg", "signals.png", "signals.svg", "signals.csv", "summary.json",
        ".orric.json",
    }  # fmt: skip
    for name in ("attention", "signals"):
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 800
    status, out, err = orric("explain", "--profile", DIGITS, *SMALL, "--output", folder, "--method", "lift-cam")
    assert status == 0, err
    assert "Under fog of severity 5" in out
    assert json.loads((folder / "summary.json").read_text())["method"] == "lift-cam"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "gradcam"], "method: 'gradcam' is unknown; did you mean 'grad-cam'?"),
        (["--corruption", "fgo"], "did you mean 'fog'?"),
        (["--layer", "features.9"], "choose one of features"),
        (["--profile", ROOT / "traces/profiles/cifar10c-fog.toml"], "has no [models] to look at"),
        (["--profile", "nowhere.toml"], "nowhere.toml"),
        (["--slots", "4"], "greater than or equal to 5"),
    ],
)
def test_unusable_requests_leave_nothing(orric, tmp_path, arguments, words):
    folder = tmp_path / "found"
    status, out, err = orric("explain", "--profile", DIGITS, *SMALL, "--output", folder, *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert not list(tmp_path.iterdir())


def test_what_lies_in_the_way_is_left_alone(orric, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, out, err = orric("explain", "--profile", DIGITS, *SMALL, "--output", tmp_path)
    assert (status, out) == (2, "")
    assert "exists and holds something else" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
