"""Azure Blob Storage, by Azure's own client: blobs under a prefix of a container, `az://…`."""

import base64
import contextlib
import functools
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

import requests
from azure.core import exceptions as answers
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobPrefix,
    BlobServiceClient,
    BlobType,
    ContentSettings,
    ExponentialRetry,
)
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

_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_KEY = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
_TOKEN = "AZURE_STORAGE_SAS_TOKEN"  # noqa: S105 - a variable's name
_WANTED = f"set {_ACCOUNT[0]}, with {_KEY[0]}, {_TOKEN} or a login, or set {_CONNECTION}"
# Of Azurite, published: learn.microsoft.com/azure/storage/common/storage-use-azurite
_EMULATED = "devstoreaccount1"
_EMULATED_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_BLOCK_BYTES = 8 << 20  # of a large upload; what is sent again where a request fails
_ACCESS_DENIED = "access denied; give the account the role Storage Blob Data Contributor"
_REFUSALS = {
    "ContainerNotFound": "there is no such container",
    "OutOfRangeInput": "that is no name of a container or blob",
    "InvalidResourceName": "that is no name of a container or blob",
    "AuthenticationFailed": f"the key, token or clock of this machine is wrong; {_WANTED}",
    "NoAuthenticationInformation": f"access denied without credentials; {_WANTED}",
    "AuthorizationFailure": f"{_ACCESS_DENIED}, and let its network rules take in this machine; "
    f"or the key is wrong: {_WANTED}",
    "AuthorizationPermissionMismatch": _ACCESS_DENIED,
    "InsufficientAccountPermissions": _ACCESS_DENIED,
    "KeyBasedAuthenticationNotPermitted": "the storage account takes no keys; log in instead",
    "PublicAccessNotPermitted": f"access denied without credentials; {_WANTED}",
    "AccountIsDisabled": "the storage account is disabled",
}
_one_at_a_time = threading.Lock()


class AzureStore(CloudStore):
    """Blobs under a prefix of a container, by key, token or Azure's usual credential chain."""

    scheme = "az"

    def _key(self, key: str) -> str:
        if "\\" in key:
            raise UserError(f"{key!r}: Azure takes a backslash for a slash; rename the file")
        return super()._key(key)

    def _blob(self, name: str) -> Any:
        return azure_client().get_blob_client(self.bucket, name)

    def _put(self, name: str, data: bytes | BinaryIO, if_absent: bool) -> None:
        settings = ContentSettings(
            content_type="application/octet-stream", content_md5=bytearray(_md5(data))
        )
        self._blob(name).upload_blob(
            data,
            length=length_of(data),
            overwrite=not if_absent,
            validate_content=True,
            content_settings=settings,
        )

    def _get(self, name: str) -> bytes:
        found = self._blob(name).download_blob()
        data = bytes(found.readall())
        kept = found.properties.content_settings.content_md5
        # What grows in place, a log or a disk, keeps the checksum that it once had.
        is_whole = found.properties.blob_type == BlobType.BLOCKBLOB
        if kept and is_whole and bytes(kept) != _md5(data):
            raise Damaged(f"{self.uri()}: {name} changed on the way here")
        return data

    def _get_range(self, name: str, start: int, length: int) -> bytes:
        try:
            return bytes(self._blob(name).download_blob(offset=start, length=length).readall())
        except answers.HttpResponseError as error:
            if error.status_code == 416:  # beyond the end
                return b""
            raise

    def _head(self, name: str) -> Stat:
        found = self._blob(name).get_blob_properties()
        if _is_folder(found):
            raise FileNotFoundError(name)
        return _stat(found)

    def _page(self, start: str, delimiter: str, at: str) -> Page:
        container = azure_client().get_container_client(self.bucket)
        # Accounts with folders list these too; their metadata say so.
        wanted: dict[str, Any] = {"name_starts_with": start or None, "include": ["metadata"]}
        listing: Any = (
            container.walk_blobs(delimiter=delimiter, **wanted)
            if delimiter
            else container.list_blobs(**wanted)
        )
        pages = listing.by_page(at or None)
        found = list(next(pages, ()))
        objects = [_stat(one) for one in found if not _is_folder(one)]
        folders = [one.name for one in found if isinstance(one, BlobPrefix)]
        return Page(objects, folders, pages.continuation_token or "")

    def _remove(self, name: str) -> None:
        self._blob(name).delete_blob()

    def _passes(self, error: BaseException) -> bool:
        # A body that was cut off, bytes that changed on the way, a blob replaced while it was read.
        if isinstance(error, answers.ClientAuthenticationError):
            return False
        if isinstance(error, answers.ResourceModifiedError):
            return True
        if isinstance(error, answers.HttpResponseError) and error.status_code:
            return _code(error) in {"Md5Mismatch", "ConditionNotMet"} or "MD5" in str(error)
        return isinstance(error, answers.ServiceResponseError | answers.HttpResponseError)

    @contextlib.contextmanager
    def _named(self, uri: str) -> Iterator[None]:
        try:
            yield
        except answers.ServiceRequestError as error:
            if "resolve" in str(error):
                account = azure_client().account_name
                raise UserError(f"{uri}: there is no storage account {account}") from None
            raise OSError(f"{uri}: {_line(error)}") from error
        except answers.HttpResponseError as error:
            said = _refusal(error)
            if said:
                raise UserError(f"{uri}: {said}") from None
            if error.status_code == 404:
                raise FileNotFoundError(uri) from None
            if _code(error) in ("BlobAlreadyExists", "ConditionNotMet"):
                raise FileExistsError(uri) from None
            raise OSError(f"{uri}: {_code(error) or _line(error)}") from error
        except answers.AzureError as error:
            raise OSError(f"{uri}: {_line(error)}") from error
        except ValueError as error:  # a name, or what the environment says
            raise UserError(f"{uri}: {_line(error)}") from None


def _md5(data: bytes | BinaryIO) -> bytes:
    if isinstance(data, bytes):
        return hashlib.md5(data, usedforsecurity=False).digest()
    found = hashlib.md5(usedforsecurity=False)
    data.seek(0)
    while part := data.read(_BLOCK_BYTES):
        found.update(part)
    return found.digest()


def _stat(blob: Any) -> Stat:
    return Stat(blob.name, blob.size, blob.etag.strip('"'), blob.last_modified.timestamp())


def _is_folder(one: Any) -> bool:
    if isinstance(one, BlobPrefix) or one.name.endswith("/"):
        return True
    return bool(one.metadata) and one.metadata.get("hdi_isfolder") == "true"


def _code(error: BaseException) -> str:
    """Azure's own word for an error, such as `BlobNotFound`; '' where there is none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _refusal(error: answers.HttpResponseError) -> str:
    """What to do about an answer that no retry mends; '' of any other."""
    code = _code(error)
    if code in _REFUSALS:
        return _REFUSALS[code]
    if isinstance(error, answers.ClientAuthenticationError) and not error.status_code:
        return f"no Azure credentials; {_WANTED}"
    if error.status_code in (401, 403):
        return f"{_ACCESS_DENIED} ({code or error.status_code})"
    return ""


def _line(error: Exception) -> str:
    """The first line of an error, without the URLs in it: they may carry a token."""
    text = (str(error).splitlines() or [""])[0]
    words = (word for word in unreached(text).split() if "://" not in word and "?" not in word)
    return " ".join(words)[:300] or type(error).__name__


def azure_client() -> BlobServiceClient:
    """This process's client; AZURE_STORAGE_CONNECTION_STRING may name another endpoint.

    Raises:
        ValueError: no account is named, or what names it can't be read.
        ClientAuthenticationError: there are no credentials.
    """
    with _one_at_a_time:
        return _client_of(os.getpid())  # connections do not survive a fork


@functools.lru_cache(maxsize=1)
def _client_of(_process: int) -> BlobServiceClient:
    # It tells of each credential that is not there, and each request.
    logging.getLogger("azure").setLevel(logging.ERROR)
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
    options: dict[str, Any] = {
        "retry_policy": ExponentialRetry(
            initial_backoff=0, increment_base=2, random_jitter_range=1, retry_total=5
        ),
        "transport": RequestsTransport(
            session=session, session_owner=False, connection_timeout=10, read_timeout=SILENCE_S
        ),
        "max_single_put_size": _BLOCK_BYTES,
        "max_block_size": _BLOCK_BYTES,
    }
    connection = os.environ.get(_CONNECTION, "")
    try:
        if "UseDevelopmentStorage=true" in connection:
            url = os.environ.get("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:10000")
            return BlobServiceClient(f"{url}/{_EMULATED}", _EMULATED_KEY, **options)
        if connection:
            client = BlobServiceClient.from_connection_string(connection, **options)
            base64.b64decode(getattr(client.credential, "account_key", ""), validate=True)
            return client
    except ValueError:  # its message may hold a part of the key
        raise ValueError(f"{_CONNECTION} can't be read; copy it anew") from None
    return BlobServiceClient(_account_url(), _credential(), **options)


def _account_url() -> str:
    account = next((os.environ[name] for name in _ACCOUNT if os.environ.get(name)), "")
    if not account:
        raise ValueError(f"no storage account is named; {_WANTED}")
    if not re.fullmatch("[a-z0-9]{3,24}", account):
        raise ValueError(f"{_ACCOUNT[0]}: {account!r} is no name of a storage account")
    return f"https://{account}.blob.core.windows.net"


def _credential() -> Any:
    for name in _KEY:
        if os.environ.get(name):
            try:
                base64.b64decode(os.environ[name], validate=True)
            except ValueError:
                raise ValueError(f"{name} is no key of a storage account; copy it anew") from None
            return os.environ[name]
    if os.environ.get(_TOKEN):
        return os.environ[_TOKEN]
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()
    credential.get_token("https://storage.azure.com/.default")  # or the client asks for a minute
    return credential
