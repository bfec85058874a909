"""What can go wrong at an origin and what is done about it, decided once, before any retry.

Reasons of Google Drive: developers.google.com/drive/api/guides/handle-errors; of S3 and Google
Cloud Storage: the `Code` of their XML errors; `RateLimit: …;t=S`: the Hugging Face hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

_RATE_REASONS = {"userRateLimitExceeded", "rateLimitExceeded", "backendError", "internalError"}
_DAY_REASONS = {"downloadQuotaExceeded", "quotaExceeded", "sharingRateLimitExceeded"}
_ORIGIN_DAY_REASONS = {"dailyLimitExceeded"}
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_EXPIRED_CODES = {
    "ExpiredToken",
    "AccessDenied",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "InvalidSecurity",
    "AuthenticationRequired",
}


class Action(StrEnum):
    """What the caller does next."""

    RETRY = "retry"  # the same request again, later
    RENEW = "renew"  # a new token or a new signed URL first
    PARK = "park"  # this file has no quota left for hours; go on with others
    PARK_ORIGIN = "park origin"  # the account has none left
    CHANGED = "changed"  # the object is not the one that was indexed
    STREAM = "stream"  # the server does not serve ranges
    FAIL = "fail"  # no number of retries helps


class Fault(Exception):
    """A request or a file that did not succeed: `action` to take, `reason` for a person.

    `wait_s` is what the server asked us to wait, None when it said nothing.
    """

    def __init__(self, action: Action, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.action = action
        self.reason = reason
        self.wait_s = wait_s

    def __reduce__(self) -> tuple[type[Fault], tuple[Action, str, float | None]]:
        return (type(self), (self.action, self.reason, self.wait_s))


def may_pass(error: BaseException) -> bool:
    """Whether the same request may do well later."""
    return isinstance(error, Fault) and error.action is Action.RETRY


def asked_s(error: BaseException) -> float | None:
    """Seconds that the server asked to wait, where it did."""
    return error.wait_s if isinstance(error, Fault) else None


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by `Retry-After` (seconds or HTTP date) or the hub's `RateLimit`, else None.

    A date is compared with the server's own `Date`, so that a wrong clock here does no harm.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            until = parsedate_to_datetime(value)
            server_now = headers.get("Date")
            current = parsedate_to_datetime(server_now) if server_now else now or datetime.now(UTC)
            return max((until - current).total_seconds(), 0.0)
        except (ValueError, TypeError):
            return None
    limit = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else None


def classify(status: int, headers: Mapping[str, str], body: bytes, what: str) -> Fault:
    """Say what an unwanted answer of status `status` for `what` means; `body` is its beginning."""
    wait_s = retry_after_s(headers)
    reason = _reason(body)
    note = f"{what}: HTTP {status}" + (f" ({reason})" if reason else "")
    if status == 401:
        return Fault(Action.RENEW, note)
    if reason in _ORIGIN_DAY_REASONS:
        return Fault(Action.PARK_ORIGIN, note, wait_s)
    if reason in _DAY_REASONS:
        return Fault(Action.PARK, note, wait_s)
    if status in _RETRY_STATUS or reason in _RATE_REASONS or reason == "SlowDown":
        return Fault(Action.RETRY, note, wait_s)
    if status in (400, 403) and reason in _EXPIRED_CODES:
        return Fault(Action.RENEW, note)
    if status in (412, 416):
        return Fault(Action.CHANGED, f"{note}: the object at the origin was replaced or cut")
    return Fault(Action.FAIL, note)


def web_page(headers: Mapping[str, str], beginning: bytes, what: str) -> Fault | None:
    """The fault when a web page came with status 200 instead of a file, else None."""
    start = beginning[:512].lstrip().lower()
    if not (start.startswith((b"<!doctype html", b"<html")) or _is_html(headers)):
        return None
    text = beginning.lower()
    if b"quota exceeded" in text or b"too many users" in text:
        return Fault(
            Action.PARK, f"{what}: a page about an exceeded quota came instead of the file"
        )
    if b"virus" in text:
        return Fault(Action.FAIL, f"{what}: the virus-scan page came; use the API with credentials")
    return Fault(Action.FAIL, f"{what}: a web page came instead of the file (login or licence?)")


def _is_html(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").lower().startswith("text/html")


def _reason(body: bytes) -> str:
    """The machine-readable reason in Drive's JSON or S3's XML error, empty when there is none."""
    if body[:1] == b"{":
        try:
            error = json.loads(body).get("error", {})
            return str(error["errors"][0]["reason"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return ""
    code = re.search(rb"<Code>(\w+)</Code>", body)
    return code[1].decode() if code else ""
