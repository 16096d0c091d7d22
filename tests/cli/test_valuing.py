"""The command `value`: what it writes and prints, and unusable options."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

QUICK = ("value", "--dataset", "digits", "--images", 120, "--flip", 0.3, "--epochs", 2)


def interrupt(*arguments, **settings):
    raise KeyboardInterrupt


def test_a_folder_with_values_summary_and_curve(orric, tmp_path):
    target = tmp_path / "out"
    curve = ("--curve", "0.25", "--seeds", 2, "--jobs", 1, "--methods", "gradient-shapley,loss")
    status, out, err = orric(*QUICK, *curve, "--corrupt", 0.2, "--output", target, "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts.pop("folder") == str(target)
    assert facts == json.loads((target / "summary.json").read_text())
    assert sorted(path.name for path in target.iterdir()) == [
        ".orric.json", "point_removal.png", "point_removal.svg", "summary.json", "values.csv", "values_by_epoch.npz",
    ]  # fmt: skip
    assert (facts["images"], facts["flipped"], facts["corrupted"]) == (120, 36, 24)
    assert [row["method"] for row in facts["detection"]] == ["gradient-shapley", "loss", "random"]
    assert len(facts["curve"]) == 2 * 5
    assert all(len(row["accuracies"]) == 2 for row in facts["curve"])
    assert "25 % most worthy by gradient-shapley" in facts["conclusion"]
    rows = list(csv.DictReader((target / "values.csv").read_text().splitlines()))
    assert len(rows) == 120
    assert [int(row["gradient-shapley rank"]) for row in rows] == list(range(1, 121))
    assert sum(int(row["flipped"]) for row in rows) == 36
    assert {row["class"] for row in rows} == set("0123456789")
    assert int(rows[0]["index"]) == facts["most_suspicious"][0]["index"]
    with np.load(target / "values_by_epoch.npz") as file:
        kept = dict(file)
    means = dict(zip(kept["index"].tolist(), kept["gradient-shapley"].mean(axis=0).tolist(), strict=True))
    for row in rows:
        assert float(row["gradient-shapley value"]) == pytest.approx(means[int(row["index"])], rel=1e-4, abs=1e-7)


def test_tables_and_the_same_bytes_from_the_same_seed(orric, tmp_path):
    written = []
    for name in "ab":
        status, out, err = orric(*QUICK, "--curve", 0, "--output", tmp_path / name)
        assert status == 0, err
        written.append((tmp_path / name / "values.csv").read_bytes())
        assert not (tmp_path / name / "point_removal.png").exists()
    assert written[0] == written[1]
    words = " ".join(out.replace("│", " ").split())
    assert "Finding 36 wrong labels" in words
    assert "Most suspicious by gradient-shapley" in words
    assert "corrupted images" not in words
    orric(*QUICK, "--curve", 0, "--seed", 2, "--output", tmp_path / "c")
    assert (tmp_path / "c" / "values.csv").read_bytes() != written[0]


def test_interrupted_it_leaves_nothing_or_the_earlier_result(orric, tmp_path, monkeypatch):
    target = tmp_path / "out"
    monkeypatch.setattr("orric.valuation.valuing.value_samples", interrupt)
    assert orric(*QUICK, "--output", target) == (130, "", "orric: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    earlier = json.dumps(dict.fromkeys(("dataset", "images", "model", "detection")))
    (target / "summary.json").write_text(earlier)
    told = f"orric: interrupted; nothing was written, and the earlier {target} is kept\n"
    assert orric(*QUICK, "--output", target) == (130, "", told)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (target / "summary.json").read_text() == earlier


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "digts"], "did you mean 'digits'"),
        (["--model", "small-teachr"], "did you mean 'small-teacher'"),
        (["--model", "nowhere.safetensors"], "no such file"),
        (["--methods", "chg"], "'chg' is unknown"),
        (["--flip", "1.5"], "found 1.5; give a part from 0 to 1"),
        (["--corrupt=-0.1"], "found -0.1; give a part from 0 to 1"),
        (["--severity", "6"], "--severity"),
        (["--corrupt", "0.1", "--corruption", "fogg"], "did you mean 'fog'"),
        (["--images", "10"], "asked for 10 of 1500"),
        (["--curve", "0.1,much"], "found '0.1,much'"),
        (["--curve", "1"], "give parts from 0 to below 1"),
        (["--curve", "0.9"], "leave at least 20"),
    ],
)
def test_unusable_options_are_told_in_one_line(orric, tmp_path, options, words):
    status, out, err = orric(*QUICK, "--output", tmp_path / "out", *options)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(orric, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    status, _, err = orric(*QUICK, "--output", tmp_path)
    assert status == 2
    assert "exists and holds something else" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
