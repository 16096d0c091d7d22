"""What is asked over HTTP beside inference and health, by FastAPI, which documents all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orric import __version__
from orric.edge.bodies import INFERENCE, Decide, Pin, Problem, Truth
from orric.edge.guards import refused
from orric.edge.page import page, status
from orric.edge.protocol import EXTENSIONS, metadata
from orric.exceptions import OrricError, extra

with extra("edge"):
    import msgspec
    from fastapi import Depends, FastAPI, HTTPException, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon


def application(daemon: Daemon) -> FastAPI:
    """Return everything but inference and health, and the document of everything."""
    app = FastAPI(
        title="orric", version=__version__, docs_url=None, redoc_url=None, openapi_url=None,
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
        assert daemon.versions.model is not None, "it serves"
        if version not in (None, str(daemon.versions.model.version)):
            raise HTTPException(404, "this version does not serve")

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

    # Documented here, answered by `HealthFront`.
    @app.get("/v2/health/live", tags=["inference"])
    async def live() -> dict[str, bool]:
        raise AssertionError("answered before")

    @app.get("/v2/health/ready", tags=["inference"], responses=known(503, "It does not serve yet, or no more."))
    async def ready() -> dict[str, bool]:
        raise AssertionError("answered before")

    @app.get("/healthz", tags=["operation"], responses=known(503, "The slot loop stands still."))
    async def healthz() -> dict[str, bool]:
        raise AssertionError("answered before")

    @app.get("/readyz", tags=["operation"], responses=known(503, "It does not serve yet, or no more."))
    async def readyz() -> dict[str, bool]:
        raise AssertionError("answered before")

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics() -> str:
        raise AssertionError("answered before")

    @app.get("/v2", tags=["inference"])
    async def server() -> dict[str, Any]:
        return {"name": "orric", "version": __version__, "extensions": EXTENSIONS}

    models, versions = "/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"
    absent = known(404, "There is no such model or version.")

    @app.get(models, tags=["inference"], responses=absent)
    @app.get(versions, tags=["inference"], responses=absent)
    async def model(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        of_this_model(model_name, model_version)
        serving = daemon.versions.model
        assert serving is not None, "it serves"
        # Those that lie in the store cannot be asked for, so they are not listed.
        return metadata(daemon.name, [serving.version], serving.classes)

    unchangeable = {**absent, **known(400, "Models are not loaded or unloaded this way.")}
    not_yet = {**absent, **known(503, "It does not serve yet, or no more.")}

    @app.get(f"{models}/ready", tags=["inference"], responses=not_yet)
    @app.get(f"{versions}/ready", tags=["inference"], responses=not_yet)
    async def model_ready(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        of_this_model(model_name, model_version)
        if not daemon.ready:
            raise HTTPException(503, "not ready")
        return {"name": daemon.name, "ready": True}

    @app.post("/v2/repository/index", tags=["inference"])
    async def index() -> list[dict[str, str]]:
        if daemon.loop is None or daemon.versions.model is None:
            return []
        state = "READY" if daemon.ready else "UNAVAILABLE"
        version = str(daemon.versions.model.version)
        return [{"name": daemon.name, "version": version, "state": state, "reason": ""}]

    for what in ("load", "unload"):

        @app.post(f"/v2/repository/models/{{model_name}}/{what}", tags=["inference"], responses=unchangeable)
        async def change(model_name: str) -> None:
            of_this_model(model_name)
            raise HTTPException(400, "models are chosen by the daemon; POST /v1/pin fixes the version that serves")

    @app.get("/v1/status", tags=["operation"])
    async def state() -> dict[str, Any]:
        # Of plain values alone, so that nothing has to be looked at on the way.
        return Response(msgspec.json.encode(status(daemon)), media_type="application/json")  # type: ignore[return-value]

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

    # Documented here, answered by `Inferences`.
    infer: dict[str, Any] = {
        "tags": ["inference"],
        "responses": {
            **absent, **known(400, "The request is not as documented."), **known(401, "The token is missing or wrong."),
            **known(403, "It is of a page of another origin, or no token is configured."),
            **known(408, "It did not come in time."), **known(417, "It expects what there is none of."),
            **known(413, "It is larger than allowed."), **known(415, "The encoding or the content type is unknown."),
            **known(421, "It is for another host."),
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

    document = msgspec.json.encode(app.openapi())  # once, since it is long

    @app.get("/openapi.json", include_in_schema=False)
    async def described() -> Response:
        return Response(document, media_type="application/json")

    return app
