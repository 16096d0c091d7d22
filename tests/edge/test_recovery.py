"""What a damaged or forged journal costs: the decisions behind it, and not the service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orric.edge import faults
from orric.edge.daemon import Daemon
from orric.edge.episode import Decider
from orric.edge.journal import Record, _line, read_journal
from orric.edge.recorded import follows
from orric.exceptions import AllocatorError, EdgeError, OrricError

from .conftest import STORES

PROFILE = STORES / "models/profile.toml"
Open = Callable[..., Daemon]


def journal_of(folder: Path) -> Path:
    return folder / "state/journal/000001.jsonl"


def spoil(path: Path, number: int) -> None:
    """Damage a record, the first being 1."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b"slot", b"sl0t")
    path.write_bytes(b"".join(lines))


def write_records(path: Path, records: list[Record]) -> None:
    path.write_bytes(b"".join(map(_line, records)))


@pytest.mark.parametrize("kind", ["live", "guided"])
def test_the_service_goes_on_where_the_journal_is_whole(stores: Path, open_store: Open, kind: str) -> None:
    folder, other = stores / "7be9b4a" / kind, stores / "2aef233" / kind
    shutil.rmtree(other)
    shutil.copytree(folder, other)
    records, _ = read_journal(journal_of(folder))
    whole = next(at for at, one in enumerate(records) if one["kind"] == "decision" and one["slot"] == 9)
    write_records(journal_of(other), records[:whole])
    content = journal_of(folder).read_bytes()
    spoil(journal_of(folder), whole + 1)
    daemon, cut = open_store(folder), open_store(other)
    assert daemon.versions.current.serving == json.loads((folder / "told.json").read_text())["version"]
    assert f"record {whole + 1} of 000001.jsonl is damaged" in daemon.loop.recovered[0]
    assert daemon.loop.recovered[1] == cut.loop.recovered[0] == "went on after slot 8 of episode 1"
    assert (daemon.failures()["journal"], cut.failures()["journal"]) == (1, 0)
    for _ in range(3):
        ours, theirs = daemon.loop.begin(), cut.loop.begin()
        assert ours == theirs, "the allocator is in the state of the whole records"
        daemon.loop.finish()
        cut.loop.finish()
    assert ours.slot == 11
    aside = (folder / "state/journal/000001.damaged").read_bytes()
    assert len(aside) == len(content) - sum(len(_line(one)) for one in records[:whole])
    assert journal_of(folder).read_bytes() == journal_of(other).read_bytes()


def test_decisions_for_others_go_on_where_the_journal_is_whole(stores: Path, open_store: Open) -> None:
    folder = stores / "7be9b4a/decisions"
    spoil(journal_of(folder), 6)
    daemon = open_store(folder)
    assert "record 6 of 000001.jsonl is damaged" in daemon.decisions.recovered[0]
    assert daemon.decisions.recovered[1] == "went on after slot 4 of episode 1"
    assert daemon.decisions.decide({"gate": 100.0}, 3e8, [])["slot"] == 5


def test_a_log_that_is_damaged_is_replayed_to_there(stores: Path, orric_command) -> None:
    log = journal_of(stores / "7be9b4a/live")
    before = log.read_bytes()
    spoil(log, 8)
    spoilt = log.read_bytes()
    code, out, err = orric_command("evaluate", "--log", log, "--profile", PROFILE)
    assert code == 1
    assert f"{log}: record 8 is damaged; only those before it were decided again" in err
    assert err.count("\n") == 1
    code, out, err = orric_command("evaluate", "--log", log, "--profile", PROFILE, "--json")
    told = json.loads(out)
    assert (code, told["damaged"], told["different"]) == (1, 8, [])
    assert told["slots"] == len(told["allocations"]) == 3
    assert log.read_bytes() == spoilt, "who reads it changes nothing"
    log.write_bytes(before[:-9])
    code, out, _ = orric_command("evaluate", "--log", log, "--profile", PROFILE, "--json")
    assert (code, json.loads(out)["damaged"]) == (0, None), "a last line cut short is none that was lost"
    log.write_bytes(b"0" + before[1:])
    code, _, err = orric_command("evaluate", "--log", log, "--profile", PROFILE)
    assert (code, err.count("\n")) == (2, 1)
    link = log.with_name("000009.jsonl")
    log.write_bytes(before)
    link.symlink_to(log)
    assert orric_command("evaluate", "--log", link, "--profile", PROFILE)[0] == 0


def changed(**values: Any) -> Callable[[Record], Record]:
    return lambda record: {**record, **values}


ALLOCATED = {"retraining": "none", "inference": "32px"}
# Of the second decision, which is the fourth record: what is cut behind it.
FORGED = {
    "slot as text": changed(slot="2"),
    "slot as a float": changed(slot=2.0),
    "a slot again": changed(slot=1),
    "a slot left out": changed(slot=3),
    "a slot beyond all": changed(slot=10**12),
    "negative budget": changed(budget_macs=-1.0),
    "budget as text": changed(budget_macs="1"),
    "a budget beyond all": changed(budget_macs=10**400),
    "two streams": changed(streams=[ALLOCATED, ALLOCATED]),
    "two requests": changed(requests=[1.0, 2.0]),
    "no requests": changed(requests=[]),
    "streams as a table": changed(streams=ALLOCATED),
    "allocation of more": changed(streams=[{**ALLOCATED, "more": 1}]),
    "allocation of less": changed(streams=[{"retraining": "none"}]),
    "another key": changed(more=1),
    "another kind": changed(kind="other"),
    "kind as a list": changed(kind=["decision"]),
    "an episode again": lambda record: {
        "kind": "episode", "total": 0, "of": {}, "paused": False, "forecast": None,
    },
    "nothing": lambda record: {},
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_record_is_a_damaged_one(stores: Path, open_store: Open, forged: str) -> None:
    folder = stores / "7be9b4a/live"
    records, _ = read_journal(journal_of(folder))
    assert (records[3]["kind"], records[3]["slot"]) == ("decision", 2)
    write_records(journal_of(folder), [*records[:3], FORGED[forged](records[3]), *records[4:]])
    daemon = open_store(folder)
    assert "record 4 of 000001.jsonl is damaged" in daemon.loop.recovered[0]
    assert daemon.loop.recovered[1] == "went on after slot 1 of episode 1"
    assert daemon.loop.begin().slot == 2


@pytest.mark.parametrize(
    ("forged", "cut"),
    [
        ({"total": -1}, True),
        ({"total": "0"}, True),
        ({"paused": "yes"}, True),
        ({"forecast": "many"}, True),
        ({"of": []}, True),
        ({"of": {}}, False),
        ({"of": {"allocator": "/etc/hostname", "seed": -1}}, False),
        ({"of": {"format": 99, "told": [[]]}}, False),
    ],
)
def test_a_forged_head_begins_another_episode(
    stores: Path, open_store: Open, orric_command, forged: dict[str, Any], cut: bool
) -> None:
    folder = stores / "7be9b4a/live"
    records, _ = read_journal(journal_of(folder))
    write_records(journal_of(folder), [{**records[0], **forged}, *records[1:]])
    code, _, err = orric_command("evaluate", "--log", journal_of(folder), "--profile", PROFILE)
    assert (code, err.count("\n")) == (2, 1)
    daemon = open_store(folder)
    assert ("set aside with all that follows" in daemon.loop.recovered[0]) == cut
    assert daemon.loop.begin().slot == 1
    assert daemon.versions.current.serving > 1


@pytest.mark.parametrize(
    "of",
    [
        {"horizon_slots": 10**12},
        {"seed": -1},
        {"seed": "one"},
        {"requests": [[1.0, 2.0], [1.0, 2.0]]},
        {"requests": [[0.0, -1.0]]},
        {"allocator": "nobody"},
        {"allocator": ["orric"]},
        {"slot_s": "long"},
        {"macs_per_s": None},
    ],
)
def test_a_log_with_a_forged_head_is_one_line(stores: Path, orric_command, of: dict[str, Any]) -> None:
    log = journal_of(stores / "7be9b4a/live")
    records, _ = read_journal(log)
    write_records(log, [{**records[0], "of": {**records[0]["of"], **of}}, *records[1:]])
    code, _, err = orric_command("evaluate", "--log", log, "--profile", PROFILE)
    assert (code, err.count("\n")) == (2, 1), err


@pytest.mark.parametrize("name", ["7be9b4a", "format-1"])
def test_decisions_that_name_what_there_is_not_begin_another_episode(stores: Path, open_store: Open, name: str) -> None:
    folder = stores / name / "live"
    records, _ = read_journal(journal_of(folder))
    records[3]["streams"][0]["inference"] = "99px"
    write_records(journal_of(folder), records)
    assert open_store(folder).loop.recovered == ["the configuration is another: began a new episode"]


def test_an_allocator_that_refuses_the_past_begins_another_episode(
    stores: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Decider.decide

    def decides(self: Decider, slot: int, *given: Any) -> Any:
        if slot == 3:
            raise AllocatorError("orric", slot, "raised ValueError", "mend it")
        return decide(self, slot, *given)

    monkeypatch.setattr(Decider, "decide", decides)
    daemon = open_store(stores / "7be9b4a/live")
    assert daemon.loop.recovered == ["the configuration is another: began a new episode"]
    assert daemon.loop.begin().slot == 1


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        ("live", "journal.begin.written"),
        ("live", "store.given.written"),
        ("live", "store.staged"),
        ("decisions", "journal.begin.written"),
    ],
)
def test_a_disk_that_is_full_at_the_start_is_one_line(
    stores: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch, kind: str, point: str
) -> None:
    folder = stores / "7be9b4a" / kind
    shutil.rmtree(folder / "state")
    monkeypatch.setattr(faults, "_counts", {})
    monkeypatch.setenv("ORRIC_FAULT", f"{point}:full")
    with pytest.raises(EdgeError) as caught:
        open_store(folder)
    assert "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("ORRIC_FAULT")
    open_store(folder)


def test_a_journal_that_may_not_be_read_is_one_line(
    stores: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stores / "7be9b4a/live"

    def denied(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("orric.edge.journal.open_regular", denied)
    with pytest.raises(OrricError, match=r"000001\.jsonl: may not be read; check its permissions"):
        open_store(folder)


def test_what_the_daemon_writes_follows(stores: Path, open_store: Open) -> None:
    """Whoever adds a field to a record must add it to the schema: otherwise it would be damage."""
    for kind in ("live", "guided"):
        daemon = open_store(stores / "7be9b4a" / kind)
        daemon.loop.control("pause")
        daemon.loop.control("resume")
        for _ in range(2):
            daemon.loop.begin()
            daemon.loop.finish()
        daemon.loop._new_episode()
        daemon.loop.begin()
        daemon.loop.finish()
        daemon.stop()
        for path in sorted((daemon.config.store_folder / "journal").iterdir()):
            records, end = read_journal(path)
            assert end == path.stat().st_size
            for at, record in enumerate(records):
                assert follows(records[:at], record), record
