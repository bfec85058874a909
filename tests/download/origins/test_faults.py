"""What answers mean."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import pytest

from rayapp.download.origins.faults import Action, Fault, classify, retry_after_s, web_page


def google(reason: str) -> bytes:
    return b'{"error": {"errors": [{"reason": "%s"}]}}' % reason.encode()


@pytest.mark.parametrize(
    ("status", "body", "action"),
    [
        (401, b"", Action.RENEW),
        (403, google("userRateLimitExceeded"), Action.RETRY),
        (403, google("rateLimitExceeded"), Action.RETRY),
        (403, google("downloadQuotaExceeded"), Action.PARK),
        (403, google("quotaExceeded"), Action.PARK),
        (403, google("dailyLimitExceeded"), Action.PARK_ORIGIN),
        (403, google("cannotDownloadAbusiveFile"), Action.FAIL),
        (403, google("insufficientFilePermissions"), Action.FAIL),
        (404, google("notFound"), Action.FAIL),
        (408, b"", Action.RETRY),
        (429, b"", Action.RETRY),
        (503, b"<Error><Code>SlowDown</Code></Error>", Action.RETRY),
        (400, b"<Error><Code>ExpiredToken</Code></Error>", Action.RENEW),
        (403, b"<Error><Code>AccessDenied</Code></Error>", Action.RENEW),
        (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", Action.RENEW),
        (403, b"not json", Action.FAIL),
        (403, b'{"error": 5}', Action.FAIL),
        (412, b"", Action.CHANGED),
        (416, b"", Action.CHANGED),
        (451, b"", Action.FAIL),
    ],
)
def test_classify(status: int, body: bytes, action: Action) -> None:
    assert classify(status, {}, body, "x").action is action


def test_18_19_how_long_to_wait() -> None:
    date = "Sun, 22 Nov 2026 10:00:30 GMT"
    assert retry_after_s({"Retry-After": "7"}) == 7
    now = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
    assert retry_after_s({"Retry-After": date}, now) == 30
    assert retry_after_s({"RateLimit": '"api";r=0;t=55'}) == 55
    assert retry_after_s({"Retry-After": "soon"}) is None
    assert retry_after_s({}) is None


def test_49_a_date_is_compared_with_the_servers_clock() -> None:
    headers = {
        "Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT",
        "Date": "Sun, 22 Nov 2026 10:00:20 GMT",
    }
    wrong_clock = datetime(2001, 1, 1, tzinfo=UTC)
    assert retry_after_s(headers, wrong_clock) == 10


def test_28_pages() -> None:
    assert web_page({}, b"\xff\xd8\xff", "x") is None
    assert web_page({"Content-Type": "text/html; charset=utf-8"}, b"", "x") is not None
    page = web_page({}, b"  <!DOCTYPE html><p>Too many users have viewed", "x")
    assert page is not None
    assert page.action is Action.PARK


def test_travels_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(Fault(Action.PARK, "full", 5.0)))
    assert (fault.action, fault.reason, fault.wait_s) == (Action.PARK, "full", 5.0)
