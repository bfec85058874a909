"""Data sets on the Hugging Face hub, read where they lie: `hf://datasets/OWNER/NAME[/CONFIG][@REV]`.

Nothing is written there and nothing is kept here: workers read the ranges that they need.
"""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from rayapp.config.errors import UserError
from rayapp.storage.store import Stat

HUB_DATASETS = "hf://datasets/"
_NAME = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:/(?P<config>[^@]+))?(?:@(?P<revision>.+))?")
_CONVERTED = "refs/convert/parquet"  # where the hub keeps a set of another form as Parquet


class HubDataset:
    """The files of one revision of a data set; read only."""

    def __init__(self, repo: str, revision: str) -> None:
        self.repo, self.revision = repo, revision
        self.root = f"{HUB_DATASETS}{repo}@{revision}"

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every file whose path starts with `prefix`."""
        files = _files(self.repo, self.revision)
        yield from (stat for key, stat in files.items() if key.startswith(prefix))

    def stat(self, key: str) -> Stat | None:
        """A file's size and hash."""
        return _files(self.repo, self.revision).get(key)

    def get(self, key: str) -> bytes:
        """All bytes of a file."""
        return self._fetched(key, {})

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""
        if length <= 0:
            return b""
        return self._fetched(key, {"Range": f"bytes={start}-{start + length - 1}"})

    def _fetched(self, key: str, headers: dict[str, str]) -> bytes:
        from huggingface_hub import hf_hub_url

        from rayapp.storage.web import fetch

        hub = _hub()
        url = hf_hub_url(
            self.repo, key, repo_type="dataset", revision=self.revision, endpoint=hub.endpoint
        )
        token = hub.token if isinstance(hub.token, str) else None
        return fetch(url, headers | ({"Authorization": f"Bearer {token}"} if token else {}))

    def uri(self, key: str = "") -> str:
        """The full name of a file."""
        return f"{self.root}/{key}" if key else self.root

    def level(self, folder: str) -> tuple[Sequence[str], Sequence[Stat]]:
        """Not asked for: a data set is listed as a whole."""
        raise NotImplementedError

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> bool:
        """Refused."""
        raise PermissionError(f"{self.root}: is read only")

    def delete(self, keys: Iterable[str]) -> None:
        """Refused."""
        raise PermissionError(f"{self.root}: is read only")

    def sweep(self, before: float) -> None:
        """Nothing is left behind there."""


def open_dataset(uri: str) -> tuple[HubDataset, str]:
    """A data set at the commit that its revision is now, and the folder of its configuration.

    A set without Parquet files and tars is read from the hub's own conversion, where there is one.

    Raises:
        UserError: no such set, revision or access; or the hub does not answer.
    """
    name = _NAME.fullmatch(uri.removeprefix(HUB_DATASETS).rstrip("/"))
    if name is None:
        raise UserError(f"{uri}: give {HUB_DATASETS}OWNER/NAME, /CONFIG and @REVISION if wanted")
    config = f"{name['config']}/" if name["config"] else ""
    for revision in filter(None, (name["revision"] or "main", not name["revision"] and _CONVERTED)):
        found = HubDataset(name["repo"], _commit(uri, name["repo"], str(revision)))
        if (folder := _folder(found, config)) is not None:
            return found, folder
    raise UserError(f"{uri}: holds no Parquet file and no tar, or no such configuration")


def _folder(dataset: HubDataset, config: str) -> str | None:
    """Where a configuration's files lie: in a folder of its name, at the top or in `data`."""
    keys = [one.key for one in dataset.list() if one.key.lower().endswith((".parquet", ".tar"))]
    for folder in (config, f"data/{config}", f"data/{config.rstrip('/')}-"):
        if any(key.startswith(folder) for key in keys):
            return folder
    return None


def _commit(uri: str, repo: str, revision: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(_hub().dataset_info(repo, revision=revision, timeout=30).sha)
    except HFValidationError:
        raise UserError(f"{uri}: no name of the hub") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no answer")
        if revision == _CONVERTED:
            raise UserError(f"{uri}: holds no Parquet file and no tar") from None
        advice = (
            "log in with `hf auth login` and accept its terms there"
            if status in (401, 403)
            else "check the name and the revision"
        )
        raise UserError(f"{uri}: not to be had from the hub ({status}): {advice}") from None
    except OSError as error:
        raise UserError(f"{uri}: the hub does not answer ({type(error).__name__})") from None


@functools.cache
def _files(repo: str, revision: str) -> dict[str, Stat]:
    """Every file of a revision, which is a commit, by path."""
    from huggingface_hub.hf_api import RepoFile

    entries = _hub().list_repo_tree(repo, recursive=True, revision=revision, repo_type="dataset")
    found = [one for one in entries if isinstance(one, RepoFile)]
    return {
        one.path: Stat(one.path, one.size, one.lfs.sha256 if one.lfs else one.blob_id, 0.0)
        for one in sorted(found, key=lambda one: one.path)
    }


@functools.cache
def _hub() -> Any:
    from huggingface_hub import HfApi, get_token

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=get_token() or False)
