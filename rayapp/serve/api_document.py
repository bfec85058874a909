"""The OpenAPI document: what FastAPI sees of the routes, with bodies, limits and tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def api_document(
    app: FastAPI,
    bodies: Iterable[type[BaseModel]],
    *,
    max_images: int,
    fetches: bool,
    asks_for_tokens: bool,
) -> dict[str, Any]:
    """The document of an app as its service answers.

    Args:
        app: with all of its routes.
        bodies: shapes of JSON that routes read themselves, `JsonImages` among them.
        max_images: of a request.
        fetches: whether an image may be given by URL.
        asks_for_tokens: whether requests need one.
    """
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    shapes = found["components"]["schemas"]
    for model in bodies:
        own = model.model_json_schema(ref_template=_REF)
        shapes |= own.pop("$defs", {}) | {model.__name__: own}
    _limit_images(found, max_images, fetches)
    for operations in found["paths"].values():
        for one in operations.values():
            _refusals_are_json(one["responses"])
    if asks_for_tokens:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in found["paths"].items():
            for one in methods.values():
                if path.startswith("/v1/") or path == "/metrics":
                    one["security"] = [{"token": []}]
    return found


def _refusals_are_json(responses: dict[str, Any]) -> None:
    """Whatever a route answers with when all is well."""
    for code, answer in responses.items():
        if int(code) >= 400:
            answer["content"] = {"application/json": next(iter(answer["content"].values()))}


def _limit_images(found: dict[str, Any], max_images: int, fetches: bool) -> None:
    """Say how many images a request may have, and how one comes in JSON."""
    shapes = found["components"]["schemas"]
    taken = found["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    form = taken["multipart/form-data"]["schema"]
    for images in (form["properties"]["images"], shapes["JsonImages"]["properties"]["images"]):
        images["maxItems"] = max_images
    one = shapes["JsonImage"]
    data, url = (one["properties"][name] for name in ("data", "url"))
    for value in (data, url):  # it may be left out, which is not to be null
        value |= {"type": "string"}
        value.pop("anyOf", None)
        value.pop("default", None)
    data |= {"contentEncoding": "base64", "pattern": _BASE64}
    if not fetches:
        del one["properties"]["url"]
        one["required"] = ["data"]
    else:
        url |= {"maxLength": 4096, "format": "uri"}
        one["oneOf"] = [{"required": ["data"]}, {"required": ["url"]}]
