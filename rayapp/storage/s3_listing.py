"""Pages of an S3 listing, their objects parsed in a third of the time that botocore takes."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from botocore.utils import parse_timestamp


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)  # what S3 says; botocore's parser takes any form
    except ValueError:
        return parse_timestamp(text)


_FIELDS: Mapping[str, Callable[[str], Any]] = {
    "Key": str,
    "Size": int,
    "ETag": str,
    "LastModified": _time,
}


def take_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """A handler of botocore's event `before-parse.s3.ListObjectsV2`.

    The objects of a page are taken out of its body; botocore parses what is left, be it an error.
    """
    if response_dict["status_code"] != 200:
        return
    try:
        # As botocore does itself: of an endpoint that the user trusts with the images.
        page = ElementTree.fromstring(response_dict["body"])  # noqa: S314
    except ElementTree.ParseError:
        return  # botocore says what is wrong
    objects, rest = [], []
    for node in page:
        if _name(node) == "Contents":
            objects.append(_fields(node))
        else:
            rest.append(node)
    page[:] = rest
    response_dict["body"] = ElementTree.tostring(page)
    if objects:
        customized_response_dict["Contents"] = objects


def _fields(node: ElementTree.Element) -> dict[str, Any]:
    """The fields that we use, as botocore gives them."""
    texts = {_name(field): field.text or "" for field in node}
    return {name: parsed(texts[name]) for name, parsed in _FIELDS.items() if name in texts}


def _name(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]
