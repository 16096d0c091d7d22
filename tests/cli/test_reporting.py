"""orric report, as a shell runs it: comparisons, the page of all results, figures for papers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas
import pytest

from ..browser import CHROMIUM, browser
from ..builders import build_profile, build_scenario, write_profile
from ..result_folders import write_run

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """Return a folder with three runs in it, one under a hostile name."""
    root = tmp_path_factory.mktemp("results")
    profile = write_profile(build_profile(), root / "small.toml")
    given = {
        "requests": {"kind": "uniform", "low": 400, "high": 600}, "arrivals": "poisson", "deadline_s": 0.2,
        "allocators": ("focus-shift", "inference-only"),
    }  # fmt: skip
    for name, spare, seed in (("idle", "idle", 1), ("serving", "inference", 1), (f"deep/{HOSTILE}", "idle", 2)):
        write_run(root / name, build_scenario(profile, spare=spare, **given), seed)
    return root


def test_folders_are_compared_by_every_measure(orric, results, tmp_path) -> None:
    page = tmp_path / "page.html"
    status, out, err = orric("report", results / "idle", results / "serving", "--html", page)
    assert status == 0, err
    assert "spare: idle -> inference" in out
    for words in ("in-time accuracy (%)", "late (%)", "p99 latency (s)", "compute per request (MMACs)"):
        assert words in out
    assert "which says nothing of chance" in out
    status, out, _ = orric("report", results / "idle", results / "serving", results / "idle", "--json")
    found = json.loads(out)
    assert status == 0
    assert [one["after"] for one in found["comparisons"]] == [[str(results / "serving")], [str(results / "idle")]]
    changes = {(one["allocator"], one["measure"]): one for one in found["comparisons"][0]["changes"]}
    late = changes["focus-shift", "late"]
    assert late["before"] > late["after"]
    assert late["p_holm"] is None
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_all_results_below_a_folder_are_listed_and_nothing_else(orric, results) -> None:
    foreign = {"foreign": "{}", "list": "[]", "text": "hello", "numbers": '{"results": [{"allocator": 3}]}',
               "huge": '{"scenario": "x", "seed": 1, "conclusion": ["y"], "results": [{"allocator": "a", '
               '"accuracy_model": "curve", "mean_accuracy": 1e999, "requests": 1, "late": 0}]}'}  # fmt: skip
    for name, text in foreign.items():
        (results / "not" / name).mkdir(parents=True, exist_ok=True)
        (results / "not" / name / "summary.json").write_text(text)
    (results / "not/link").symlink_to(results / "idle")
    status, out, err = orric("report", "--index", results, "--json")
    assert status == 0, err
    found = {one["folder"]: one for one in json.loads(out)["results"]}
    assert set(found) == {"idle", "serving", f"deep/{HOSTILE}"}
    summary = json.loads((results / "idle/summary.json").read_text())
    best = max(summary["results"], key=lambda one: one["in_time_accuracy"])
    one = found["idle"]
    assert (one["name"], one["kind"], one["seed"], one["best"]) == ("small", "run", "1", best["allocator"])
    assert one["accuracy"] == best["in_time_accuracy"]
    assert one["late"] == pytest.approx(best["late"] / best["requests"])
    assert one["verdict"] == summary["conclusion"][0]
    text = (results / "index.html").read_text()
    assert HOSTILE not in text
    assert "deep/&lt;img src=x onerror=alert(1)&gt;" in text
    status, out, _ = orric("report", "--index", results)  # its own page may be written again
    assert status == 0
    # "in time" alone is punctuality, in every other table.
    for told in (out, text):
        assert "in-time accuracy (%)" in " ".join(told.split())
        assert "in time (%)" not in told


def test_folders_that_know_nothing_of_right_answers_in_time_tell_the_rest(orric, results, tmp_path) -> None:
    """As versions of orric before in-time accuracy wrote them."""
    old = tmp_path / "old"
    shutil.copytree(results / "idle", old)
    rows = pandas.read_parquet(old / "result.parquet")
    rows.drop(columns="correct_in_time").to_parquet(old / "result.parquet", index=False)
    summary = json.loads((old / "summary.json").read_text())
    for one in summary["results"]:
        del one["in_time_accuracy"]
    (old / "summary.json").write_text(json.dumps(summary))
    status, out, err = orric("report", old)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{old} is of an earlier version of orric, which did not record: correct_in_time."
    assert lines[1] == summary["conclusion"][0]
    status, out, err = orric("report", old, results / "idle")
    assert status == 0, err
    assert "mean accuracy" in out
    assert "in-time accuracy" not in out
    status, out, err = orric("report", "--index", tmp_path, "--json")
    assert status == 0, err
    (one,) = json.loads(out)["results"]
    best = max(summary["results"], key=lambda one: one["mean_accuracy"])
    assert best["late"]
    assert (one["best"], one["accuracy"]) == (best["allocator"], None), "late answers are right ones, but not in time"
    assert one["late"] == pytest.approx(best["late"] / best["requests"])
    status, out, err = orric("report", old, "--figures", tmp_path / "figures")
    assert status == 2
    assert f"result folder {old}: is of an earlier version of orric, which did not record: correct_in_time" in err
    assert err.count("\n") == 1


def test_a_page_of_somebody_else_is_left_alone(orric, tmp_path) -> None:
    (tmp_path / "index.html").write_text("<title>mine</title>")
    status, _, err = orric("report", "--index", tmp_path)
    assert status == 2
    assert "is none that orric report has written" in err
    assert (tmp_path / "index.html").read_text() == "<title>mine</title>"


def test_a_folder_without_results_has_an_empty_index(orric, tmp_path) -> None:
    status, out, _ = orric("report", "--index", tmp_path)
    assert status == 0
    assert "0 results" in out
    assert "No result lies below" in (tmp_path / "index.html").read_text()


def test_figures_for_papers_are_drawn_on_demand(orric, results, tmp_path) -> None:
    options = ("--figures", tmp_path / "figures", "--format", "pdf", "--width", 8.5)
    status, out, err = orric("report", results / "idle", *options, "--json")
    assert status == 0, err
    names = json.loads(out)["files"]
    assert "accuracy_by_slot-8.5cm.pdf" in names
    assert "captions.md" in names
    assert {Path(name).suffix for name in names} == {".pdf", ".md"}
    there = {path.name for path in (tmp_path / "figures").iterdir()}
    assert there == {*names, ".orric.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.md").write_text("mine")
    status, _, err = orric("report", results / "idle", "--figures", tmp_path / "mine")
    assert status == 2
    assert "--figures" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.md"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "found no folder"),
        (("A", "--html", "page.html"), "there is nothing to compare"),
        (("A", "--format", "pdf"), "there are no figures to draw"),
        (("A", "B", "--figures", "x"), "found 2 folders; give one"),
        (("A", "--index", "x"), "give --index FOLDER alone"),
        (("--index", "nowhere"), "is no folder"),
        (("A", "--figures", "x", "--width", "3"), "found 3 cm; give 6 to 60 cm"),
    ],
)
def test_what_does_not_go_together_is_refused(orric, results, tmp_path, monkeypatch, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"A": results / "idle", "B": results / "serving"}
    status, _, err = orric("report", *(names.get(one, one) for one in options))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_pages_work_in_a_browser(orric, results, tmp_path) -> None:
    page = tmp_path / "page.html"
    assert orric("report", results / "idle", results / "serving", "--html", page)[0] == 0
    assert orric("report", "--index", results)[0] == 0
    with browser(tmp_path) as chromium:
        for path in (page, results / "index.html"):
            for width in (1280, 400):
                for scheme in ("light", "dark"):
                    scheme_asked = [{"name": "prefers-color-scheme", "value": scheme}]
                    chromium._send("Emulation.setEmulatedMedia", features=scheme_asked)
                    chromium.open(path, width)
                    # The page itself is never wider than the window; a table scrolls within it.
                    assert chromium.value("document.documentElement.scrollWidth") <= width
                    paper = chromium.value("getComputedStyle(document.body).backgroundColor")
                    assert (sum(map(int, paper[4:-1].split(", "))) < 384) == (scheme == "dark")
        chromium.open(results / "index.html")
        frame, told = "document.getElementById('results')", "document.querySelector('#results .told')"
        assert chromium.value(f"{frame}.scrollWidth <= {frame}.clientWidth")
        assert "did best of 2 allocators" in chromium.value(f"{told}.innerText")
        chromium.resize(400)
        # What is best, and how good it is, stands before what must be scrolled to.
        late = "document.querySelectorAll('#results thead th')[3].getBoundingClientRect().right"
        assert chromium.value(late) <= 400
        assert chromium.value("document.querySelector('#results tbody tr').offsetHeight") < 90
        chromium.open(results / "index.html")
        seeds = "[...document.querySelectorAll('#results tbody tr')].map(row => row.cells[7].textContent)"
        chromium.click("document.querySelectorAll('#results thead button')[7]")
        assert chromium.value(seeds) == ["2", "1", "1"]
        chromium.click("document.querySelectorAll('#results thead button')[7]")
        assert chromium.value(seeds) == ["1", "1", "2"]
        links = "[...document.querySelectorAll('#results tbody a')].map(link => decodeURIComponent(link.pathname))"
        assert {Path(one).relative_to(results) for one in chromium.value(links)} == {
            Path("idle"), Path("serving"), Path("deep") / HOSTILE,
        }  # fmt: skip
        chromium.open(page)
        assert chromium.value("document.querySelectorAll('#changes-1 tbody tr').length") > 10
        chromium.value("document.querySelector('form select').value = 'late (%)'")
        chromium.value("document.querySelector('form').dispatchEvent(new Event('change'))")
        shown = "[...document.querySelectorAll('#changes-1 tbody tr')].filter(row => !row.hidden).length"
        assert chromium.value(shown) == 2
        assert chromium.errors == []
