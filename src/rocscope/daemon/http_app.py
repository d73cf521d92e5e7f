"""What is answered over HTTP: metrics, health, a JSON API with its OpenAPI document, and the live page."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from rocscope.daemon import view_models, views
from rocscope.daemon.metrics import CONTENT_TYPE
from rocscope.daemon.window_run import WindowRequest
from rocscope.errors import RocscopeError
from rocscope.reports.palette import COLOURS

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.metrics import DaemonCollector

PAGE: Final = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"),
               "/page.js": ("page.js", "text/javascript")}  # fmt: skip
MOST: Final = 500
WEEK_S: Final = 7 * 86_400.0
Text = Annotated[str, Query(max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
Span = Annotated[float, Query(gt=0, le=90 * 86_400, allow_inf_nan=False)]


class Refusal(BaseModel):
    """Why a request was not answered."""

    detail: str


class Alert(BaseModel):
    """One alert of Alertmanager's webhook; its texts are looked at for nothing but their labels."""

    model_config = ConfigDict(extra="ignore", strict=True)

    status: str = Field(max_length=32)
    labels: dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=64
    )


class Webhook(BaseModel):
    """What Alertmanager sends (version 4). A firing alert asks for one window, within the budget."""

    model_config = ConfigDict(extra="ignore", strict=True)

    status: str = Field(max_length=32)
    alerts: list[Alert] = Field(default_factory=list, max_length=64)


class Asked(BaseModel):
    """What came of a request for a window."""

    id: str | None
    refusal: str | None
    retry_s: float | None


def make_app(context: Context, collector: DaemonCollector) -> FastAPI:
    """Return the application; the guard stands before it."""
    app = FastAPI(
        title="rocscope daemon",
        version=context.facts.version,
        description="What this inference node does. Nothing here has an effect but the webhook.",
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    _add_health(app, context)
    _add_metrics(app, collector)
    _add_api(app, context)
    _add_webhook(app, context)
    _add_page(app)
    return app


def _add_health(app: FastAPI, context: Context) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, summary="Whether the daemon runs")
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", summary="Whether all its parts do their work", responses={503: {"model": Refusal}})
    async def readyz() -> view_models.Ready:
        found = views.ready(context)
        if not found.ready:
            raise HTTPException(503, found.reason)
        return found


def _add_metrics(app: FastAPI, collector: DaemonCollector) -> None:
    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus exposition")
    async def metrics() -> Response:
        return Response(collector.text(), media_type=CONTENT_TYPE)


def _add_api(app: FastAPI, context: Context) -> None:
    """Add the API; what asks the store alone runs in a thread (no ``async``), as a disk may take its time."""
    gone: dict[int | str, dict[str, Any]] = {503: {"model": Refusal}}

    @app.exception_handler(RocscopeError)
    async def told(_: Any, error: Exception) -> JSONResponse:
        text = error.message if isinstance(error, RocscopeError) else "not now"
        return JSONResponse({"detail": text}, status_code=503)

    @app.get("/api/v1/status", responses=gone, summary="Everything at a glance")
    async def status() -> view_models.Status:
        return views.status(context)

    @app.get("/api/v1/engines", responses=gone, summary="The vLLM servers that are watched")
    async def engines() -> list[view_models.EngineView]:
        return views.engines(context)

    @app.get("/api/v1/windows", responses=gone, summary="Windows, newest first")
    def windows(
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        before: Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)] = None,
    ) -> list[view_models.WindowView]:
        return views.window_list(context, limit, before)

    @app.get("/api/v1/windows/{window_id}", responses={**gone, 404: {"model": Refusal}},
             summary="One window with what kernel families did in it")  # fmt: skip
    def window(window_id: str) -> view_models.WindowDetail:
        found = views.window_detail(context, window_id)
        if found is None:
            raise HTTPException(404, "no such window")
        return found

    @app.get("/api/v1/findings", responses=gone, summary="Findings, newest first")
    def findings(limit: Annotated[int, Query(ge=1, le=MOST)] = 50) -> list[view_models.FindingView]:
        return views.findings(context, limit)

    @app.get("/api/v1/families", responses=gone, summary="Busy time by family, window by window")
    def families(over_s: Span = WEEK_S) -> list[view_models.FamilyShare]:
        return views.families(context, over_s)

    @app.get("/api/v1/series", responses=gone, summary="The series that are kept")
    def series() -> list[view_models.SeriesName]:
        return views.series(context)

    @app.get("/api/v1/points", responses=gone, summary="One series over time")
    def points(
        subject: Text, metric: Text, over_s: Span = 3600.0, most: Annotated[int, Query(ge=2, le=2000)] = 300
    ) -> view_models.Points:
        return views.points(context, subject, metric, over_s, most)


def _add_webhook(app: FastAPI, context: Context) -> None:
    @app.post("/api/v1/webhook", responses={503: {"model": Refusal}, 401: {"model": Refusal},
                                            403: {"model": Refusal}, 413: {"model": Refusal}},
              summary="Ask for a window because an alert fires")  # fmt: skip
    async def webhook(alert: Webhook) -> Asked:
        windows = context.part("windows")
        if windows is None:
            raise HTTPException(503, "windows do not run now")
        firing = [each for each in alert.alerts if each.status == "firing"]
        if alert.status != "firing" or not firing:
            return Asked(id=None, refusal="no alert fires", retry_s=None)
        name = firing[0].labels.get("alertname", "an alert")
        answer = await windows.ask(WindowRequest("webhook", f"alert {name}"[:200]))
        return Asked(id=answer.id, refusal=answer.refusal, retry_s=answer.retry_s)


def _add_page(app: FastAPI) -> None:
    folder = resources.files("rocscope.daemon").joinpath("page")

    def add(path: str, name: str, kind: str) -> None:
        body = folder.joinpath(name).read_bytes().replace(b"__COLOURS__", json.dumps(COLOURS).encode())
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'

        async def page() -> Response:
            return Response(body, media_type=kind, headers={"etag": tag})

        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)

    for path, (name, kind) in PAGE.items():
        add(path, name, kind)
