"""The images of a request: multipart, raw bytes or base64 in JSON; bounded in bytes and time."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from rayapp.serve.incoming.admission import BodyBytes
from rayapp.serve.incoming.web_images import NotFetched, WebImages
from rayapp.serve.refusals import Refused, bad_request, too_large
from rayapp.serve.score_contract import SentImage
from rayapp.serve.settings import Limits

_FIELD = "images"
_MOST_NAME = 1024  # characters
_MOST_JSON = 1.4  # of the bytes that base64 makes of the largest body: a third more, and the rest
_RAW = ("image/", "application/octet-stream")


class JsonImage(BaseModel):
    """An image in a request of JSON: its bytes in base64, or an address where fetching is on."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=_MOST_NAME, description="comes back with the answer")
    data: str | None = Field(None, description="the file in base64")
    url: str | None = Field(
        None, max_length=4096, description="where to fetch it, if the service allows its host"
    )


class JsonImages(BaseModel):
    """A request of JSON."""

    model_config = ConfigDict(extra="forbid")

    images: list[JsonImage] = Field(min_length=1, description="what to score")


class _InMemory(MultiPartParser):
    """No part is ever put down to a file."""

    spool_max_size = 1 << 62


async def read_body(request: Request, limits: Limits, held: BodyBytes) -> bytes:
    """All of a request's body.

    Raises:
        Refused: 413 where it is too large, 408 where it takes too long, 503 where there is no room.
    """
    if int(request.headers.get("content-length", 0)) > limits.max_bytes:
        raise too_large(limits.max_bytes)
    chunks = []
    try:
        async with asyncio.timeout(limits.upload_s):
            async for chunk in request.stream():
                held.add(len(chunk))
                if held.held > limits.max_bytes:
                    raise too_large(limits.max_bytes)
                chunks.append(chunk)
    except ClientDisconnect:  # nobody reads this; it is counted
        raise Refused(400, "the body ended early: whoever sent it is gone") from None
    except TimeoutError:
        raise Refused(408, f"the body did not come within {limits.upload_s:g} s") from None
    return b"".join(chunks)


async def images_of(
    body: bytes, headers: Headers, limits: Limits, web: WebImages | None, held: BodyBytes
) -> list[SentImage]:
    """The images in a body, in their order; what is fetched counts as if it had been sent.

    Raises:
        Refused: 415 of another type, 422 of a body that is not what its type says; of what is
            fetched as `read_body`.
    """
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise Refused(415, "send the body as it is, without Content-Encoding")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _of_form(body, headers, limits)
    elif kind == "application/json":
        images = await _of_json(body, limits, web, held)
    elif kind.startswith(_RAW) or not kind:
        images = [SentImage("", body)]
    else:
        raise Refused(
            415, "send multipart/form-data, application/json, image/* or application/octet-stream"
        )
    if not images:
        raise bad_request(f"no image: send files in the field “{_FIELD}”")
    if len(images) > limits.max_images:
        raise bad_request(f"{len(images)} images; a request takes {limits.max_images} at most")
    if long := [one for one in images if len(one.name) > _MOST_NAME]:
        raise bad_request(f"a name of {len(long[0].name)} characters; {_MOST_NAME} at most")
    return images


async def _of_form(body: bytes, headers: Headers, limits: Limits) -> list[SentImage]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    most = limits.max_images  # of fields too: they are refused below, in words that help
    parser = _InMemory(headers, whole(), max_files=most, max_fields=most, max_part_size=1 << 16)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        why = error.message if isinstance(error, MultiPartException) else "no boundary"
        raise bad_request(f"not multipart/form-data as it should be: {why}") from None
    images = []
    for name, part in form.multi_items():
        if name != _FIELD or not isinstance(part, UploadFile):
            raise bad_request(
                f"files go into the field “{_FIELD}” (curl: -F {_FIELD}=@FILE), "
                "options into the address"
            )
        images.append(SentImage(part.filename or "", await part.read()))
        await part.close()
    return images


async def _of_json(
    body: bytes, limits: Limits, web: WebImages | None, held: BodyBytes
) -> list[SentImage]:
    try:
        asked = JsonImages.model_validate_json(body)
    except ValidationError as error:
        raise bad_request(one_line(error.errors()[0])) from None
    if len(asked.images) > limits.max_images:
        raise bad_request(
            f"{len(asked.images)} images; a request takes {limits.max_images} at most"
        )
    given = [_given(number, image, web) for number, image in enumerate(asked.images)]
    if web is None:
        return given
    urls = [image.url for image in asked.images]
    try:
        async with asyncio.timeout(limits.upload_s):
            return [
                await _fetched(one, url, web, limits, held) if url else one
                for one, url in zip(given, urls, strict=True)
            ]
    except TimeoutError:
        why = f"the images of the request could not be fetched within {limits.upload_s:g} s"
        raise Refused(408, why) from None


def _given(number: int, image: JsonImage, web: WebImages | None) -> SentImage:
    """The image, still without data where it is to be fetched."""
    where = f"images.{number}"
    if (image.data is None) == (image.url is None):
        raise bad_request(f"{where}: give either data or url")
    if image.data is not None:
        try:
            return SentImage(image.name, base64.b64decode(image.data, validate=True))
        except (binascii.Error, ValueError):
            raise bad_request(f"{where}.data: not base64") from None
    if web is None:
        raise bad_request(f"{where}.url: this service fetches nothing; send the file itself")
    assert image.url is not None
    web.check(image.url, where)
    return SentImage(image.name or image.url[:_MOST_NAME], b"")


async def _fetched(
    image: SentImage, url: str, web: WebImages, limits: Limits, held: BodyBytes
) -> SentImage:
    """The image with its data, or with the reason why there is none."""
    try:
        data = await web.fetch(url, limits.max_bytes)
    except NotFetched as error:
        return replace(image, error=str(error))
    held.add(len(data))
    if held.held > limits.max_bytes:
        raise too_large(limits.max_bytes)
    return replace(image, data=data)


def one_line(error: Any) -> str:
    """What pydantic says is wrong, and where, without the value."""
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])
