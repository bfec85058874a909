"""From a URI to the store that holds it: a local path, `file://…` or `s3://…`."""

import os

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri, without_file_scheme
from rayapp.storage.store import LocalStore, Store


def open_store(uri: str | os.PathLike[str]) -> Store:
    """The store rooted at a local path, `file://…` or `s3://bucket/prefix`.

    Raises:
        UserError: another scheme, or an S3 URI without a bucket.
    """
    text = without_file_scheme(uri)
    scheme, is_uri, rest = text.partition("://")
    if not is_uri:
        return LocalStore(text)
    if text.startswith("hf://datasets/"):
        from rayapp.storage.hub import HubDataset

        repo, _, revision = rest.removeprefix("datasets/").partition("@")
        return HubDataset(repo, revision or "main")
    if scheme != "s3":
        raise UserError(f"{text}: scheme {scheme!r} is not known; give a path or s3://…")
    # Not urlsplit: `?` and `#` are plain characters of a key.
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise UserError(f"{text}: names no bucket; write s3://bucket/prefix")
    from rayapp.storage.s3 import S3Store

    return S3Store(bucket, prefix.strip("/"))


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
