"""The daemon over HTTP: sockets, the threads that serve them, and the end, which loses nothing."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from orric.edge.app import application
from orric.edge.config import Server
from orric.edge.connection import Answering, Connection
from orric.edge.crowd import Bounds, Crowd, Phase, open_files
from orric.edge.front import Front, HealthFront
from orric.edge.log import tell
from orric.edge.sender import Senders
from orric.exceptions import EdgeError, extra

with extra("edge"):
    import uvloop

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

BACKLOG = 2048
# Connections of the health listener.
HEALTH = 64
# After a shutdown began: how long handshakes that were under way may take, and how long connections that are idle stay
# open, so that a request which was sent meanwhile is answered.
ACCEPT_S, QUIET_S = 0.1, 1.0
# From <asm/socket.h>, which Python does not name.
SO_ATTACH_FILTER = 26


class Listener:
    """A socket that is listened on in a thread of its own.

    Args:
        name: Of the thread.
        listening: The socket.
        front_of: Makes whoever answers, given the event loop.
        crowd: Its connections.

    Attributes:
        address: Where it listens.
    """

    def __init__(
        self,
        name: str,
        listening: socket.socket,
        front_of: Callable[[asyncio.AbstractEventLoop], Answering],
        crowd: Crowd,
    ) -> None:
        self._socket, self._front_of, self._crowd = listening, front_of, crowd
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._stop: asyncio.Future[float] = self.loop.create_future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Answer what is under way, for no longer than this, and end."""
        self.loop.call_soon_threadsafe(self._asked_to_stop, drain_s)
        self._thread.join(drain_s + 5)
        self._socket.close()

    def _asked_to_stop(self, drain_s: float) -> None:
        if not self._stop.done():
            self._stop.set_result(drain_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            with suppress(RuntimeError):
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    async def _serve(self) -> None:
        front = self._front_of(self.loop)
        server = await self.loop.create_server(
            lambda: Connection(front, self._crowd), sock=self._socket, backlog=BACKLOG
        )
        watching = self.loop.create_task(self._crowd.watch(front.flush))
        drain_s = await self._stop
        began_s = self._crowd.drained_s = time.monotonic()
        refuse_new(self._socket)
        await asyncio.sleep(min(ACCEPT_S, drain_s))
        server.close()
        while self._crowd.count and (now_s := time.monotonic()) < began_s + drain_s:
            if now_s > began_s + min(QUIET_S, drain_s / 2):
                for one in self._crowd:
                    if one.phase == Phase.IDLE:
                        one.linger()
            await asyncio.sleep(0.02)
        for one in self._crowd:
            one.cut()
        await asyncio.sleep(0)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await server.wait_closed()


class RunningServer:
    """The daemon's listeners.

    Attributes:
        address: Where it listens.
        health_port: Where health is told besides, None without.
    """

    def __init__(self, main: Listener, health: Listener | None, front: list[Front]) -> None:
        self._main, self._health, self._front = main, health, front
        self.address = main.address
        self.health_port = None if health is None else health.address[1]

    def stop(self, drain_s: float) -> None:
        """Answer what is under way, for no longer than this, and end."""
        self._main.stop(drain_s)
        for one in self._front:
            one.stop()
        if self._health is not None:
            self._health.stop(0.0)


def listen(server: Server) -> socket.socket:
    """Listen on the configured address; whoever comes before there is somebody to answer waits.

    Raises:
        EdgeError: The address cannot be listened on, or next to no files may be open.
    """
    Bounds.of(server, open_files())  # before anything is loaded
    return _listen(server.host, server.port, "server", "choose another port or host")


def _listen(host: str, port: int, where: str, remedy: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except (OSError, TypeError, ValueError) as error:  # names that are none among them
        listening.close()
        why = getattr(error, "strerror", None) or str(error)
        raise EdgeError(f"{where}: {host}:{port}", f"cannot be listened on ({why})", remedy) from None
    return listening


def listen_for_health(server: Server, port: int) -> socket.socket | None:
    """Listen where health is told besides.

    Args:
        server: What is configured.
        port: Where everything else is.

    Raises:
        EdgeError: The port was configured, and cannot be listened on.
    """
    given = server.health_port
    if given == -1:
        return None
    if given is not None:
        return _listen(server.host, given, "server.health_port", "choose another port, or -1 for none")
    try:
        return _listen(server.host, port + 1 if server.port and port < 65535 else 0, "server.health_port", "")
    except EdgeError as error:
        tell("warning", "health", what=f"{error.args[0]} {error.args[1]}; health is told on the main port alone")
        return None


def refuse_new(listening: socket.socket) -> None:
    """Let the system take no more connections, and keep those that it has taken.

    To close the socket would reset whoever waits in its queue. A filter drops what asks for a new connection and lets
    handshakes end that are under way; where the system has none, a queue of no length does nearly the same.
    """
    # Load byte 13 of the TCP header, its flags; where SYN stands alone take nothing of the packet, else all of it.
    steps = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(steps), ctypes.addressof(program))
        )
    except OSError:
        with suppress(OSError):
            listening.listen(0)


def start_server(daemon: Daemon, listening: socket.socket | None = None) -> RunningServer:
    """Answer requests, in threads.

    Args:
        daemon: Answers.
        listening: From `listen`; left out, the configured address is listened on now.

    Raises:
        EdgeError: An address cannot be listened on, or next to no files may be open.
    """
    server = daemon.config.server
    bounds = Bounds.of(server, open_files())
    if bounds.connections < server.connections:
        tell("warning", "connections", what=f"the limit of open files allows {bounds.connections}")
    listening = listening or listen(server)
    health_socket = listen_for_health(server, listening.getsockname()[1])
    senders = Senders(server.trusted_proxies)
    crowd = Crowd(bounds, senders, daemon.metrics.close)
    daemon.metrics.connections.set_function(lambda: crowd.count)
    fronts: list[Front] = []

    pages = application(daemon)

    def front_of(loop: asyncio.AbstractEventLoop) -> Front:
        fronts.append(Front(daemon, pages, senders, loop))
        return fronts[0]

    main = Listener("http", listening, front_of, crowd)
    health = None
    if health_socket is not None:
        tight = replace(
            bounds, connections=HEALTH, per_address=HEALTH // 2, head_bytes=4096, buffer_bytes=1 << 16, body_bytes=0,
            head_s=min(bounds.head_s, 5.0), idle_s=min(bounds.idle_s, 15.0), answer_s=min(bounds.answer_s, 5.0),
        )  # fmt: skip
        few = Crowd(tight, senders, daemon.metrics.close)
        health = Listener("health", health_socket, lambda loop: HealthFront(daemon), few)
    return RunningServer(main, health, fronts)
