"""The S3 half of `storage`: objects under a prefix of a bucket, through boto3."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rayapp.errors import UserError
from rayapp.storage import Stat, check_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Store:
    """Objects under a prefix of a bucket, through boto3 and its usual credential chain."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """One put that the server checks against its sha256; conditional with `if_absent`."""
        extra: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        client = s3_client()
        try:
            client.put_object(
                Bucket=self.bucket,
                Key=self._key(key),
                Body=data,
                ChecksumAlgorithm="SHA256",
                **extra,
            )
        except client.exceptions.ClientError as error:
            if if_absent and error_code(error) in {"PreconditionFailed", "412"}:
                return False
            raise self._named(error, key) from error
        return True

    def get(self, key: str) -> bytes:
        """All bytes of the object."""
        return self._get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start … start + length - 1`, fewer at the end of the object."""
        if length <= 0:
            return b""
        return self._get(key, Range=f"bytes={start}-{start + length - 1}")

    def _get(self, key: str, **extra: Any) -> bytes:
        client = s3_client()
        try:
            return client.get_object(Bucket=self.bucket, Key=self._key(key), **extra)["Body"].read()
        except client.exceptions.ClientError as error:
            if error_code(error) in {"NoSuchKey", "404"}:
                raise FileNotFoundError(self.uri(key)) from None
            if error_code(error) == "InvalidRange":
                return b""
            raise self._named(error, key) from error

    def stat(self, key: str) -> Stat | None:
        """Size, etag and time by a HEAD request."""
        client = s3_client()
        try:
            head = client.head_object(Bucket=self.bucket, Key=self._key(key))
        except client.exceptions.ClientError as error:
            if error_code(error) in {"404", "NoSuchKey", "NotFound"}:
                return None
            raise self._named(error, key) from error
        modified = head["LastModified"].timestamp()
        return Stat(key, head["ContentLength"], head["ETag"].strip('"'), modified)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every object under the prefix, a page of 1,000 a request."""
        start = f"{self.prefix}/{prefix}" if self.prefix else prefix
        cut = len(self.prefix) + 1 if self.prefix else 0
        client = s3_client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        etag = item["ETag"].strip('"')
                        modified = item["LastModified"].timestamp()
                        yield Stat(item["Key"][cut:], item["Size"], etag, modified)
        except client.exceptions.ClientError as error:
            raise self._named(error, prefix) from error

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
        answer = s3_client().delete_objects(
            Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
        )
        if answer.get("Errors"):
            first = answer["Errors"][0]
            raise OSError(f"{self.root}: {first.get('Key')} was not deleted: {first.get('Code')}")

    def uri(self, key: str = "") -> str:
        """`s3://bucket/prefix/key`."""
        return f"{self.root}/{check_key(key)}" if key else self.root

    def _named(self, error: Any, key: str) -> Exception:
        """A refusal that no retry mends, as one line; any other error as it is."""
        code = error_code(error)
        advice = {
            "NoSuchBucket": "there is no such bucket",
            "AccessDenied": "access denied; check the role or key",
            "403": "access denied; check the role or key",
            "InvalidAccessKeyId": "the access key is not known there",
            "SignatureDoesNotMatch": "the secret key is wrong",
            "ExpiredToken": "the credentials have expired",
        }.get(code)
        return UserError(f"{self.root}/{key}: {advice}") if advice else error


def error_code(error: Any) -> str:
    """The code of a botocore ClientError, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))


_clients = threading.local()


def s3_client() -> "S3Client":
    """This thread's S3 client; AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) names another endpoint."""
    import boto3
    from botocore.config import Config

    found: S3Client | None = getattr(_clients, "client", None)
    if found is None or getattr(_clients, "pid", None) != os.getpid():
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 8},
            connect_timeout=10,
            read_timeout=60,
            # Foreign endpoints answer ranges with the whole object's checksum.
            response_checksum_validation="when_required",
        )
        found = boto3.session.Session().client("s3", config=config)
        _clients.client, _clients.pid = found, os.getpid()
    return found
