"""The routes of batches: what is asked of them, and told."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rayapp.serve.answer_models import refused
from rayapp.serve.incoming.admission import Admission
from rayapp.serve.incoming.bodies import one_line, read_body
from rayapp.serve.refusals import Refused, bad_request
from rayapp.serve.service import Service

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="as it was told")]
_FAULTS = refused(401, 404, 422, 503)


class BatchImages(BaseModel):
    """A batch that is asked for."""

    model_config = ConfigDict(extra="forbid")

    images: list[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(
        min_length=1, description="paths or URIs, all under one of the folders that are allowed"
    )
    detector: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="its name; the first where none is given"
    )
    stability: Literal["none", "web"] = Field("none", description="as of /v1/score")


class BatchAnswer(BaseModel):
    """How a batch stands."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    error: str
    detector: str
    images: int
    counts: dict[str, int] | None = Field(description="once it is done: images in, scored, failed")
    verdicts: dict[str, int] | None = Field(description="once it is done: images of each verdict")


def batch_routes(app: FastAPI, service: Service, admission: Admission) -> None:
    """Add them."""
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/BatchImages"}}}

    @app.post(
        "/v1/batches",
        status_code=202,
        responses={202: {"model": BatchAnswer}, **refused(401, 403, 404, 408, 413, 415, 422, 503)},
        openapi_extra={"requestBody": {"required": True, "content": schema}},
    )
    async def submit(request: Request) -> Response:
        """Put images that lie under the service's folders on the list of what is to be scored."""
        token = await service.token_of(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "send application/json")
        with admission.body() as held:
            body = await read_body(request, service.limits, held)
            try:
                asked = BatchImages.model_validate_json(body)
            except ValidationError as error:
                raise bad_request(one_line(error.errors()[0])) from None
        name = service.named(asked.detector)
        found = await service.desk.submit(asked.images, name, asked.stability, token)
        return JSONResponse(found, 202)

    @app.get("/v1/batches/{batch}", responses={200: {"model": BatchAnswer}, **_FAULTS})
    async def describe(request: Request, batch: Id) -> Response:
        """How a batch stands."""
        return JSONResponse(await service.desk.describe(batch, await service.token_of(request)))

    @app.get(
        "/v1/batches/{batch}/scores.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}}, **_FAULTS, **refused(409)},
    )
    async def scores(request: Request, batch: Id) -> Response:
        """What predict wrote for people, of a batch that is done."""
        data = await service.desk.scores(batch, await service.token_of(request))
        return Response(data, media_type="text/csv")

    @app.delete("/v1/batches/{batch}", responses={200: {"model": BatchAnswer}, **_FAULTS})
    async def cancel(request: Request, batch: Id) -> Response:
        """Stop a batch, or take it off the list."""
        return JSONResponse(await service.desk.cancel(batch, await service.token_of(request)))
