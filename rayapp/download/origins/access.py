"""From a URI to a reader: which origin it is, its credentials, its quota."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from huggingface_hub import get_token

from rayapp.config.errors import UserError
from rayapp.download.origins import drive, signed
from rayapp.download.origins.catalogue import Catalogue, Source
from rayapp.download.origins.drive import Drive, DriveAddress
from rayapp.download.origins.faults import Action, Fault, may_pass
from rayapp.download.origins.governor import Gate, LocalGate
from rayapp.download.origins.ranges import JoinedReader, LocalReader, pieces
from rayapp.download.origins.reader import PATIENCE, Patience, Pin, Plain, Reader, Traffic
from rayapp.download.origins.signed import SignedAddress
from rayapp.download.origins.transport import HttpReader, new_pool
from rayapp.storage.s3 import error_code, s3_client
from rayapp.storage.uris import BUCKETS, split_uri

T = TypeVar("T")
_ARCHIVE_NAME = re.compile(r"\.(zip|tar|tgz|tar\.gz|7z)(\.\d+)?$", re.IGNORECASE)


class Listed(NamedTuple):
    """A file of a folder: its name there, its URI, the checksum that the listing gives or ''."""

    name: str
    uri: str
    check: str


class ObjectReader(ABC):
    """An object of a bucket by ranges, held to the ETag it had first."""

    def __init__(self, uri: str, gate: Gate, patience: Patience, traffic: Traffic):
        self.name = uri
        self._gate, self._patience, self._traffic = gate, patience, traffic
        self._pin: Pin | None = None

    @abstractmethod
    def _head(self) -> Pin:
        """Size and ETag now."""

    @abstractmethod
    def _range(self, start: int, num_bytes: int, pin: Pin) -> bytes:
        """Bytes of the object that was pinned."""

    @abstractmethod
    def _fault(self, error: Exception) -> Fault:
        """What an error of the client means."""

    def pin(self) -> Pin:
        """Size and ETag by one request."""
        if self._pin is None:
            self._pin = self._tried(self._head)
        return self._pin

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`; raises Fault."""
        pin = self.pin()
        if start + num_bytes > pin.num_bytes:
            raise Fault(Action.CHANGED, f"{self.name}: shorter than its index says")
        return self._tried(lambda: self._range(start, num_bytes, pin)) if num_bytes else b""

    def stream(self) -> Iterator[bytes]:
        """The whole object in order."""
        return pieces(self)

    def _tried(self, once: Callable[[], T]) -> T:
        def admitted() -> T:
            self._gate.admit(self.name)
            try:
                return once()
            except (ClientError, BotoCoreError, UserError, OSError) as error:
                raise self._fault(error) from error

        return self._patience.call(admitted, may_pass)


class S3Reader(ObjectReader):
    """By boto3, each range on the condition that the ETag is still the same."""

    def __init__(self, bucket: str, key: str, gate: Gate, patience: Patience, traffic: Traffic):
        super().__init__(f"s3://{bucket}/{key}", gate, patience, traffic)
        self._bucket, self._key = bucket, key

    def _head(self) -> Pin:
        head = s3_client().head_object(Bucket=self._bucket, Key=self._key)
        return Pin(head["ContentLength"], head["ETag"])

    def _range(self, start: int, num_bytes: int, pin: Pin) -> bytes:
        stop = start + num_bytes - 1
        answer = s3_client().get_object(
            Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-{stop}", IfMatch=pin.etag
        )
        data = answer["Body"].read()
        self._traffic.add(1, len(data))
        if len(data) != num_bytes:
            raise Fault(Action.RETRY, f"{self.name}: {len(data)} bytes instead of {num_bytes}")
        return data

    def _fault(self, error: Exception) -> Fault:
        code = error_code(error) if isinstance(error, ClientError) else ""
        note = f"{self.name}: {code or error}"
        if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
            return Fault(Action.CHANGED, f"{note}: replaced at the origin")
        if code in ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503"):
            return Fault(Action.RETRY, note)
        return Fault(Action.FAIL if isinstance(error, ClientError) else Action.RETRY, note)


class CloudReader(ObjectReader):
    """By the store of `gs://…` and `az://…`, whose ETag is looked at after each range."""

    def _head(self) -> Pin:
        store, key = split_uri(self.name)
        found = store.stat(key)
        if found is None:
            raise Fault(Action.FAIL, f"{self.name}: no such file")
        return Pin(found.size, found.etag)

    def _range(self, start: int, num_bytes: int, pin: Pin) -> bytes:
        store, key = split_uri(self.name)
        data = store.get_range(key, start, num_bytes)
        self._traffic.add(1, len(data))
        if self._head() != pin:
            raise Fault(Action.CHANGED, f"{self.name}: replaced at the origin")
        if len(data) != num_bytes:
            raise Fault(Action.RETRY, f"{self.name}: {len(data)} bytes instead of {num_bytes}")
        return data

    def _fault(self, error: Exception) -> Fault:
        return Fault(Action.FAIL if isinstance(error, UserError) else Action.RETRY, str(error))


class Access:
    """Opens readers for the URIs of a catalogue; one a process, for all its threads.

    Args:
        catalogue: endpoints and quotas of the origins.
        gates: the gate of an origin by its name (scheme, for plain HTTP scheme and host).
        patience: retry policy of single requests.
        num_connections: threads that will use it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gates: Callable[[str], Gate] | None = None,
        patience: Patience = PATIENCE,
        num_connections: int = 32,
    ):
        self.catalogue = catalogue
        self.traffic = Traffic()
        self._patience = patience
        self._gates = gates
        self._made: dict[str, Gate] = {}
        self._pool = new_pool(num_connections)

    @cached_property
    def drive(self) -> Drive:
        """The Drive client, built when the first file on Drive is asked for."""
        endpoint = self.catalogue.origin("drive").endpoint or drive.ENDPOINT
        return Drive(endpoint, self._patience)

    def gate(self, uri: str) -> Gate:
        """The quota governor of a URI's origin."""
        name = origin_of(uri)
        if name not in self._made:
            quota = self.catalogue.origin(scheme_of(uri)).quota()
            self._made[name] = self._gates(name) if self._gates else LocalGate(quota)
        return self._made[name]

    def gap_bytes(self, uri: str) -> int:
        """Up to which gap neighbours are read in one request there."""
        return self.catalogue.origin(scheme_of(uri)).gap_bytes

    def reader(self, uri: str) -> Reader:
        """A reader of one object; raises Fault."""
        scheme = scheme_of(uri)
        if scheme == "file":
            return LocalReader(Path(uri.removeprefix("file://")).expanduser())
        if scheme == "s3":
            parts = urlsplit(uri)
            key = parts.path.lstrip("/")
            return S3Reader(parts.netloc, key, self.gate(uri), self._patience, self.traffic)
        if scheme in ("gs", "az"):
            return CloudReader(uri, self.gate(uri), self._patience, self.traffic)
        return self.http_reader(uri)

    def http_reader(self, uri: str) -> HttpReader:
        """A reader of one object that is reached over HTTP, whatever signs or mints its URL."""
        scheme, rest = scheme_of(uri), uri.partition("://")[2]
        gate = self.gate(uri)
        known: Pin | None = None
        if scheme == "drive":
            found = self.drive.metadata(rest)
            known = Pin(found.num_bytes, "")
            address: Plain | DriveAddress | SignedAddress = DriveAddress(self.drive, rest)
        elif scheme == "kaggle":
            address = SignedAddress(uri, gate, lambda: signed.mint_kaggle(rest))
        elif scheme == "hf":
            repo, revision, path = split_hub(rest)
            endpoint = self.catalogue.origin("hf").endpoint or signed.HUB
            address = SignedAddress(
                uri,
                gate,
                lambda: signed.hub_file(repo, path, revision, endpoint)[0],
                lambda url: signed.hub_headers(url, endpoint),
            )
        elif scheme in ("http", "https"):
            address = Plain(uri)
        else:
            raise Fault(Action.FAIL, f"{uri}: scheme {scheme!r} is not known")
        num_bytes = known.num_bytes if known else None
        return HttpReader(uri, address, self._pool, gate, self._patience, self.traffic, num_bytes)

    def archives(self, source: Source) -> list[tuple[str, Reader]]:
        """(URI, reader) of each archive of a source; volumes are joined; raises Fault."""
        uris: list[str] = []
        for uri in source.at:
            if is_folder(uri):
                listed = self.listing(uri)  # weights and notes may lie beside the archives
                fitting = [each.uri for each in listed if _ARCHIVE_NAME.search(each.name)]
                uris += fitting or [each.uri for each in listed]
            else:
                uris.append(uri)
        if source.form == "volumes":
            return [(uris[0], JoinedReader([self.reader(uri) for uri in uris]))]
        return [(uri, self.reader(uri)) for uri in uris]

    def listing(self, uri: str) -> list[Listed]:
        """The files of a Drive folder (`drive://ID/`) or of a pattern on the hub, by name.

        Raises:
            Fault: it is not there, or refused.
        """
        rest = uri.partition("://")[2]
        if scheme_of(uri) == "drive":
            files = self.drive.folder(rest.rstrip("/"))
            return [Listed(file.name, f"drive://{file.id}", "") for file in files]
        repo, revision, pattern = split_hub(rest)
        endpoint = self.catalogue.origin("hf").endpoint or signed.HUB
        found = signed.hub_tree(repo, pattern, revision, endpoint)
        return [Listed(path, f"hf://{repo}@{revision}/{path}", check) for path, check in found]

    def lacks(self, source: Source) -> str:
        """What a source needs and is not there, '' when nothing is."""
        schemes = {scheme_of(uri) for uri in source.at}
        missing = []
        if "drive" in schemes and not Path(os.environ.get(drive.VARIABLE, "")).is_file():
            missing.append(f"{drive.VARIABLE} (a service-account file for Google Drive)")
        if "kaggle" in schemes and not signed.kaggle_credentials():
            missing.append("KAGGLE_API_TOKEN or ~/.kaggle/access_token")
        if "hf" in schemes and source.accept and not get_token():
            missing.append("HF_TOKEN")
        if source.password_variable and not os.environ.get(source.password_variable):
            missing.append(source.password_variable)
        return ", ".join(missing)


def is_folder(uri: str) -> bool:
    """Whether a URI names several files: a Drive folder, or a pattern on the hub."""
    scheme = scheme_of(uri)
    return (scheme == "drive" and uri.endswith("/")) or (scheme == "hf" and "*" in uri)


def scheme_of(uri: str) -> str:
    """`drive`, `kaggle`, `hf`, `s3`, `gs`, `az`, `http`, `https`, or `file` for a path."""
    return uri.partition("://")[0] if "://" in uri else "file"


def origin_of(uri: str) -> str:
    """What has one quota: the scheme, for HTTP and buckets with the host or bucket."""
    scheme = scheme_of(uri)
    return f"{scheme}://{urlsplit(uri).netloc}" if scheme in ("http", "https", *BUCKETS) else scheme


def split_hub(rest: str) -> tuple[str, str, str]:
    """(repo, revision, path) of `datasets/OWNER/NAME@REV/path`; the revision may be left out."""
    parts = rest.split("/")
    size = 3 if parts[0] == "datasets" else 2
    repo, _, revision = "/".join(parts[:size]).partition("@")
    return repo, revision or "main", "/".join(parts[size:])
