"""The daemon over HTTP: inference on a path of its own, everything else by FastAPI, which documents all of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from orric import __version__
from orric.edge.bodies import INFERENCE, Decide, Pin, Problem, Truth
from orric.edge.config import Server
from orric.edge.metrics import CONTENT_TYPE
from orric.edge.page import page, status
from orric.edge.protocol import EXTENSIONS, HEADER_LENGTH, BadRequestError, answered, decompressed, metadata, parsed
from orric.edge.sender import Senders
from orric.edge.serving import OverloadedError
from orric.exceptions import EdgeError, OrricError, extra

with extra("edge"):
    import uvicorn
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Bodies that take longer are given up on, and so are connections beyond so many.
BODY_S, CONNECTIONS = 30.0, 1000
BACKLOG = 2048
PLAIN = [(b"content-type", b"application/json")]
OCTETS = b"application/octet-stream"
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"),
]


def application(daemon: Daemon) -> FastAPI:
    """Return everything but inference, and the document of everything."""
    app = FastAPI(
        title="orric", version=__version__, docs_url=None, redoc_url=None,
        description="An edge server that serves a student, retrains it, and decides how its compute is split.",
    )  # fmt: skip

    def known(status: int, problem: str) -> dict[int | str, dict[str, Any]]:
        return {status: {"model": Problem, "description": problem}}

    def authorised(request: Request) -> None:
        refusal = refused(daemon.token, request.headers.get("authorization"))
        if refusal is not None:
            raise HTTPException(*refusal)

    def of_this_model(name: str, version: str | None = None) -> None:
        if daemon.loop is None or name != daemon.name:
            raise HTTPException(404, "there is no such model")
        if version is not None and version not in map(str, daemon.versions.store.versions()):
            raise HTTPException(404, "there is no such version")

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse({"error": error.detail}, error.status_code, headers)

    @app.exception_handler(404)
    async def missing(request: Request, error: Any) -> Response:
        return JSONResponse({"error": getattr(error, "detail", "Not Found")}, 404)

    @app.exception_handler(405)
    async def wrong_method(request: Request, error: Any) -> Response:
        return JSONResponse({"error": "Method Not Allowed"}, 405, dict(getattr(error, "headers", None) or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)

    @app.exception_handler(OrricError)
    async def unusable(request: Request, error: OrricError) -> Response:
        return JSONResponse({"error": str(error)}, 409)

    # --- health and metadata --------------------------------------------------------------------------------------

    @app.get("/v2/health/live", tags=["inference"])
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=["inference"], responses=known(503, "It does not serve yet, or no more."))
    async def ready() -> dict[str, bool]:
        if not daemon.ready:
            raise HTTPException(503, "not ready")
        return {"ready": True}

    @app.get("/v2", tags=["inference"])
    async def server() -> dict[str, Any]:
        return {"name": "orric", "version": __version__, "extensions": EXTENSIONS}

    models, versions = "/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"
    absent = known(404, "There is no such model or version.")

    @app.get(models, tags=["inference"], responses=absent)
    @app.get(versions, tags=["inference"], responses=absent)
    async def model(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        of_this_model(model_name, model_version)
        assert daemon.versions.model is not None, "it serves"
        return metadata(daemon.name, daemon.versions.store.versions(), daemon.versions.model.classes)

    not_yet = {**absent, **known(503, "It does not serve yet, or no more.")}

    @app.get(f"{models}/ready", tags=["inference"], responses=not_yet)
    @app.get(f"{versions}/ready", tags=["inference"], responses=not_yet)
    async def model_ready(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        of_this_model(model_name)
        assert daemon.versions.model is not None, "it serves"
        if model_version not in (None, str(daemon.versions.model.version)):
            raise HTTPException(404, "this version does not serve")
        if not daemon.ready:
            raise HTTPException(503, "not ready")
        return {"name": daemon.name, "ready": True}

    @app.get("/healthz", tags=["operation"], responses=known(503, "The slot loop stands still."))
    async def healthz() -> dict[str, bool]:
        if not daemon.alive:
            raise HTTPException(503, "the slot loop stands still")
        return {"healthy": True}

    @app.get("/readyz", tags=["operation"], responses=known(503, "It does not serve yet, or no more."))
    async def readyz() -> dict[str, bool]:
        return await ready()

    @app.get("/metrics", tags=["operation"])
    async def metrics() -> Response:
        return Response(daemon.metrics.text(daemon), media_type=CONTENT_TYPE)

    @app.get("/v1/status", tags=["operation"])
    async def state() -> dict[str, Any]:
        return status(daemon)

    @app.get("/", tags=["operation"], response_class=HTMLResponse)
    async def shown() -> str:
        return page(daemon)

    # --- what changes something -----------------------------------------------------------------------------------

    guarded: dict[str, Any] = {
        "dependencies": [Depends(authorised)],
        "responses": {
            **known(401, "The token is missing or wrong."), **known(403, "No token is configured."),
            **known(409, "It cannot be done now."), **known(422, "The body is not as documented."),
        },
    }  # fmt: skip

    def changed(what: str, version: int | None = None) -> dict[str, str]:
        if daemon.loop is None:
            raise HTTPException(409, "this daemon serves no model")
        return {"done": daemon.loop.control(what, version)}

    @app.post("/v1/pause", tags=["operation"], **guarded)
    def pause() -> dict[str, str]:
        return changed("pause")

    @app.post("/v1/resume", tags=["operation"], **guarded)
    def resume() -> dict[str, str]:
        return changed("resume")

    @app.post("/v1/pin", tags=["operation"], **guarded)
    def pin(body: Pin) -> dict[str, str]:
        return changed("pin", body.version)

    @app.post("/v1/unpin", tags=["operation"], **guarded)
    def unpin() -> dict[str, str]:
        return changed("unpin")

    @app.post("/v1/rollback", tags=["operation"], **guarded)
    def rollback() -> dict[str, str]:
        return changed("rollback")

    @app.post("/v1/labels", tags=["operation"], **guarded)
    def labels(body: Truth) -> dict[str, int]:
        if daemon.loop is None:
            raise HTTPException(409, "this daemon serves no model")
        right = daemon.uploads.label(body.id, body.labels)
        if right is None:
            raise HTTPException(409, "no answer of that id and number of images is remembered")
        return {"labels": len(body.labels), "right": right}

    @app.post("/v1/decide", tags=["decisions"], **guarded)
    def decide(body: Decide) -> dict[str, Any]:
        if daemon.decisions is None:
            raise HTTPException(409, 'decisions are served with mode = "decisions"')
        requests = {one.name: one.requests for one in body.streams}
        if len(requests) < len(body.streams):
            raise HTTPException(409, "a stream stands twice")
        return daemon.decisions.decide(requests, body.budget_macs, [one.model_dump() for one in body.observed])

    # Documented here, answered by `Front`.
    infer: dict[str, Any] = {
        "tags": ["inference"],
        "responses": {
            **absent, **known(400, "The request is not as documented."), **known(401, "The token is missing or wrong."),
            **known(413, "It is larger than allowed."), **known(415, "The encoding is unknown."),
            **known(431, "It has too many headers."), **known(503, "Too many images wait; come again."),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": INFERENCE}}}},
    }  # fmt: skip

    @app.post(f"{models}/infer", **infer)
    async def inference(model_name: str) -> dict[str, Any]:
        raise AssertionError("answered before")

    @app.post(f"{versions}/infer", **infer)
    async def inference_by_version(model_name: str, model_version: str) -> dict[str, Any]:
        raise AssertionError("answered before")

    return app


def refused(token: str | None, given: str | None) -> tuple[int, str] | None:
    """Say whether a request may change something: None, or the status and the reason why not.

    Args:
        token: The daemon's.
        given: The request's authorization header.
    """
    if token is None:
        return 403, "no token is configured, so nothing can be changed"
    scheme, _, value = (given or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(value.strip().encode(), token.encode()):
        return 401, "give the token as 'Authorization: Bearer TOKEN'"
    return None


class Front:
    """What every request passes: limits, and inference, which goes no further.

    Args:
        daemon: Answers.
        app: Answers everything else.
    """

    def __init__(self, daemon: Daemon, app: FastAPI) -> None:
        self._daemon, self._app = daemon, app
        self._server = daemon.config.server
        self._senders = Senders(self._server.trusted_proxies)
        start = f"/v2/models/{daemon.name}"
        self._plain, self._versions = f"{start}/infer", f"{start}/versions/"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if len(scope["headers"]) > self._server.headers:
                raise BadRequestError(431, f"a request has {self._server.headers} headers at most")
            path = scope["path"]
            if scope["method"] == "POST" and path.startswith("/v2/models/") and path.endswith("/infer"):
                if self._daemon.loop is None or not (path == self._plain or self._of_version(path)):
                    raise BadRequestError(404, "there is no such model, or this version does not serve")
                await self._infer(scope, headers, receive, send)
                return
            if scope["method"] == "POST":
                # Before a body is read: whoever has no token fills no memory.
                refusal = refused(self._daemon.token, headers.get(b"authorization"))
                if refusal is not None:
                    raise BadRequestError(*refusal)
            body = await self._body(headers, receive)
        except BadRequestError as error:
            more = _retry(error.status, self._daemon.retry_after_s)
            await _respond(send, error.status, json.dumps({"error": error.message}).encode(), more)
            return
        except TimeoutError:
            await _respond(send, 408, b'{"error": "the body did not come in time"}')
            return
        await self._app(scope, _again(body), _with_security(send))

    def _of_version(self, path: str) -> bool:
        """Whether a path names the version that serves."""
        model = self._daemon.versions.model
        return model is not None and path == f"{self._versions}{model.version}/infer"

    async def _body(self, headers: Mapping[bytes, str], receive: Receive) -> bytes:
        """Read a body of no more than the allowed size, in no more than the allowed time."""
        async with asyncio.timeout(BODY_S):
            return await self._whole_body(headers, receive)

    async def _whole_body(self, headers: Mapping[bytes, str], receive: Receive) -> bytes:
        most = self._server.body_bytes
        announced = headers.get(b"content-length", "0")
        if announced.isdigit() and int(announced) > most:
            raise BadRequestError(413, f"the body is larger than {most} bytes")
        message = await receive()
        body = message.get("body", b"")
        if not message.get("more_body"):
            found: bytes = body
            if len(found) > most:
                raise BadRequestError(413, f"the body is larger than {most} bytes")
            return found
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadRequestError(400, "the body is not complete")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise BadRequestError(413, f"the body is larger than {most} bytes")
        return b"".join(parts)

    async def _infer(self, scope: Message, headers: Mapping[bytes, str], receive: Receive, send: Send) -> None:
        daemon, peer = self._daemon, (scope.get("client") or ("",))[0]
        if self._server.inference_token:
            refusal = refused(daemon.token, headers.get(b"authorization"))
            if refusal is not None:
                raise BadRequestError(*refusal)
        forwarded, client = headers.get(b"x-forwarded-for"), headers.get(b"x-orric-client")
        authenticated = refused(daemon.token, headers.get(b"authorization")) is None
        sender = self._senders.sender(peer, authenticated, forwarded, client)
        body = await self._body(headers, receive)
        if b"content-encoding" in headers:
            body = decompressed(body, headers[b"content-encoding"].strip().lower(), self._server.body_bytes)
        asked = parsed(body, headers.get(HEADER_LENGTH.encode()), self._server)
        if not daemon.ready:
            raise BadRequestError(503, "not ready")
        try:
            answer = daemon.batcher.submit(asked.images)
        except OverloadedError:
            daemon.uploads.turn_away(len(asked.images))
            daemon.metrics.shed.inc(len(asked.images))
            raise BadRequestError(503, "too many images wait; come again") from None
        daemon.uploads.arrive(asked.images, sender)
        outputs, model = await answer
        if asked.identity is not None:
            daemon.uploads.remember(asked.identity, outputs.argmax(axis=1))
        content, length = answered(asked, outputs, daemon.name, model.version, ())
        if length is None:
            await _respond(send, 200, content)
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", OCTETS), (HEADER_LENGTH.encode(), b"%d" % length),
                    (b"content-length", b"%d" % len(content)),
                ],
            }
        )  # fmt: skip
        await send({"type": "http.response.body", "body": content})


def _retry(status: int, after_s: int) -> list[tuple[bytes, bytes]]:
    if status == 503:
        return [(b"retry-after", b"%d" % after_s)]
    return [(b"www-authenticate", b"Bearer")] if status == 401 else []


async def _respond(send: Send, status: int, content: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [*PLAIN, (b"content-length", b"%d" % len(content)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _again(body: bytes) -> Receive:
    """Hand on a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if left:
            return left.pop()
        await asyncio.Event().wait()  # until whoever waits is cancelled
        return {"type": "http.disconnect"}

    return receive


def _with_security(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *SECURITY]}
        await send(message)

    return sending


class RunningServer:
    """An HTTP server in a thread of its own.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, server: uvicorn.Server, listening: socket.socket) -> None:
        self._server, self._socket = server, listening
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self._thread = threading.Thread(target=server.run, args=([listening],), name="http", daemon=True)
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Serve what is under way, for no longer than this, and end."""
        self._server.config.timeout_graceful_shutdown = max(int(drain_s), 1)
        self._server.should_exit = True
        self._thread.join(drain_s + 5)
        self._socket.close()


def listen(server: Server) -> socket.socket:
    """Listen on the configured address; whoever comes before there is somebody to answer waits.

    Raises:
        EdgeError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((server.host, server.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        where = f"server: {server.host}:{server.port}"
        why = error.strerror or str(error)
        raise EdgeError(where, f"cannot be listened on ({why})", "choose another port or host") from None
    return listening


def start_server(daemon: Daemon, listening: socket.socket | None = None) -> RunningServer:
    """Answer requests in a thread.

    Args:
        daemon: Answers.
        listening: From `listen`; left out, the configured address is listened on now.
    """
    config = uvicorn.Config(
        Front(daemon, application(daemon)), http="httptools", loop="uvloop", lifespan="off", access_log=False,
        log_config=None, server_header=False, date_header=False, ws="none", timeout_keep_alive=75, backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
    )  # fmt: skip
    return RunningServer(uvicorn.Server(config), listening or listen(daemon.config.server))
