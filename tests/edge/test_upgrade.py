"""The upgrade contract: stores as released versions wrote them go on, and those of newer ones are left alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import tomli_w

from orric.edge.config import EdgeConfig
from orric.edge.daemon import Daemon
from orric.edge.episode import head_of
from orric.edge.identity import Given
from orric.edge.journal import read_journal
from orric.edge.store import FORMAT, MODEL
from orric.exceptions import EdgeError
from orric.profile import Profile
from orric.real_models import Models
from orric.vision.datasets import to_input

from .conftest import STORES

WRITTEN = sorted(path.parent.name for path in STORES.glob("*/live"))
LANDED = [name for name in WRITTEN if not name.startswith("format")]
Open = Callable[[Path], Daemon]


def decided(folder: Path) -> list[Any]:
    records, _ = read_journal(folder / "state/journal/000001.jsonl")
    return [record for record in records if record["kind"] == "decision"]


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_landed_version_is_among_them() -> None:
    assert {"2aef233", "7be9b4a"} <= set(LANDED)
    assert f"format-{FORMAT}" in WRITTEN, "write one: python tests/edge/stores/write.py"
    for name in WRITTEN:
        for kind in ("live", "guided", "decisions"):
            assert len(decided(STORES / name / kind)) >= 10
        assert sum(path.stat().st_size for path in (STORES / name).rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("kind", ["live", "guided"])
@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_learned_serves_and_the_episode_goes_on(stores: Path, open_store: Open, name: str, kind: str) -> None:
    folder = stores / name / kind
    told = json.loads((folder / "told.json").read_text())
    fixed, before = np.load(STORES / "models/images.npz"), decided(folder)
    expected = np.load(folder / "logits.npy")
    for _ in range(2):  # as it was written, and as this version left it
        daemon = open_store(folder)
        assert daemon.versions.current.serving == told["version"] > 1
        found = daemon.versions.model.logits(to_input(fixed["images"], 32))
        assert np.abs(found - expected).max() < 1e-4
        right = (found.argmax(axis=1) == fixed["labels"]).mean()
        assert right == (expected.argmax(axis=1) == fixed["labels"]).mean() > 0.5
        assert daemon.loop.recovered == [f"went on after slot {len(before)} of episode 1"]
        assert daemon.loop.total == daemon.loop.slot == len(before) >= told["slot"]
        assert daemon.loop.paused, "the operator's word lasts"
        assert json.loads((folder / "state/given").read_text())["format"] == 1
        assert json.loads((folder / "state/store.json").read_text()) == {"format": FORMAT}
        daemon.stop()
    daemon = open_store(folder)
    assert daemon.loop.begin().slot == len(before) + 1
    assert decided(folder)[: len(before)] == before


@pytest.mark.parametrize("name", WRITTEN)
def test_training_goes_on_from_what_was_learned(stores: Path, open_store: Open, name: str) -> None:
    daemon = open_store(stores / name / "live")
    daemon.process.warm_up()  # which takes over the weights that serve, name by name
    worker = daemon.process._process
    assert worker is not None
    worker.kill()  # so that it is started again
    worker.wait()
    weights = safetensors.numpy.load(daemon.versions.weights())
    weights["more"] = np.zeros(3, np.float32)
    daemon.process._stored = lambda: safetensors.numpy.save(weights)
    with pytest.raises(EdgeError, match="stored weights: are not this student's"):
        daemon.process.warm_up()


@pytest.mark.parametrize("name", WRITTEN)
def test_decisions_for_others_go_on(stores: Path, open_store: Open, name: str) -> None:
    folder = stores / name / "decisions"
    daemon = open_store(folder)
    assert daemon.decisions.recovered == ["went on after slot 12 of episode 1"]
    assert daemon.decisions.decide({"gate": 100.0}, 3e8, [])["slot"] == 13
    daemon.stop()
    changed(folder / "edge.toml", "[50.0, 500.0]", "[50.0, 600.0]")
    assert open_store(folder).decisions.recovered == ["began a new episode"]


@pytest.mark.parametrize("kind", ["live", "guided"])
@pytest.mark.parametrize("name", WRITTEN)
def test_logs_replay(orric_command, name: str, kind: str) -> None:
    log = STORES / name / kind / "state/journal/000001.jsonl"
    code, out, err = orric_command("evaluate", "--log", log, "--profile", STORES / "models/profile.toml", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["different"], told["damaged"]) == ([], None)
    assert told["slots"] == len(decided(STORES / name / kind))


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("cost_macs = 400000.0", "cost_macs = 800000.0", False),  # a price: other decisions
        ("a = 0.0083", "a = 0.0084", True),  # the curve, which no allocator is told
        ('name = "small digits"', 'name = "digits"', True),
        ('dataset = "digits"', 'dataset = "numerals"', True),
        ("32px = 32", "32px = 28", True),  # of the input; what it costs and brings stands elsewhere
    ],
)
def test_what_else_a_profile_says_leaves_what_was_learned(
    stores: Path, open_store: Open, name: str, old: str, new: str, same: bool
) -> None:
    folder = stores / name / "live"
    slots = len(decided(folder))
    changed(stores / "models/profile.toml", old, new)
    daemon = open_store(folder)
    assert daemon.versions.current.serving == json.loads((folder / "told.json").read_text())["version"]
    assert (daemon.loop.slot == slots) == same
    assert daemon.loop.total == slots, "in another episode, too, the counter goes on"


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_another_student_or_teacher_takes_over(stores: Path, open_store: Open, name: str, role: str) -> None:
    model = onnx.load(stores / f"models/{role}.onnx")
    model.producer_name = "somebody else"
    (stores / f"models/{role}.onnx").write_bytes(model.SerializeToString())
    daemon = open_store(stores / name / "live")
    version, _ = daemon.versions.store.load(daemon.versions.current.serving)
    assert version.slot == 0, "it is the given one"
    assert daemon.versions.current.serving > json.loads((stores / name / "live/told.json").read_text())["version"]
    assert daemon.loop.slot >= 12, "the decisions do not rest on it"


def test_a_teacher_that_is_gone_where_nothing_is_trained(stores: Path, open_store: Open) -> None:
    folder = stores / LANDED[0] / "live"
    told = json.loads((folder / "told.json").read_text())
    text = (folder / "edge.toml").read_text()
    teacher = (stores / "models/teacher.onnx").read_bytes()
    (folder / "edge.toml").write_text(text + "\n[retraining]\nenabled = false\n")
    (stores / "models/teacher.onnx").unlink()
    for _ in range(2):
        daemon = open_store(folder)
        assert daemon.versions.current.serving == told["version"]
        daemon.stop()
    (folder / "edge.toml").write_text(text)
    (stores / "models/teacher.onnx").write_bytes(teacher)
    known = json.loads((folder / "state/given").read_text())["teacher"]
    assert known == hashlib.sha256(teacher).hexdigest(), "it is not forgotten who taught it"
    assert open_store(folder).versions.current.serving == told["version"], "and is there again"


def test_a_new_field_changes_no_head(stores: Path) -> None:
    """As when a release adds an optional key: to the profile, to its models, to a configuration."""

    class LaterModels(Models):
        anchors: str | None = None

    class LaterProfile(Profile):
        models: LaterModels | None = None
        note: str = "new"

    config = EdgeConfig.load(stores / LANDED[0] / "live/edge.toml", {})
    before = head_of(config)
    (profile,) = config.profiles
    config._profiles = (LaterProfile(**profile.model_dump(exclude_none=True)).placed_in(profile._folder),)
    assert config.profiles[0].model_dump_json() != profile.model_dump_json()
    assert head_of(config) == before
    assert json.loads(json.dumps(before)) == before


def test_a_landed_head_is_the_same_where_every_decision_is(stores: Path, open_store: Open) -> None:
    folder = stores / LANDED[-1] / "live"
    changed(stores / "models/profile.toml", "best_accuracy = 0.99\n", "best_accuracy = 0.999\n")
    assert open_store(folder).loop.recovered == [f"went on after slot {len(decided(folder))} of episode 1"]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    "key", ["seed", "horizon_slots", "slot_s", "allocator", "budget.macs_per_s", "stream.requests"]
)
def test_what_decisions_rest_on_begins_another_episode(stores: Path, open_store: Open, name: str, key: str) -> None:
    folder = stores / name / "live"
    table = tomllib.loads((folder / "edge.toml").read_text())
    *above, last = key.split(".")
    owner = table[above[0]] if above else table
    owner = owner[0] if isinstance(owner, list) else owner
    owner[last] = {"allocator": "focus-shift", "requests": [50.0, 700.0]}.get(last, owner.get(last, 1) * 2)
    (folder / "edge.toml").write_text(tomli_w.dumps(table))
    daemon = open_store(folder)
    assert daemon.loop.recovered == ["the configuration is another: began a new episode"]
    assert daemon.versions.current.serving == json.loads((folder / "told.json").read_text())["version"]


def test_weights_beside_a_model_count(stores: Path) -> None:
    models = stores / "models"
    model = onnx.load(models / "student.onnx")
    external = models / "external.onnx"
    onnx.save(model, external, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = Given.of(external, models / "teacher.onnx")
    assert Given.read(before.written()) == before
    content = (models / "weights.bin").read_bytes()
    (models / "weights.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    after = Given.of(external, models / "teacher.onnx")
    assert not after.continues(Given.read(before.written()))
    landed = Given.read(" ".join(["0" * 64, *before.alone]).encode())
    assert after.continues(landed), "which knows nothing of what lies beside"
    from orric.retraining.models import sha256

    assert after.student == sha256(external)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    found = sorted(folder.rglob("*"))
    return {str(one): (one.stat().st_mtime_ns, one.read_bytes() if one.is_file() else b"") for one in [folder, *found]}


@pytest.mark.parametrize("kind", ["live", "decisions"])
def test_a_newer_store_is_refused_and_not_touched(stores: Path, orric_command, kind: str) -> None:
    folder = stores / WRITTEN[0] / kind
    (folder / "state/store.json").write_text(json.dumps({"format": FORMAT + 1, "more": ["of", "it"]}))
    before = snapshot(folder)
    code, out, err = orric_command("serve", folder / "edge.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"the store was written by a newer orric (format {FORMAT + 1}); this one knows format {FORMAT}" in err
    assert snapshot(folder) == before


def test_a_newer_identity_is_refused(stores: Path, open_store: Open) -> None:
    folder = stores / WRITTEN[0] / "live"
    (folder / "state/given").write_text('{"format": 2, "student": "a", "teacher": "b"}')
    with pytest.raises(EdgeError, match="newer orric"):
        open_store(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "1"}', '{"format": 0}', '{"format": true}', "[" * 9999])
def test_a_store_that_tells_no_format_is_refused(stores: Path, orric_command, content: str) -> None:
    folder = stores / WRITTEN[0] / "live"
    (folder / "state/store.json").write_text(content)
    before = snapshot(folder)
    code, _, err = orric_command("serve", folder / "edge.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert f'let the file say {{"format": {FORMAT}}}' in err
    assert snapshot(folder) == before


def test_a_foreign_folder_is_refused_and_not_touched(
    stores: Path, orric_command, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stores / WRITTEN[0] / "decisions"
    shutil.rmtree(folder / "state")
    (folder / "state/figures").mkdir(parents=True)
    (folder / "state/thesis.txt").write_text("years of work")
    before = snapshot(folder)
    code, _, err = orric_command("serve", folder / "edge.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert "is no store of orric, and is not empty (it has 'figures')" in err
    assert snapshot(folder) == before
    shutil.rmtree(folder / "state")
    (folder / "state/lost+found").mkdir(parents=True)
    (folder / "state/.lock").touch()
    (folder / "state/.cache").mkdir()
    (folder / "state/cache").mkdir()
    with pytest.raises(EdgeError, match="it has 'cache'"):
        open_store(folder)
    monkeypatch.setenv("ORRIC_CACHE", str(folder / "state/cache"))
    assert open_store(folder).decisions.recovered == ["began a new episode"], "a disk of its own is taken"


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"a b c", b'{"format": 1, "student": "../x", "teacher": ""}'])
def test_where_it_is_not_known_what_was_given_the_given_student_takes_over(
    stores: Path, open_store: Open, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("orric.edge.daemon.tell", lambda level, event, **values: told.append(str(values)))
    folder = stores / WRITTEN[0] / "live"
    (folder / "state/given").write_bytes(content)
    daemon = open_store(folder)
    assert daemon.versions.store.load(daemon.versions.current.serving)[0].slot == 0
    assert "what the store was begun with is not known" in " ".join(told)
    learned = json.loads((folder / "told.json").read_text())["version"]
    assert daemon.versions.store.load(learned)[1][MODEL], "the operator may pin it"
