"""The service as an ASGI app, made from whoever scores and counts: no Ray is needed here."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from rayapp.config.defaults import __version__
from rayapp.pages.service_page import service_assets, service_page
from rayapp.serve.answer_models import (
    SCORE_BODY,
    DetectorCard,
    Healthy,
    Ready,
    ScoreAnswer,
    ScoreQuery,
    refused,
)
from rayapp.serve.answers import without_declared
from rayapp.serve.api_document import api_document
from rayapp.serve.api_page import api_page
from rayapp.serve.batch.batch_routes import BatchImages, batch_routes
from rayapp.serve.doors import NOTES, Doors, log
from rayapp.serve.incoming.admission import Admission
from rayapp.serve.incoming.bodies import JsonImages, images_of, one_line, read_body
from rayapp.serve.kept_images import KeptImages
from rayapp.serve.refusals import Refused, too_slow
from rayapp.serve.score_contract import Row, Scored, SentImage
from rayapp.serve.service import Service

_READY_S = 5.0
_UNREAD = (401, 408, 413, 429, 503)
_ABOUT = "Scores of images: how likely each is AI-generated. A verdict is no proof."


def make_app(service: Service) -> Doors:
    """The app, with its doors."""
    app = FastAPI(
        title="imaginet", description=_ABOUT, version=__version__, docs_url=None, redoc_url=None
    )
    admission = Admission(service.limits)
    _scores(app, service, admission)
    _states(app, service)
    batch_routes(app, service, admission)
    _pages(app)
    _errors(app)
    _document(app, service)
    return Doors(app, service.desk, service.hosts)


def _scores(app: FastAPI, service: Service, admission: Admission) -> None:
    @app.post(
        "/v1/score",
        responses={
            200: {"model": ScoreAnswer},
            **refused(401, 403, 404, 408, 413, 415, 422, 429, 503),
        },
        openapi_extra=SCORE_BODY,
    )
    async def score(request: Request, query: Annotated[ScoreQuery, Query()]) -> Response:
        """Score the images of a request; one that can't be read has its reason in its row."""
        token = await service.token_of(request)
        name = service.named(query.detector)
        admission.require_room()  # before its body is read: to refuse must cost little
        with admission.body() as held:
            body = await read_body(request, service.limits, held)
            images = await images_of(body, request.headers, service.limits, service.web, held)
            del body
            if query.options.map and len(images) > service.limits.max_maps:
                raise Refused(422, f"maps are made of {service.limits.max_maps} images at most")
            with admission.scoring(len(images), token):
                began = time.perf_counter()
                scored = await _in_time(service, admission, name, images, query)
                seconds = time.perf_counter() - began
                admission.took(seconds, len(images))
            if service.kept:
                await _keep(service.kept, images)
        request.scope[NOTES] |= {"rows": scored.images, "detector": scored.detector}
        head = scored.detector | {"default": name == service.scoring.names[0]}
        shown = scored.images if query.shows_declared else without_declared(scored.images)
        return JSONResponse({"detector": head, "images": shown, "seconds": round(seconds, 6)})


async def _keep(kept: KeptImages, images: list[SentImage]) -> None:
    try:
        await asyncio.to_thread(kept.put, images)
    except Exception as error:  # noqa: BLE001 - the score is there, and is what was asked for
        log.error("%d images not kept: %s", len(images), error)


async def _in_time(
    service: Service, admission: Admission, name: str, images: list[SentImage], query: ScoreQuery
) -> Scored:
    limit = service.limits.timeout_s
    try:
        async with asyncio.timeout(limit):
            return await service.scoring.score(name, images, query.options, limit)
    except TimeoutError:
        raise too_slow(limit, admission.retry_after_s) from None


def _states(app: FastAPI, service: Service) -> None:
    @app.get("/v1/detectors", responses={200: {"model": list[DetectorCard]}, **refused(401, 503)})
    async def detectors(request: Request) -> Response:
        """What is known of each detector."""
        await service.token_of(request)
        cards = await _cards(service)
        return JSONResponse([one | {"default": at == 0} for at, one in enumerate(cards)])

    @app.get("/healthz", responses={200: {"model": Healthy}})
    async def healthy() -> Response:
        """Whether the service runs."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses={200: {"model": Ready}, **refused(503)})
    async def ready() -> Response:
        """Whether the detectors answer."""
        cards = await _cards(service)
        return JSONResponse({"status": "ok", "detectors": [one["name"] for one in cards]})

    @app.get("/metrics", response_class=PlainTextResponse, responses=refused(401))
    async def metrics(request: Request) -> Response:
        """Counts in Prometheus' text format."""
        await service.token_of(request)
        return PlainTextResponse(await service.desk.metrics())


async def _cards(service: Service) -> list[Row]:
    try:
        async with asyncio.timeout(_READY_S):
            return await service.scoring.cards()
    except TimeoutError:
        raise Refused(503, "the detectors do not answer yet", retry_after_s=5) from None


def _pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(api_page(app.openapi()))

    page = ("text/html; charset=utf-8", service_page().encode())
    for path, (kind, data) in {"/": page, **service_assets()}.items():
        app.add_api_route(path, _file(kind, data), include_in_schema=False)


def _file(kind: str, data: bytes) -> Any:
    async def given() -> Response:
        return Response(data, media_type=kind)

    return given


def _errors(app: FastAPI) -> None:
    """Every refusal is one line of JSON."""

    @app.exception_handler(Refused)
    async def refusal(request: Request, error: Refused) -> Response:
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        if error.status in _UNREAD:  # what is left of its body is not wanted
            headers["Connection"] = "close"
        return JSONResponse({"error": error.why}, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse({"error": one_line(error.errors()[0])}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        headers = {"Allow": _methods(app, request)} if error.status_code == 405 else error.headers
        return JSONResponse({"error": error.detail}, error.status_code, headers)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "internal error; the service's log has it"}, 500)


def _methods(app: FastAPI, request: Request) -> str:
    """All that a path takes; the framework tells of the first of its routes alone."""
    taken: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] != Match.NONE:
            taken |= set(getattr(route, "methods", None) or ())
    taken |= {"HEAD"} if "GET" in taken else set()  # see `Doors`
    return ", ".join(sorted(taken))


def _document(app: FastAPI, service: Service) -> None:
    """The OpenAPI document, made once."""

    def made() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or api_document(
            app,
            (JsonImages, BatchImages),
            max_images=service.limits.max_images,
            fetches=service.web is not None,
            asks_for_tokens=service.tokens is not None,
        )
        return app.openapi_schema

    app.openapi = made  # type: ignore[method-assign]
