"""Origins that hand out signed URLs, Kaggle and the Hugging Face hub: minted once for all workers.

The calls that mint are themselves limited (Kaggle locks out who asks per file), so a URL is shared
through the origin's gate and replaced only when it is refused.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import requests
from huggingface_hub import HfApi, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from kagglesdk import KaggleClient
from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

from rayapp.download.origins.faults import Action, Fault, classify
from rayapp.download.origins.governor import Gate

HUB = "https://huggingface.co"


class SignedAddress:
    """A URL that `mint` makes and that all workers share under `key`."""

    def __init__(
        self,
        key: str,
        gate: Gate,
        mint: Callable[[], str],
        headers: Callable[[str], dict[str, str]] = lambda url: {},
    ):
        self._key, self._gate, self._mint, self._headers = key, gate, mint, headers
        self._url = ""

    def current(self) -> tuple[str, dict[str, str]]:
        """The shared URL, minted if there is none."""
        if not self._url:
            self._url = self._gate.share(self._key, "", self._mint)
        return self._url, self._headers(self._url)

    def renew(self, stale: tuple[str, dict[str, str]]) -> None:
        """A URL that is not the stale one."""
        if self._url == stale[0]:
            self._url = self._gate.share(self._key, stale[0], self._mint)


def mint_kaggle(competition: str) -> str:
    """The signed URL of a competition's one archive; raises Fault.

    One call of the API. Its redirect is followed by Kaggle's client, but no byte of the body read.
    """
    page = f"https://www.kaggle.com/c/{competition}/rules"
    request = ApiDownloadDataFilesRequest()
    request.competition_name = competition
    what = f"kaggle://{competition}"
    try:
        with KaggleClient(verbose=False) as client:
            answer = client.competitions.competition_api_client.download_data_files(request)
            url = str(answer.url)
            answer.close()
    except requests.HTTPError as error:
        response = error.response
        if response is not None and response.status_code in (401, 403):
            note = f"{what}: HTTP {response.status_code}: sign in and accept the rules at {page}"
            raise Fault(Action.FAIL, note) from error
        if response is None:
            raise Fault(Action.RETRY, f"{what}: {error}") from error
        raise classify(response.status_code, response.headers, b"", what) from error
    except requests.RequestException as error:
        raise Fault(Action.RETRY, f"{what}: {error}") from error
    return url


def kaggle_credentials() -> bool:
    """Whether Kaggle's client will find a token or key."""
    folder = Path("~/.kaggle").expanduser()
    names = ("access_token", "access_token.txt", "kaggle.json")
    return bool(os.environ.get("KAGGLE_API_TOKEN")) or any((folder / n).exists() for n in names)


def hub_file(repo: str, path: str, revision: str, endpoint: str = HUB) -> tuple[str, int, str]:
    """(location, size in bytes, sha256 or '') of a file on the hub; raises Fault.

    `repo` is `datasets/OWNER/NAME` or `OWNER/NAME`.
    """
    what = f"hf://{repo}/{path}"
    kind, name = _kind_of(repo)
    url = hf_hub_url(name, path, repo_type=kind, revision=revision, endpoint=endpoint)
    with _as_faults(what, repo):
        found = get_hf_file_metadata(url, token=get_token() or False, endpoint=endpoint, timeout=30)
    sha256 = found.etag if found.etag and len(found.etag) == 64 else ""
    return found.location, int(found.size or 0), sha256


def hub_tree(repo: str, pattern: str, revision: str, endpoint: str = HUB) -> list[tuple[str, str]]:
    """(path, checksum) of the files of a repository that fit a pattern such as `a.7z.*`, by path.

    The checksum is `sha256:…` of a large file, `git:…` of a small one; raises Fault.
    """
    kind, name = _kind_of(repo)
    # It tells of each of its own retries in two lines; what comes of them is told once, by us.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with _as_faults(f"hf://{repo}/{pattern}", repo):
        hub = HfApi(endpoint=endpoint, token=get_token() or False)
        entries = hub.list_repo_tree(name, recursive=True, revision=revision, repo_type=kind)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
    found = []
    for file in files:
        if fnmatch.fnmatchcase(file.path, pattern):
            check = f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}"
            found.append((file.path, check))
    if not found:
        raise Fault(Action.FAIL, f"hf://{repo}/{pattern}: no such file there")
    return sorted(found)


def _kind_of(repo: str) -> tuple[str | None, str]:
    kind, _, rest = repo.partition("/")
    return ("dataset", rest) if kind == "datasets" else (None, repo)


@contextlib.contextmanager
def _as_faults(what: str, repo: str) -> Iterator[None]:
    """Errors of the hub's client as faults."""
    try:
        yield
    except GatedRepoError as error:
        note = f"{what}: gated; ask for access at {HUB}/{repo} and set HF_TOKEN"
        raise Fault(Action.FAIL, note) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        note = f"{what}: not there, or private; see {HUB}/{repo} and set HF_TOKEN"
        raise Fault(Action.FAIL, note) from error
    except HfHubHTTPError as error:
        response = error.response
        raise classify(response.status_code, response.headers, b"", what) from error
    except (OSError, httpx2.HTTPError, OfflineModeIsEnabled) as error:
        raise Fault(Action.RETRY, f"{what}: {error}") from error


def hub_headers(location: str, endpoint: str = HUB) -> dict[str, str]:
    """The token, for a file that lies on the hub itself; it never goes to another host."""
    token = get_token()
    if token and urlsplit(location).netloc == urlsplit(endpoint).netloc:
        return {"Authorization": f"Bearer {token}"}
    return {}
