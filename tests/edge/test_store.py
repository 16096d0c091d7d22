"""Store and journal: whole or not at all, whenever whoever writes them is killed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from orric.durable import read_bounded
from orric.edge.daemon import hold_store
from orric.edge.identity import Given
from orric.edge.journal import MOST_LINE, Journal, read_journal, whole_records
from orric.edge.store import MODEL, MOST_KEPT, WEIGHTS, Current, ModelStore
from orric.exceptions import EdgeError

KEEPER = Path(__file__).with_name("keeper.py")
FILES = {MODEL: b"model", WEIGHTS: b"weights"}


def keep(store: ModelStore, slot: int) -> int:
    """Keep a version and let it serve, the one before being good."""
    version = store.keep(FILES, slot, 0.5)
    store.point_at(Current(version.number, store.current.serving if store.current else version.number))
    return version.number


def check(folder: Path, slots: int, version: int) -> None:
    """Look at what a keeper left: no accepted record is lost, what serves is whole, nothing else counts."""
    store, journal = ModelStore(folder, keep=3), Journal(folder / "journal")
    found = [record["slot"] for record in journal.records if "slot" in record]
    assert found == list(range(1, len(found) + 1))
    assert slots <= len(found) <= slots + 1, "at most the record that was under way is there, too"
    if version:
        assert store.current is not None
        store.load(store.current.serving)
        store.load(store.current.good)
    if store.current is not None:
        assert max(store.versions()) <= max(store.current.serving, store.current.good)
        assert len(store.versions()) <= 4
    else:
        assert store.versions() == []
    left = {path.name for path in folder.iterdir()}
    assert left <= {"versions", "current.json", "journal"}
    journal.close()


def run(folder: Path, rounds: int, fault: str | None) -> tuple[int, list[str]]:
    """Run a keeper; return its status and what it said."""
    environment = {**os.environ, **({"ORRIC_FAULT": fault} if fault else {})}
    command = [sys.executable, str(KEEPER), str(folder), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, done.stdout.split("\n")


@pytest.mark.parametrize("part", range(4))
def test_two_hundred_kills_at_every_step_lose_nothing(tmp_path: Path, part: int) -> None:
    """Every passing of a point is killed once, in one and the same folder, so that each goes on from what was left."""
    slots = version = killed = 0
    for number in range(1 + part, 10_000, 4):
        status, said = run(tmp_path / "state", 3, f"*:kill:{number % 97 + 1}")
        killed += status == -9
        accepted = [int(line.split()[1]) for line in said if line.startswith("slot")]
        served = [int(line.split()[1]) for line in said if line.startswith("version")]
        slots = max([slots, *accepted])
        version = served[-1] if served else version
        journal = Journal(tmp_path / "state/journal")
        on_disk = [record["slot"] for record in journal.records if "slot" in record]
        journal.close()
        check(tmp_path / "state", slots, version)
        slots = len(on_disk)
        if killed == 50:
            break
    assert killed == 50


def test_versions_are_kept_and_the_oldest_go(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, keep=3)
    assert store.current is None
    for slot in range(1, 8):
        assert keep(store, slot) == slot
    assert store.versions() == [5, 6, 7]
    version, files = store.load(7)
    assert files == FILES
    assert version.slot == 7
    store.point_at(Current(6, 6))
    again = ModelStore(tmp_path, keep=3)
    assert again.current == Current(6, 6, False, 7)
    assert again.versions() == [5, 6]
    assert again.told == ["removed version 7, which does not count"]
    assert keep(again, 8) == 8, "no number is given twice"


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "about", "pointer"])
def test_what_is_damaged_is_never_loaded(tmp_path: Path, damage: str) -> None:
    store = ModelStore(tmp_path, keep=3)
    keep(store, 1)
    keep(store, 2)
    folder = tmp_path / "versions/000002"
    if damage == "cut":
        (folder / MODEL).write_bytes(b"mod")
    elif damage == "flip":
        (folder / WEIGHTS).write_bytes(b"weighty")
    elif damage == "gone":
        (folder / MODEL).unlink()
    elif damage == "about":
        (folder / "version.json").write_text("{")
    else:
        (tmp_path / "current.json").write_text("{")
    again = ModelStore(tmp_path, keep=3)
    assert again.current is not None
    assert again.current.serving == (2 if damage == "pointer" else 1)
    assert again.told
    again.load(again.current.serving)
    if damage != "pointer":
        with pytest.raises(EdgeError, match="version 2"):
            store.load(2)


def test_where_nothing_is_whole_it_begins_anew(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    (tmp_path / "versions/000001" / MODEL).unlink()
    again = ModelStore(tmp_path)
    assert again.current is None
    assert "beginning anew" in again.told[-2]
    assert keep(again, 2) >= 1


@pytest.mark.parametrize("where", ["store.staged", f"store.{MODEL}.written", "store.whole", "store.current.written"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    from orric.edge import faults

    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", f"{where}:full")
    with pytest.raises(OSError, match="No space left"):
        keep(store, 2)
    monkeypatch.delenv("ORRIC_FAULT")
    assert store.current is not None
    assert store.current.serving == 1
    assert not list(tmp_path.glob("staging*"))
    assert keep(store, 3) > 1
    assert ModelStore(tmp_path).current == store.current


def test_a_journal_forgets_what_was_not_written_to_its_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode"})
    journal.append({"slot": 1})
    journal.append({"slot": 2})
    journal.close()
    path = tmp_path / "000001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-5])
    again = Journal(tmp_path)
    assert again.records == journal.records
    assert again.dropped == len(whole.splitlines(keepends=True)[-1]) - 5
    again.append({"slot": 3})
    assert path.read_bytes().startswith(whole)
    again.close()
    assert Journal(tmp_path).records[-1] == {"slot": 3}


def test_a_damaged_record_costs_what_follows_and_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode"})
    for slot in range(1, 6):
        journal.append({"slot": slot})
    journal.close()
    path = tmp_path / "000001.jsonl"
    whole = path.read_bytes()
    first = whole.splitlines(keepends=True)
    spoilt = whole.replace(b'"slot":3', b'"slot":9')
    path.write_bytes(spoilt)
    assert read_journal(path) == ([{"kind": "episode"}, {"slot": 1}, {"slot": 2}], len(b"".join(first[:3])))
    assert path.read_bytes() == spoilt, "who only reads it changes nothing"
    again = Journal(tmp_path)
    assert (again.damaged, again.dropped) == (1, 0)
    assert "record 4 of 000001.jsonl is damaged" in again.told[0]
    again.append({"slot": 3})
    again.close()
    assert path.read_bytes() == b"".join(first[:4])
    assert (tmp_path / "000001.damaged").read_bytes() == spoilt[len(b"".join(first[:3])) :]
    third = Journal(tmp_path)
    assert (third.damaged, third.told) == (0, []), "what was set aside does not matter any more"
    third.close()
    path.write_bytes(spoilt)
    Journal(tmp_path).close()
    assert {one.name for one in tmp_path.iterdir()} == {"000001.jsonl", "000001.damaged", "000001.damaged-2"}


def test_a_journal_damaged_from_its_begin_is_set_aside_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode", "n": 1})
    journal.begin({"kind": "episode", "n": 2})
    journal.append({"slot": 1})
    journal.close()
    path = tmp_path / "000002.jsonl"
    spoilt = b"x" + path.read_bytes()[1:]
    path.write_bytes(spoilt)
    again = Journal(tmp_path)
    assert (again.episode, again.records, again.damaged) == (1, [{"kind": "episode", "n": 1}], 1)
    assert "record 1 of 000002.jsonl is damaged" in again.told[0]
    assert (tmp_path / "000002.damaged").read_bytes() == spoilt
    for number in range(12):
        again.begin({"kind": "episode", "n": number})
    again.close()
    assert len(list(tmp_path.iterdir())) == 10, "it goes with the episodes of its time"


def test_where_there_is_no_room_to_set_aside_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode"})
    journal.append({"slot": 1})
    journal.append({"slot": 2})
    journal.close()
    path = tmp_path / "000001.jsonl"
    spoilt = path.read_bytes().replace(b'"slot":1', b'"slot":9')
    path.write_bytes(spoilt)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("orric.edge.journal.os.fsync", full)
        again = Journal(tmp_path)
        with pytest.raises(OSError, match="No space left"):
            again.append({"slot": 1})
        assert path.read_bytes() == spoilt
    again.append({"slot": 1})
    again.close()
    assert (tmp_path / "000001.damaged").read_bytes() in spoilt
    assert Journal(tmp_path).records == [{"kind": "episode"}, {"slot": 1}]


def test_a_record_that_did_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode"})
    from orric.edge import faults

    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", "journal.half:full")
    with pytest.raises(OSError, match="No space left"):
        journal.append({"slot": 1})
    monkeypatch.delenv("ORRIC_FAULT")
    journal.append({"slot": 2})
    journal.close()
    assert Journal(tmp_path).records == [{"kind": "episode"}, {"slot": 2}]


def test_a_disk_that_is_really_full_spoils_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: a write is cut in its middle by the system itself."""
    script = tmp_path / "full.py"
    script.write_text(FULL)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "j")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused", "refused", "accepted"]
    assert Journal(tmp_path / "j").records == [{"kind": "episode"}, {"slot": 1}, {"slot": 3}]


FULL = """
import resource, signal, sys
from pathlib import Path
from orric.edge.journal import Journal, read_journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]))
journal.begin({"kind": "episode"})
journal.append({"slot": 1})
most = journal._path(1).stat().st_size + 12
for limit, slot in ((most, 2), (most, 2), (resource.RLIM_INFINITY, 3)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        journal.append({"slot": slot})
        print("accepted")
    except OSError:
        print("refused")
"""


def test_an_episode_that_was_not_begun_leaves_the_one_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode", "n": 1})
    journal.close()
    (tmp_path / "000002.jsonl").write_bytes(b"0123")
    again = Journal(tmp_path)
    assert (again.episode, again.records) == (1, [{"kind": "episode", "n": 1}])
    for number in range(15):
        again.begin({"kind": "episode", "n": number})
    assert len(list(tmp_path.glob("*.jsonl"))) == 10
    assert again.records == [{"kind": "episode", "n": 14}]
    again.close()


WRONG = {
    "numbers as text": {"serving": "2", "good": "1"},
    "floats": {"serving": 2.0, "good": 1.0},
    "negative": {"serving": -2, "good": 1},
    "zero": {"serving": 0, "good": 0},
    "null": {"serving": None, "good": 1},
    "true": {"serving": True, "good": True},
    "huge": {"serving": 10**400, "good": 1},
    "a list": [2, 1],
    "another key": {"serving": 2, "good": 1, "path": "../elsewhere"},
    "a key less": {"serving": 2},
    "pinned as text": {"serving": 2, "good": 1, "pinned": "no"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_pointer_of_wrong_types_is_passed_over(tmp_path: Path, wrong: str) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    keep(store, 2)
    (tmp_path / "current.json").write_text(json.dumps(WRONG[wrong]))
    again = ModelStore(tmp_path)
    assert again.current == Current(2, 2)
    assert again.told == ["the pointer to the current version was damaged; taking the newest whole one"]


@pytest.mark.parametrize("content", [b"[" * 60_000, b"\xff\xfe", b"", b"1e999", b'{"serving": NaN, "good": 1}'])
def test_a_pointer_that_is_nothing_is_passed_over(tmp_path: Path, content: bytes) -> None:
    keep(ModelStore(tmp_path), 1)
    (tmp_path / "current.json").write_bytes(content)
    assert ModelStore(tmp_path).current == Current(1, 1)


ABOUT = {"number": 2, "slot": 2, "agreement": 0.5}
SHAPES = {
    "a list": [],
    "another number": {**ABOUT, "number": 1},
    "a number as text": {**ABOUT, "number": "2"},
    "agreement above 1": {**ABOUT, "agreement": 7},
    "no model": {**ABOUT, "hashes": {WEIGHTS: "0" * 64}},
    "no hash": {**ABOUT, "hashes": {MODEL: "none"}},
    "hashes as a list": {**ABOUT, "hashes": [MODEL]},
    "another key": {**ABOUT, "more": 1},
    "outside": {**ABOUT, "hashes": {"../000001/model.onnx": None}},
    "absolute": {**ABOUT, "hashes": {"/etc/hostname": None}},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_version_of_another_shape_is_never_loaded(tmp_path: Path, shape: str) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    keep(store, 2)
    path = tmp_path / "versions/000002/version.json"
    hashes = json.loads(path.read_text())["hashes"]
    about = SHAPES[shape]
    if isinstance(about, dict):
        # A name that leads outside has the right hash, so that it is the name which is refused.
        given = about.get("hashes", hashes)
        if isinstance(given, dict):
            true = hashlib.sha256(FILES[MODEL]).hexdigest()
            outside = None in given.values()
            given = {**({MODEL: true} if outside else {}), **{name: value or true for name, value in given.items()}}
        about = {**about, "hashes": given}
    path.write_text(json.dumps(about))
    again = ModelStore(tmp_path)
    assert again.current == Current(1, 1, last=2)
    assert again.told[0] == "version 2 is not whole"
    assert again.load(1)[1] == FILES


def test_what_does_not_belong_is_passed_over_and_stays(tmp_path: Path) -> None:
    store, journal = ModelStore(tmp_path), Journal(tmp_path / "journal")
    keep(store, 1)
    journal.begin({"kind": "episode"})
    journal.close()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    versions, journals = tmp_path / "versions", tmp_path / "journal"
    for name in ("1", "0000001", "000000", "latest", "00000²", "000001.bak"):
        (versions / name).mkdir()
    (versions / "000007").write_text("a file")
    (versions / "000008").symlink_to(outside)
    (tmp_path / "staging-notes").write_text("a file")
    for name in ("1.jsonl", "notes.txt", "1abc.jsonl", "²²²²²².jsonl", "0000009.jsonl", "a\nb"):
        (journals / name).write_text("a file")
    (journals / "000003.jsonl").mkdir()
    (journals / "000004.jsonl").symlink_to(outside / "elsewhere")
    before = {path for folder in (versions, journals, tmp_path) for path in folder.iterdir()}
    again, more = ModelStore(tmp_path), Journal(journals)
    assert again.current == Current(1, 1, last=1)
    assert again.told == ["passed over what does not belong in versions: '000000', '0000001', '000001.bak' and 5 more"]
    assert (more.episode, more.records) == (1, [{"kind": "episode"}])
    assert len(more.told) == 1
    assert "\n" not in more.told[0]
    assert keep(again, 2) == 9, "a name that is taken is left alone"
    more.begin({"kind": "episode"})
    assert more.episode == 5
    more.close()
    assert before < {path for folder in (versions, journals, tmp_path) for path in folder.iterdir()}
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "what", ["versions", "journal", "staging", ".lock", "versions link", "journal link", "lock link"]
)
def test_a_name_that_something_else_has_taken_is_one_line(tmp_path: Path, what: str) -> None:
    name, _, link = what.replace("lock link", ".lock link").partition(" ")
    target = tmp_path / "outside"
    if link:
        target.write_text("kept") if name == ".lock" else target.mkdir()
    folder = tmp_path / "state"
    folder.mkdir()
    if link:
        (folder / name).symlink_to(target)
    elif name == ".lock":
        (folder / name).mkdir()
    else:
        (folder / name).write_text("a file")

    def opened() -> None:
        hold_store(folder).close()
        ModelStore(folder)
        Journal(folder / "journal")

    with pytest.raises(EdgeError) as caught:
        opened()
    assert "\n" not in str(caught.value)
    if name == ".lock" and link:
        assert target.read_text() == "kept"


def test_nothing_is_read_that_is_too_large_or_no_file(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    keep(store, 2)
    with (tmp_path / "versions/000002" / MODEL).open("r+b") as file:
        file.truncate(MOST_KEPT + 1)  # without taking room
    again = ModelStore(tmp_path)
    assert again.current == Current(1, 1, last=2)
    assert again.told[0] == "version 2 is not whole", "its hash was not even taken"
    for replaced in (os.mkfifo, Path.mkdir):
        path = tmp_path / "current.json"
        path.unlink()
        replaced(path)
        assert ModelStore(tmp_path).current is not None
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_text("{")
    journal = Journal(tmp_path / "journal")
    journal.begin({"kind": "episode"})
    journal.close()
    path = tmp_path / "journal/000001.jsonl"
    whole = path.stat().st_size
    os.truncate(path, MOST_LINE * 64)
    found = whole_records(path)
    assert (found.end, found.damaged) == (whole, True)
    with pytest.raises(OSError, match="File too large"):
        journal.append({"kind": "control", "what": "x" * MOST_LINE})


@pytest.mark.parametrize("name", ["current.json", "version.json", MODEL, "given"])
def test_what_cannot_be_read_now_is_one_line_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = ModelStore(tmp_path)
    keep(store, 1)
    keep(store, 2)
    store.begun_with(Given("1" * 64, "2" * 64, ("1" * 64, "2" * 64)))
    before = sorted(tmp_path.rglob("*"))

    def denied(path: Path, most: int) -> bytes:
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return read_bounded(path, most)

    with monkeypatch.context() as patch:
        patch.setattr("orric.edge.store.read_bounded", denied)
        with pytest.raises(EdgeError, match=rf"{name}: cannot be read \(Permission denied\)"):
            assert ModelStore(tmp_path).identity
    assert sorted(tmp_path.rglob("*")) == before
    assert ModelStore(tmp_path).current == store.current


@pytest.mark.parametrize("body", [b"[1]", b"null", b'{"a": NaN}', b'{"a": ' + b"[" * 100_000, b"7" * 5000, b"\xff"])
def test_a_record_with_a_right_checksum_may_still_be_none(tmp_path: Path, body: bytes) -> None:
    journal = Journal(tmp_path)
    journal.begin({"kind": "episode"})
    journal.close()
    path = tmp_path / "000001.jsonl"
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    path.write_bytes(path.read_bytes() + line + line)
    again = Journal(tmp_path)
    assert (again.records, again.damaged) == ([{"kind": "episode"}], 1)
    again.close()
