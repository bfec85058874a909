"""Paths in settings: made whole once, where settings are parsed; workers run in other folders.

A field of a job's settings that names a file or folder is a `Uri`, an `OutputUri` where the job
writes there, or a `Packaged` where a name in the package does as well. `~` and a path relative to
the working directory become absolute; what has a scheme (`s3://…`, `gs://…`, `az://…`) stays.
"""

import os
import re
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

# Where Ray unpacks the folder that `ray job submit --working-dir` takes along, a new one for each
# state of that folder. Ray has no public name for it: the drill of relative paths would tell.
_PACKAGE = re.compile(r".*/runtime_resources/working_dir_files/[^/]+")
# What a URI that was signed ends in: it opens the store to whoever reads it in a record or a log.
_SIGNED = re.compile(r"[?&](sig|X-Goog-Signature|X-Amz-Signature)=", re.IGNORECASE)
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by `ray job submit` for what it starts


def without_file_scheme(uri: str | os.PathLike[str]) -> str:
    """`file:///a%20b` as `/a b`; anything else as it is."""
    text = os.fspath(uri)
    return unquote(text.removeprefix("file://")) if text.startswith("file://") else text


def absolute_uri(uri: str | os.PathLike[str]) -> str:
    """`uri` with a local path made absolute, `~` the home."""
    text = without_file_scheme(uri)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def submitted() -> bool:
    """Whether `ray job submit` started this process, far from the shell where it was typed."""
    return _SUBMITTED in os.environ or package_folder() is not None


def package_folder() -> str | None:
    """The working directory that a submitted job brought along, as Ray unpacked it here."""
    found = _PACKAGE.match(os.getcwd())
    return found[0] if found else None


def in_package(uri: str) -> bool:
    """Whether an absolute path lies in what a submitted job brought along."""
    folder = package_folder()
    return folder is not None and f"{uri}/".startswith(f"{folder}/")


def portable(value: Any) -> Any:
    """JSON-like data in which paths of a submitted job's own folder are relative to it again.

    Each state of that folder is unpacked elsewhere; the same command must know its run again.
    """
    if isinstance(value, str) and in_package(value):
        return os.path.relpath(value, package_folder())
    if isinstance(value, dict):
        return {portable(key): portable(one) for key, one in value.items()}
    return [portable(one) for one in value] if isinstance(value, list | tuple) else value


def nearby(uri: str) -> str:
    """A path below the working directory as it is typed there; anything else as it is."""
    if not os.path.isabs(uri) or submitted():
        return uri
    relative = os.path.relpath(uri)
    return uri if relative.startswith("..") else relative


def shown(text: str) -> str:
    """A line with a stranger's words, a file's name, without what moves a cursor or turns text."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def check_output(uri: str) -> str:
    """An absolute `uri` itself, where a job may write.

    Raises:
        ValueError: it lies in the folder that a submitted job brought along, and would be lost.
    """
    if in_package(uri):
        raise ValueError(_LOST)
    return uri


_LOST = (
    "`ray job submit` runs this on the cluster in a copy of your folder that Ray removes; give "
    "an absolute path on storage that every node shares, or s3://…, gs://… or az://…"
)

_NOT_SIGNED = (
    "holds a signature, which is a secret and would be recorded; leave out all from the `?` on and "
    "give the token by the environment (docs/clusters.md)"
)


def _whole(uri: str) -> str:
    if not uri:
        raise ValueError("is empty; give a path, s3://…, gs://… or az://…")
    if "://" in uri and _SIGNED.search(uri):
        raise PydanticCustomError("signed", _NOT_SIGNED)
    return absolute_uri(uri)


def _output(uri: str) -> str:
    whole = _whole(uri)
    text = os.path.expanduser(without_file_scheme(uri))
    if submitted() and "://" not in text and not os.path.isabs(text):
        raise ValueError(_LOST)
    return check_output(whole)


def _name_or_file(text: str) -> str:
    own = absolute_uri(text)
    return own if os.path.isfile(own) else text


Uri = Annotated[str, AfterValidator(_whole)]
OutputUri = Annotated[str, AfterValidator(_output)]
Packaged = Annotated[str, AfterValidator(_name_or_file)]


def slug(name: str) -> str:
    """A detector's name as a file's name: `runs/a b` → `runs-a-b`."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "detector"
