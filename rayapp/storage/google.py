"""Google Cloud Storage, by Google's own client: objects under a prefix of a bucket, `gs://…`."""

import base64
import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import google_crc32c
import requests
from google.api_core import exceptions as answers
from google.auth import exceptions as auth
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from rayapp.config.errors import UserError
from rayapp.storage.buckets import (
    CONNECTIONS,
    SILENCE_S,
    CloudStore,
    Damaged,
    Page,
    length_of,
    unreached,
)
from rayapp.storage.store import Stat

_EMULATOR = "STORAGE_EMULATOR_HOST"  # of Google's own clients: the URL of another endpoint
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_RETRY = DEFAULT_RETRY.with_delay(initial=0.5, maximum=20.0).with_timeout(60.0)
_FIELDS = "items(name,size,etag,updated),prefixes,nextPageToken"
_CHUNK_BYTES = 8 << 20  # of a large upload; what is sent again where a request fails
_FAULTS = (
    answers.GoogleAPICallError,
    answers.RetryError,
    auth.GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    requests.RequestException,
)
_one_at_a_time = threading.Lock()


class GoogleStore(CloudStore):
    """Objects under a prefix of a bucket, by Application Default Credentials."""

    scheme = "gs"

    def _blob(self, name: str) -> Any:
        return google_client().bucket(self.bucket).blob(name, chunk_size=_CHUNK_BYTES)

    def _put(self, name: str, data: bytes | BinaryIO, if_absent: bool) -> None:
        blob, size = self._blob(name), length_of(data)
        options: dict[str, Any] = {
            "content_type": "application/octet-stream",
            "checksum": "crc32c",
            "if_generation_match": 0 if if_absent else None,
            "retry": _RETRY,
            "timeout": SILENCE_S,
        }
        if isinstance(data, bytes):
            blob.upload_from_string(data, **options)
        else:
            if if_absent and blob.exists(retry=_RETRY):  # no need to send it to learn that
                raise FileExistsError(name)
            blob.upload_from_file(data, size=size, **options)
        # Google refuses what does not fit the checksum, and an endpoint that takes it is found out.
        if isinstance(data, bytes) and blob.crc32c != _crc32c(data):
            blob.delete(if_generation_match=blob.generation)
            raise Damaged(f"{self.uri()}: {name} changed on the way there")

    def _get(self, name: str) -> bytes:
        # Raw: the bytes as they are stored, which are those that the checksum is of.
        blob = self._blob(name)
        blob.chunk_size = None
        return bytes(blob.download_as_bytes(raw_download=True, retry=_RETRY, timeout=SILENCE_S))

    def _get_range(self, name: str, start: int, length: int) -> bytes:
        blob = self._blob(name)
        blob.chunk_size = None
        try:
            return bytes(
                blob.download_as_bytes(
                    start=start,
                    end=start + length - 1,
                    raw_download=True,
                    retry=_RETRY,
                    timeout=SILENCE_S,
                )
            )
        except answers.RequestRangeNotSatisfiable:
            return b""

    def _head(self, name: str) -> Stat:
        blob = self._blob(name)
        blob.reload(retry=_RETRY, timeout=SILENCE_S)
        return _stat(blob)

    def _page(self, start: str, delimiter: str, at: str) -> Page:
        listing = google_client().list_blobs(
            self.bucket,
            prefix=start or None,
            delimiter=delimiter or None,
            page_token=at or None,
            fields=_FIELDS,
            retry=_RETRY,
            timeout=SILENCE_S,
        )
        objects = [_stat(blob) for blob in next(listing.pages, ()) if not blob.name.endswith("/")]
        return Page(objects, sorted(listing.prefixes), listing.next_page_token or "")

    def _remove(self, name: str) -> None:
        self._blob(name).delete(retry=_RETRY, timeout=SILENCE_S)

    def _passes(self, error: BaseException) -> bool:
        # Of a range that the client has no checksum for, a body that was cut off.
        return isinstance(error, DataCorruption | requests.exceptions.ChunkedEncodingError)

    @contextlib.contextmanager
    def _named(self, uri: str) -> Iterator[None]:
        try:
            yield
        except answers.NotFound as error:
            if self._lacks_bucket(error):
                raise UserError(f"gs://{self.bucket}: there is no such bucket") from None
            raise FileNotFoundError(uri) from None
        except answers.PreconditionFailed:
            raise FileExistsError(uri) from None
        except answers.RetryError as error:
            raise OSError(f"{uri}: {_line(error.cause or error)}") from error
        except _FAULTS as error:
            said = _refusal(error)
            if said:
                raise UserError(f"{uri}: {said}") from None
            raise OSError(f"{uri}: {_line(error)}") from error
        except ValueError as error:  # a name, or what the environment says
            raise UserError(f"{uri}: {error}") from None

    def _lacks_bucket(self, error: answers.NotFound) -> bool:
        """Whether an answer 404 is of the bucket; an endpoint that does not say so is asked."""
        said = _line(error)
        if "No such object" in said or "bucket does not exist" in said:
            return "No such object" not in said
        try:
            next(google_client().list_blobs(self.bucket, max_results=1, retry=_RETRY).pages, None)
        except answers.NotFound:
            return True
        except _FAULTS:
            return False
        return False


def _crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _stat(blob: Any) -> Stat:
    return Stat(blob.name, blob.size, blob.etag, blob.updated.timestamp())


def _refusal(error: Exception) -> str:
    """What to do about an answer that no retry mends; '' of any other."""
    if isinstance(error, answers.Unauthorized):
        return "Google does not take the credentials; log in anew, or make a new key"
    if isinstance(error, answers.Forbidden):
        return f"access denied; give the account the role Storage Object User ({_line(error)})"
    if isinstance(error, answers.BadRequest):
        return _line(error)
    if isinstance(error, auth.DefaultCredentialsError):
        file = os.environ.get(_FILE, "")
        there = "holds none that can be read" if os.path.isfile(file) else "is not there"
        named = f" ({file}, which {_FILE} names, {there})" if file else ""
        return (
            f"no Google credentials{named}; run `gcloud auth application-default login`, or set "
            f"{_FILE} to the file of a service account"
        )
    if isinstance(error, auth.RefreshError):
        return "Google does not take the credentials; log in anew, or make a new key"
    return ""


def _line(error: object) -> str:
    """An error in one line, without the URL that it names: an upload's carries a right to write."""
    text = str(error)
    if isinstance(error, answers.GoogleAPICallError):
        text = error.message
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            text = error.response.json()["error"]["message"]
    words = (word for word in unreached(text).split() if "://" not in word and "?" not in word)
    return " ".join(words)[:300] or type(error).__name__


def google_client() -> Any:
    """This process's client; STORAGE_EMULATOR_HOST names another endpoint.

    Raises:
        ValueError: the endpoint is no URL.
        GoogleAuthError: there are no credentials.
    """
    with _one_at_a_time:
        return _client_of(os.getpid())  # connections do not survive a fork


@functools.lru_cache(maxsize=1)
def _client_of(_process: int) -> Any:
    endpoint = os.environ.get(_EMULATOR)
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"{_EMULATOR}: {endpoint!r} is no URL; write http://HOST:PORT")
    # It tells of each try that failed, and of the project that objects do not need.
    logging.getLogger("google").setLevel(logging.ERROR)
    client = storage.Client(project=None)
    # As Google's own documents have it: there is no public name.
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    return client
