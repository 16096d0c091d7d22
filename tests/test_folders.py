"""Folders of results: nothing is lost that orric did not write, and a result is replaced whole or not at all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orric.exceptions import ScenarioError, SimulationError
from orric.folders import MANIFEST, NEW, Manifest, kind_of, result_folder, result_folder_around, settle, write_more

KILLING = """
import os, signal, sys
from pathlib import Path
from orric.folders import result_folder

steps = [0]
def passing(name):
    steps[0] += 1
    if steps[0] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

with result_folder(Path(sys.argv[1]), "run", passing=passing) as work:
    for name in ("summary.json", "c.png", "deep/d.txt"):
        (work.result / name).parent.mkdir(exist_ok=True)
        (work.result / name).write_text("new")
"""
OLD = {"summary.json": "old", "a.png": "old", "requests/b.parquet": "old"}
NEWER = {"summary.json": "new", "c.png": "new", "deep/d.txt": "new"}
MINE = {"notes.md": "mine", "requests/mine.txt": "mine", "store/current.json": "{}", "store/versions/000001/x": "w"}


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder: Path) -> dict[str, str]:
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in names}


def make(target: Path, files: dict[str, str], kind: str = "run") -> None:
    with result_folder(target, kind) as work:
        put(work.result, files)


def test_a_result_is_replaced_and_what_lies_beside_it_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, OLD)
    put(target, MINE)
    (target / "link").symlink_to(tmp_path)
    make(target, NEWER)
    (target / "link").unlink()
    assert found(target) == NEWER | MINE
    assert Manifest.read(target) == Manifest("run", frozenset(NEWER))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (target / "requests").rename(target / "elsewhere")
    make(target, OLD)
    assert found(target)["elsewhere/mine.txt"] == "mine"


@pytest.mark.parametrize("beside", [True, False])
def test_who_is_killed_at_any_step_leaves_the_old_or_the_new_result(tmp_path: Path, beside: bool) -> None:
    mine = MINE if beside else {}
    ends = set()
    for step in range(1, 30):
        target = tmp_path / str(step) / "out"
        make(target, OLD)
        put(target, mine)
        done = subprocess.run([sys.executable, "-c", KILLING, str(target), str(step)], check=False)
        between = found(target)
        assert {name: between[name] for name in mine} == mine, "theirs are never touched, not even between"
        settle(target)
        after = found(target)
        assert after in (OLD | mine, NEWER | mine)
        ends.add(after == NEWER | mine)
        files = frozenset(NEWER if after == NEWER | mine else OLD)
        assert Manifest.read(target) == Manifest("run", files)
        make(target, {"summary.json": "newest"})
        assert found(target) == {"summary.json": "newest"} | mine
        assert [path.name for path in target.parent.iterdir()] == ["out"]
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    else:
        pytest.fail("no step was the last")
    assert ends == {True, False}
    assert step > 8


def test_a_first_result_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    for step in (1, 2):
        target = tmp_path / str(step) / "out"
        subprocess.run([sys.executable, "-c", KILLING, str(target), str(step)], check=False)
        assert found(target) == (NEWER if step == 2 else {})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"thesis.txt": "mine"}, r"holds something else \('thesis.txt'\)"),
        ({"summary.json": "[]"}, "holds something else"),
        ({"summary.json": "no table"}, "holds something else"),
        ({MANIFEST: '{"format": 1, "kind": "sweep", "files": []}'}, "results of orric sweep"),
        ({MANIFEST: '{"format": 2, "kind": "run", "files": []}'}, "newer orric"),
        ({MANIFEST: '{"format": 1, "kind": "run", "files": ["../other"]}'}, "is no manifest"),
        ({MANIFEST: '{"format": 1, "kind": "run", "files": ["/etc/passwd"]}'}, "is no manifest"),
        ({MANIFEST: '{"format": 1, "kind": "run", "files": ["a/../../b"]}'}, "is no manifest"),
        ({MANIFEST: "[" * 100_000}, "is no manifest"),
    ],
)
def test_a_foreign_folder_is_refused_before_the_work(tmp_path: Path, files: dict[str, str], said: str) -> None:
    target = tmp_path / "out"
    put(target, files)
    before = found(tmp_path)
    with pytest.raises(ScenarioError, match=said) as caught, result_folder(target, "run"):
        pytest.fail("it is refused before")
    assert "\n" not in str(caught.value)
    assert found(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_without_a_manifest_are_known_by_what_they_hold(tmp_path: Path) -> None:
    target = tmp_path / "out"
    summary = json.dumps(dict.fromkeys(("scenario", "seed", "command", "results")))
    own = {"summary.json": summary, "gpus.parquet": "x", "gpu_use.png": "x", "requests/orric-curve.parquet": "x"}
    put(target, own | MINE)
    assert kind_of(target) == "run"
    make(target, {"summary.json": "new"})
    assert found(target) == {"summary.json": "new"} | MINE


def test_links_are_not_followed_out(tmp_path: Path) -> None:
    target, outside = tmp_path / "out", tmp_path / "outside"
    make(target, OLD)
    put(outside, {"b.parquet": "mine"})
    (target / "requests/b.parquet").unlink()
    (target / "requests").rmdir()
    (target / "requests").symlink_to(outside)
    make(target, NEWER)
    assert found(outside) == {"b.parquet": "mine"}
    with pytest.raises(ScenarioError, match="is not orric's"):
        make(target, OLD)
    assert found(target) == NEWER, "the earlier result stays"
    (tmp_path / "name").symlink_to(target)
    make(tmp_path / "name", {"summary.json": "new"})
    assert found(target) == {"summary.json": "new"}
    assert (tmp_path / "name").is_symlink()


@pytest.mark.parametrize("mark", ["store.json", "current.json"])
def test_results_do_not_come_into_a_daemons_store(tmp_path: Path, mark: str) -> None:
    store = tmp_path / "store"
    put(store, {mark: "{}", "journal/1.jsonl": "", "versions/1/version.json": "{}"})
    for target in (store, store / "results", store / "journal", store / "versions/1"):
        with pytest.raises(ScenarioError, match="a daemon's store"):
            make(target, NEWER)
    put(tmp_path / "mine", {"current.json": "{}"})
    make(tmp_path / "mine/results", NEWER)  # a file of that name alone is no store


def test_what_stands_in_the_way_is_not_written_over(tmp_path: Path) -> None:
    target = tmp_path / "out"
    make(target, OLD)
    put(target, {"c.png": "mine"})
    with pytest.raises(ScenarioError, match=r"c\.png: is not orric's"):
        make(target, NEWER)
    assert found(target) == OLD | {"c.png": "mine"}
    with pytest.raises(ScenarioError, match=r"c\.png: is not orric's"):
        write_more(target, "run", "c.png", b"new")
    write_more(target, "run", "e.png", b"new")
    make(target, {"summary.json": "new"})
    assert found(target) == {"summary.json": "new", "c.png": "mine"}


def test_two_commands_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with result_folder(tmp_path / "out", "run") as work:
        with pytest.raises(ScenarioError, match="another command is writing to it"):
            make(tmp_path / "out", OLD)
        put(work.result, NEWER)
    assert found(tmp_path / "out") == NEWER


def test_what_is_kept_is_found_by_its_key_alone(tmp_path: Path) -> None:
    def kept(key: str, fresh: bool = False) -> list[str]:
        names: list[str] = []
        try:
            with result_folder(tmp_path / "out", "run", key, fresh=fresh) as work:
                names += sorted(path.name for path in work.kept.iterdir())
                (work.kept / key).touch()
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            return names

    assert kept("one") == []
    assert kept("one") == ["one"]
    assert kept("two") == []
    assert kept("two") == ["two"]
    assert kept("two", fresh=True) == []
    with pytest.raises(ScenarioError), result_folder(tmp_path / "out", "run", "two"):
        raise ScenarioError("an input", "is unusable")
    assert list(tmp_path.iterdir()) == [], "nothing is kept of what cannot be used"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SimulationError, match="No space left on device") as caught,
        result_folder(tmp_path / "deep/out", "run") as work,
        (work.result / "x").open("wb"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_who_asks_is_told_the_folder_of_results_around_a_place(tmp_path: Path) -> None:
    make(tmp_path / "out", OLD)
    assert result_folder_around(tmp_path / "out/store/deep") == tmp_path / "out"
    assert result_folder_around(tmp_path / "elsewhere") is None
    assert not (tmp_path / "out" / NEW).exists()


def test_work_that_is_not_orrics_is_neither_removed_nor_followed(tmp_path):
    """A folder of another's under the name of a run's work, and links within one."""
    (tmp_path / ".out.partial/kept/sub").mkdir(parents=True)
    (tmp_path / ".out.partial/kept/sub/thesis.md").write_text("mine")
    with pytest.raises(ScenarioError, match="is not orric's"), result_folder(tmp_path / "out", "run", "key"):
        pass
    assert (tmp_path / ".out.partial/kept/sub/thesis.md").read_text() == "mine"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").write_text("mine")
    (tmp_path / ".link.partial").mkdir()
    (tmp_path / ".link.partial/lock").touch()
    (tmp_path / ".link.partial/kept").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ScenarioError, match="is not orric's"), result_folder(tmp_path / "link", "run", "key"):
        pass
    assert (tmp_path / "elsewhere/mine").read_text() == "mine"


def test_a_new_result_with_a_link_to_a_folder_is_not_moved_in(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/notes.md").write_text("mine")
    new = tmp_path / "host/.orric.new"
    new.mkdir(parents=True)
    (new / "sub").symlink_to(tmp_path / "docs")
    (new / ".orric.json").write_text('{"format": 1, "kind": "run", "files": ["sub/notes.md"]}')
    (tmp_path / "host/.orric.json").write_text('{"format": 1, "kind": "run", "files": []}')
    with pytest.raises(ScenarioError, match="holds links"):
        settle(tmp_path / "host")
    assert (tmp_path / "docs/notes.md").read_text() == "mine"
