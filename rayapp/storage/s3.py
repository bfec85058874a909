"""The S3 half of `storage`: objects under a prefix of a bucket, through boto3."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
)

from rayapp.config.errors import UserError
from rayapp.storage.buckets import CONNECTIONS, SILENCE_S, TRIES, BucketStore
from rayapp.storage.s3_listing import take_objects
from rayapp.storage.store import Stat

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# botocore does not repeat these: bytes that changed on the way, and a race of two writers.
_PUT_AGAIN = {
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "ConditionalRequestConflict",
    "OperationAborted",
}
# Nor these: an answer that began well and was cut off or fell silent on the way.
_CUT_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_one_at_a_time = threading.Lock()


class S3Store(BucketStore):
    """Objects under a prefix of a bucket, through boto3 and its usual credential chain."""

    scheme = "s3"

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> bool:
        """One put that the server checks against its sha256; conditional with `if_absent`."""
        extra: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}

        def once() -> None:
            if not isinstance(data, bytes):
                data.seek(0)
            s3_client().put_object(
                Bucket=self.bucket,
                Key=self._key(key),
                Body=data,
                ChecksumAlgorithm="SHA256",
                **extra,
            )

        try:
            with _named(self.uri(key)):
                TRIES.call(once, _is_put_again)
        except FileExistsError:
            return False
        return True

    def get(self, key: str) -> bytes:
        """All bytes of the object."""
        return self._get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start … start + length - 1`, fewer at the end of the object."""
        if length <= 0:
            return b""
        try:
            return self._get(key, Range=f"bytes={start}-{start + length - 1}")
        except _BeyondEnd:
            return b""

    def _get(self, key: str, **extra: Any) -> bytes:
        with _named(self.uri(key)):
            return TRIES.call(
                lambda: (
                    s3_client()
                    .get_object(Bucket=self.bucket, Key=self._key(key), **extra)["Body"]
                    .read()
                ),
                lambda error: isinstance(error, _CUT_OFF),
            )

    def stat(self, key: str) -> Stat | None:
        """Size, etag and time by a HEAD request."""
        try:
            with _named(self.uri(key)):
                head = s3_client().head_object(Bucket=self.bucket, Key=self._key(key))
        except FileNotFoundError:
            return None
        modified = head["LastModified"].timestamp()
        return Stat(key, head["ContentLength"], head["ETag"].strip('"'), modified)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every object under the prefix, a page of 1,000 a request."""
        start = self._start(prefix)
        with _named(f"{self.root}/{prefix}"):
            pages = s3_client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start):
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        yield _stat(item, self._cut)

    def level(self, folder: str) -> tuple[Sequence[str], Sequence[Stat]]:
        """The folders and the objects directly in a folder, a page of 1,000 a request."""
        start = f"{self._key(folder)}/" if folder else self._start("")
        folders, objects = [], []
        with _named(f"{self.root}/{folder}"):
            pages = s3_client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start, Delimiter="/"):
                folders += [one["Prefix"][self._cut : -1] for one in page.get("CommonPrefixes", [])]
                objects += [
                    _stat(item, self._cut)
                    for item in page.get("Contents", [])
                    if not item["Key"].endswith("/")
                ]
        return folders, objects

    def copy(self, key: str, target: "S3Store", name: str) -> None:
        """Copy one object inside the service, to `name` under another store."""
        source: Any = {"Bucket": self.bucket, "Key": self._key(key)}
        with _named(self.uri(key)):
            s3_client().copy_object(CopySource=source, Bucket=target.bucket, Key=target._key(name))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects, 1,000 a request."""
        batch: list[str] = []
        for key in keys:
            batch.append(key)
            if len(batch) == 1000:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)

    def _delete(self, keys: Sequence[str]) -> None:
        objects: Any = [{"Key": self._key(key)} for key in keys]
        with _named(self.root):
            answer = s3_client().delete_objects(
                Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
            )
        if answer.get("Errors"):
            first = answer["Errors"][0]
            raise OSError(f"{self.root}: {first.get('Key')} was not deleted: {first.get('Code')}")


def _is_put_again(error: BaseException) -> bool:
    return isinstance(error, ClientError) and error_code(error) in _PUT_AGAIN


def _stat(item: Any, cut: int) -> Stat:
    """An entry of a listing, its key without the first `cut` characters."""
    modified = item["LastModified"].timestamp()
    return Stat(item["Key"][cut:], item["Size"], item["ETag"].strip('"'), modified)


_ACCESS_DENIED = "access denied; check the role or key"
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": _ACCESS_DENIED,
    "403": _ACCESS_DENIED,  # all that a HEAD request is told
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it and start again",
}


class _BeyondEnd(OSError):
    """A range starts beyond the end of the object."""


@contextlib.contextmanager
def _named(uri: str) -> Iterator[None]:
    """Errors of botocore as ours: what no retry mends is a UserError, all else an OSError."""
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in _REFUSALS:
            raise UserError(f"{uri}: {_REFUSALS[code]}") from None
        if code in {"NoSuchKey", "NotFound", "404"}:
            raise FileNotFoundError(uri) from None
        if code in {"PreconditionFailed", "412"}:
            raise FileExistsError(uri) from None
        if code == "InvalidRange":
            raise _BeyondEnd(uri) from None
        raise OSError(f"{uri}: {error}") from error
    except (
        NoCredentialsError,
        PartialCredentialsError,
        CredentialRetrievalError,
        ProfileNotFound,
        ParamValidationError,
    ) as error:
        raise UserError(f"{uri}: {' '.join(str(error).split())}") from None
    except BotoCoreError as error:
        raise OSError(f"{uri}: {error}") from error


def error_code(error: ClientError) -> str:
    """The code of a botocore ClientError, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def s3_client() -> "S3Client":
    """This process's S3 client; AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) names another endpoint.

    Raises:
        UserError: the endpoint is no URL.
    """
    # A client takes a third of a second of processor: threads that begin together share one.
    with _one_at_a_time:
        return _client_of(os.getpid())  # connections do not survive a fork


@functools.lru_cache(maxsize=1)
def _client_of(_process: int) -> "S3Client":
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 8},
        connect_timeout=10,
        read_timeout=SILENCE_S,
        max_pool_connections=CONNECTIONS,
        # Foreign endpoints answer ranges with the whole object's checksum.
        response_checksum_validation="when_required",
    )
    try:
        client: S3Client = boto3.session.Session().client("s3", config=config)
    except ValueError as error:  # what botocore raises for an endpoint that is no URL
        raise UserError(f"AWS_ENDPOINT_URL: {error}") from None
    client.meta.events.register("before-parse.s3.ListObjectsV2", take_objects)
    return client
