"""Bodies that are read beside the event loop: how many bytes of them, and for whom."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from orric.edge.inference import Reader


def test_bodies_are_bounded_whoever_has_gone_and_read_for_those_who_wait() -> None:
    reading, go_on, read, waits = threading.Event(), threading.Event(), list[bytes](), [True]

    def reads(connection: object, request: object, body: bytes) -> None:
        read.append(body)
        reading.set()
        assert go_on.wait(30)

    connection = SimpleNamespace(waits_for=lambda request: waits[0])
    reader = Reader("reading", reads, 100)
    assert reader.put(connection, None, b"first", 50)
    assert reading.wait(30)
    assert reader.put(connection, None, b"gone", 50)
    assert not reader.put(connection, None, b"beyond", 1), "what is read counts, too"
    waits[0] = False
    go_on.set()
    while reader._bytes:
        pass
    assert read == [b"first"]
    waits[0] = True
    assert reader.put(connection, None, b"last", 100)
    reader.stop()
    assert not reader._thread.is_alive()


def test_an_end_waits_for_one_body_at_most() -> None:
    reading, go_on, read = threading.Event(), threading.Event(), list[bytes]()

    def reads(connection: object, request: object, body: bytes) -> None:
        read.append(body)
        reading.set()
        assert go_on.wait(30)

    connection = SimpleNamespace(waits_for=lambda request: True)
    reader = Reader("reading", reads, 100)
    for body in (b"first", b"second", b"third"):
        assert reader.put(connection, None, body, 5)
    assert reading.wait(30)
    stopping = threading.Thread(target=reader.stop)
    stopping.start()
    while not reader._stopping:
        pass
    go_on.set()
    stopping.join(30)
    assert not stopping.is_alive()
    assert read == [b"first"]
