"""Which version serves: pinned, compared with the last good one, on probation, rolled back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from orric.edge.retraining import Candidate
from orric.edge.store import MODEL, ModelStore
from orric.edge.versions import Versions
from orric.exceptions import EdgeError
from orric.retraining.evidence import Comparison
from orric.vision.datasets import to_input

from .test_slots import slot


def test_versions_are_pinned_and_rolled_back(open_daemon, fog, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = fog
    daemon = open_daemon(retrains=True, slot_s=60.0, store__canary_slots=1)
    for _ in range(3):
        slot(daemon, images)
    assert daemon.versions.current.serving == 3
    assert "pinned" in daemon.loop.control("pin", 2)
    assert daemon.versions.model.version == 2
    row = slot(daemon, images)
    assert row.outcome.version is None
    assert daemon.versions.current.serving == 2
    with pytest.raises(EdgeError, match="version 99: is not whole"):
        daemon.loop.control("pin", 99)
    daemon.loop.control("unpin")
    assert slot(daemon, images).outcome.version == 4
    assert daemon.loop.control("rollback") == "rolled back to version 2"
    assert daemon.versions.rollbacks == 1
    assert slot(daemon, images).outcome.version == 5, "and training goes on from there"


def test_versions_are_compared_with_the_last_good_one_and_rolled_back(open_daemon, fog) -> None:
    """On the same samples: one that answers anything else is rolled back, with all that came of it."""
    images, _ = fog
    daemon = open_daemon(store__canary_slots=2)
    versions = daemon.versions
    labels = versions.model.logits(to_input(images, 32)).argmax(axis=1)
    model = onnx.load_from_string(versions.store.load(1)[1][MODEL])
    for one in model.graph.initializer:
        values = onnx.numpy_helper.to_array(one)
        if values.dtype == np.float32:
            one.CopyFrom(onnx.numpy_helper.from_array(-values, one.name))

    def adopt(content: bytes, slot: int) -> int:
        probe = versions._open(content, 0)
        expected = probe.session.run(None, {probe.name: to_input(images[:4], 32)})[0]
        files, held_out = {MODEL: content}, Comparison(100)
        return versions.adopt(Candidate(files, to_input(images[:4], 32), expected, held_out=held_out), slot).number

    same, broken = versions.store.load(1)[1][MODEL], model.SerializeToString()
    assert adopt(same, 1) == 2
    assert versions.judge(1, 1, None) is None
    assert versions.judge(9, 2, None) is None, "time alone proves nothing"
    few = versions.compare(2, images[:20], labels[:20])
    assert versions.judge(9, 2, few) is None, "twenty samples prove nothing"
    compared = versions.compare(2, images, labels)
    assert compared.worse_by == 0
    assert versions.judge(10, 2, compared) == "version 2 has proved itself"
    assert versions.current.good == 2
    assert adopt(broken, 11) == 3
    assert versions.compare(2, images, labels) is None, "it is not on probation any more"
    compared = versions.compare(3, images, labels)
    assert compared.worse_by > 0.3
    daemon._held.close()
    versions.store.point_at(versions.current)
    again = Versions(daemon.config, ModelStore(daemon.config.store_folder), versions._provider, (20, 32))
    again.begin(lambda: b"", versions.store.identity)
    assert "rolled back" in again.judge(12, 3, compared), "a restart does not end the probation"
    assert again.current.serving == again.current.good == 2
    assert 3 not in again.store.versions(), "what was rolled back does not serve again"
    assert again.roll_back() == 1
    with pytest.raises(EdgeError, match="there is no earlier version"):
        again.roll_back()


def test_evidence_is_weighed_over_slots(open_daemon) -> None:
    """A version that loses a little in every slot does not prove itself by lasting."""
    daemon = open_daemon(store__canary_slots=2)
    versions = daemon.versions
    versions.store.keep(versions.store.load(1)[1], 1, None)
    versions._probation.begin(2, 1)
    assert versions.judge(2, 2, Comparison(16, 4, 0)) is None
    with pytest.raises(EdgeError, match="there is no earlier version"):
        versions.judge(3, 2, Comparison(32, 8, 0))  # a quarter of all, beyond chance and margin; version 1 serves here


def test_the_oldest_on_probation_stays_until_it_has_proved_itself(open_daemon) -> None:
    """However few versions are kept: with little evidence a slot none would ever be good enough to go back to."""
    daemon = open_daemon(store__versions=2, store__canary_slots=2)
    versions = daemon.versions
    content = versions.store.load(1)[1][MODEL]
    inputs = to_input(np.zeros((2, 32, 32, 3), np.uint8), 32)
    expected = versions._open(content, 0).session.run(None, {versions.model.name: inputs})[0]
    for slot_number in range(1, 16):
        held_out = Comparison(100)
        versions.adopt(Candidate({MODEL: content}, inputs, expected, held_out=held_out), slot_number)
        versions.judge(slot_number + 1, versions.current.serving, Comparison(20))
    assert versions.current.good > 3
    assert versions._probation.oldest > versions.current.good
    assert versions.current.serving - versions._probation.oldest < 8
    assert len(versions.store.versions()) <= 3
