"""From a URI to the store that holds it: a local path, `file://…`, `s3://…`, `gs://…`, `az://…`."""

import os
from collections.abc import Callable

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri, without_file_scheme
from rayapp.storage.store import LocalStore, Store

BUCKETS = ("s3", "gs", "az")
ANY_BUCKET = "s3://…, gs://… or az://…"
_CLIENTS = {"gs": "google-cloud-storage", "az": "azure-storage-blob and azure-identity"}
# How others write it.
_MEANT = {"gcs": "gs", "azure": "az", "abfs": "az", "abfss": "az", "wasbs": "az", "s3a": "s3"}


def open_store(uri: str | os.PathLike[str]) -> Store:
    """The store rooted at a local path, `file://…` or `s3://bucket/prefix`, and so `gs`, `az`.

    Raises:
        UserError: another scheme, a URI without a bucket, or a cloud whose client is not installed.
    """
    text = without_file_scheme(uri)
    scheme, is_uri, rest = text.partition("://")
    if not is_uri:
        return LocalStore(text)
    if text.startswith("hf://datasets/"):
        from rayapp.storage.hub_datasets import HubDataset

        repo, _, revision = rest.removeprefix("datasets/").partition("@")
        return HubDataset(repo, revision or "main")
    if scheme not in BUCKETS:
        wanted = f"give a path, {ANY_BUCKET}"
        if scheme in _MEANT:
            wanted = f"write {_MEANT[scheme]}://bucket/prefix"
        raise UserError(f"{text}: scheme {scheme!r} is not known; {wanted}")
    # Not urlsplit: `?` and `#` are plain characters of a key.
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise UserError(f"{text}: names no bucket; write {scheme}://bucket/prefix")
    return _bucket_store(scheme)(bucket, prefix.strip("/"))


def _bucket_store(scheme: str) -> Callable[[str, str], Store]:
    try:
        if scheme == "gs":
            from rayapp.storage.google import GoogleStore

            return GoogleStore
        if scheme == "az":
            from rayapp.storage.azure import AzureStore

            return AzureStore
    except ImportError:
        raise UserError(
            f"{scheme}://… needs {_CLIENTS[scheme]}: pip install 'imaginet-ray[{scheme}]'"
        ) from None
    from rayapp.storage.s3 import S3Store

    return S3Store


def split_uri(uri: str | os.PathLike[str]) -> tuple[Store, str]:
    """The store of a file's folder, and the file's key in it."""
    text = without_file_scheme(uri).rstrip("/")
    folder, _, name = text.rpartition("/")
    if "://" not in text:
        folder, name = os.path.split(absolute_uri(text))
    if not text or not name or text.endswith(":") or folder.endswith(":/"):
        raise UserError(f"{os.fspath(uri)}: names no file")
    return open_store(folder), name


def read_uri(uri: str | os.PathLike[str]) -> bytes:
    """All bytes of one file.

    Raises:
        UserError: there is no such file, or it can't be read.
    """
    store, key = split_uri(uri)
    try:
        return store.get(key)
    except FileNotFoundError:
        raise UserError(f"{os.fspath(uri)}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{os.fspath(uri)}: is a folder, a file is wanted") from None
    except PermissionError:
        raise UserError(f"{os.fspath(uri)}: may not be read (permission denied)") from None
