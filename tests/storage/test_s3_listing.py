"""What we take out of a listing's page is what botocore would have found there."""

from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser

from rayapp.storage.s3_listing import take_objects

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
    "<IsTruncated>true</IsTruncated><NextContinuationToken>a&lt;b</NextContinuationToken>"
    "<EncodingType>url</EncodingType>"
)
_OBJECT = (
    "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>&#34;0f&#34;</ETag>"
    "<Size>{size}</Size><StorageClass>STANDARD</StorageClass>"
    "<Owner><ID>me</ID></Owner></Contents>"
)
_TAIL = "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"
_USED = ("Key", "Size", "ETag", "LastModified")


def parsed(body: bytes) -> dict[str, Any]:
    service = botocore.session.get_session().get_service_model("s3")
    shape = service.operation_model("ListObjectsV2").output_shape
    answer = {"body": body, "status_code": 200, "headers": {}}
    result: dict[str, Any] = create_parser("rest-xml").parse(answer, shape)
    return result


def taken(body: bytes) -> tuple[bytes, dict[str, Any]]:
    answer: dict[str, Any] = {"body": body, "status_code": 200, "headers": {}}
    found: dict[str, Any] = {}
    take_objects(response_dict=answer, customized_response_dict=found, operation_model=None)
    return answer["body"], found


@pytest.mark.parametrize(
    ("key", "time"),
    [
        ("a/b.png", "2026-11-25T10:00:00.000Z"),
        ("a%20b%2Bc&amp;d.png", "2026-11-25T10:00:00Z"),
        ("\u00e9\u4e2d.png", "2026-11-25T10:00:00.123456+01:00"),
        ("&lt;x&gt;", "Wed, 25 Nov 2026 10:00:00 GMT"),
    ],
)
def test_a_page_reads_as_with_botocore(key: str, time: str) -> None:
    objects = "".join(_OBJECT.format(key=key, time=time, size=n) for n in (0, 5 * 2**40))
    body = (_HEAD + objects + _TAIL).encode()
    wanted = parsed(body)
    rest, found = taken(body)
    ours = parsed(rest) | found
    assert [{k: one[k] for k in _USED} for one in wanted.pop("Contents")] == ours.pop("Contents")
    assert ours == wanted


def test_an_empty_page_has_no_objects() -> None:
    body = (_HEAD + _TAIL).encode()
    rest, found = taken(body)
    assert found == {}
    assert parsed(rest) == parsed(body)


def test_what_is_no_page_is_left_to_botocore() -> None:
    assert taken(b"<ListBucketResult><Cont") == (b"<ListBucketResult><Cont", {})
    answer = {"body": b"<Error/>", "status_code": 503}
    take_objects(response_dict=answer, customized_response_dict={})
    assert answer["body"] == b"<Error/>"
