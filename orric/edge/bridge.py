"""Between connections and an ASGI application: one whole request, one whole answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from orric.edge.connection import Connection
from orric.edge.request import JSON, RefusedError, Request, problem
from orric.exceptions import extra

with extra("edge"):
    import uvloop

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
# Requests that wait or are answered at a time.
TOGETHER = 32


class Bridge:
    """Has an ASGI application answer, in a thread of its own: whatever it takes, inference and health go on.

    Args:
        application: Answers.
        loop: The event loop of the connections.
        failed: Takes note of what the application failed by.
        headers: Lines of every answer.
    """

    def __init__(
        self,
        application: Application,
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[Exception], None],
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._application, self._connections, self._failed, self._headers = application, loop, failed, headers
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pages", daemon=True)
        self._thread.start()

    def answer(self, connection: Connection, request: Request, body: bytes, bounded: bool = True) -> None:
        """Answer a request.

        Args:
            connection: It came on.
            request: Its head.
            body: Its body.
            bounded: Whether it is refused where too many wait.
        """
        if bounded and self._waiting >= TOGETHER:
            refusal = RefusedError("overloaded", 503, "too many requests wait; come again")
            connection.refuse(refusal, closes=True)
            return
        self._waiting += 1
        self._loop.call_soon_threadsafe(self._begin, connection, request, body)

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._cancel())
        self._loop.close()

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    def _begin(self, connection: Connection, request: Request, body: bytes) -> None:
        task = self._loop.create_task(self._answer(connection, request, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, connection: Connection, request: Request, *answer: Any) -> None:
        """Hand an answer to its connection, in the event loop of that."""
        self._waiting -= 1
        connection.respond(request, *answer)

    async def _answer(self, connection: Connection, request: Request, body: bytes) -> None:
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        status, lines, parts = 500, list[tuple[bytes, bytes]](), list[bytes]()

        async def receive() -> Message:
            if left:
                return left.pop()
            await asyncio.Event().wait()  # until whoever waits is cancelled
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, lines
            if message["type"] == "http.response.start":
                status, lines = message["status"], list(message.get("headers", ()))
            else:
                parts.append(message.get("body", b""))

        try:
            await self._application(_scope(connection, request), receive, send)
        except Exception as error:  # of whatever the application calls
            self._failed(error)
            answer: tuple[Any, ...] = (503, problem("the server failed; come again"), JSON, self._headers)
        else:
            kind = next((value for name, value in lines if name == b"content-type"), JSON)
            more = [(name, value) for name, value in lines if name not in (b"content-type", b"content-length")]
            answer = (status, b"".join(parts), kind, (*more, *self._headers))
        if not self._connections.is_closed():
            self._connections.call_soon_threadsafe(self._end, connection, request, *answer)


def _scope(connection: Connection, request: Request) -> Message:
    """Return what ASGI tells of a request; what is asked for its head alone is answered as if for all of it."""
    method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
        "raw_path": request.path, "query_string": request.query, "root_path": "", "server": None,
        "headers": list(request.headers.items()), "client": (connection.peer, 0),
    }  # fmt: skip
