"""Between connections and an ASGI application: one whole request, one whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from orric.edge.connection import Connection
from orric.edge.log import tell
from orric.edge.request import JSON, RefusedError, Request

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
# Requests that are answered at a time.
TOGETHER = 32


class Bridge:
    """Has an ASGI application answer.

    Args:
        application: Answers.
        headers: Lines of every answer.
    """

    def __init__(self, application: Application, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self._application, self._headers = application, headers
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        """Answer a request, in a task of its own."""
        if len(self._tasks) >= TOGETHER:
            connection.refuse(RefusedError("overloaded", 503, "too many requests wait; come again"))
            return
        task = asyncio.get_running_loop().create_task(self._answer(connection, request, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
            tell("error", "request", error=f"{type(error).__name__}: {error}")
            connection.respond(request, 500, b'{"error":"the server failed"}')
            return
        kind = next((value for name, value in lines if name == b"content-type"), JSON)
        more = [(name, value) for name, value in lines if name not in (b"content-type", b"content-length")]
        connection.respond(request, status, b"".join(parts), kind, (*more, *self._headers))


def _scope(connection: Connection, request: Request) -> Message:
    """Return what ASGI tells of a request; what is asked for its head alone is answered as if for all of it."""
    method = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
        "raw_path": request.path, "query_string": request.query, "root_path": "", "server": None,
        "headers": list(request.headers.items()), "client": (connection.peer, 0),
    }  # fmt: skip
