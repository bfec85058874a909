"""Origins that hand out signed URLs, Kaggle and the Hugging Face hub: minted once for all workers.

The calls that mint are themselves limited (Kaggle locks out who asks per file), so a URL is shared
through the origin's gate and replaced only when it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import requests
from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from kagglesdk import KaggleClient
from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

from rayapp.download.faults import Action, Fault, classify
from rayapp.download.governor import Gate

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
    kind, _, rest = repo.partition("/")
    is_dataset = kind == "datasets"
    url = hf_hub_url(
        rest if is_dataset else repo,
        path,
        repo_type="dataset" if is_dataset else None,
        revision=revision,
        endpoint=endpoint,
    )
    try:
        found = get_hf_file_metadata(url, token=get_token() or False, endpoint=endpoint, timeout=30)
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
    sha256 = found.etag if found.etag and len(found.etag) == 64 else ""
    return found.location, int(found.size or 0), sha256


def hub_headers(location: str, endpoint: str = HUB) -> dict[str, str]:
    """The token, for a file that lies on the hub itself; it never goes to another host."""
    token = get_token()
    if token and urlsplit(location).netloc == urlsplit(endpoint).netloc:
        return {"Authorization": f"Bearer {token}"}
    return {}
