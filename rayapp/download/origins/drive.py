"""Google Drive: a service account opens files by id; metadata by Google's client, bytes by ours."""

from __future__ import annotations

import os
import threading
from typing import Any, NamedTuple

import google.auth.transport.requests
import google_auth_httplib2
import httplib2
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from rayapp.download.origins.faults import Action, Fault, asked_s, classify, may_pass
from rayapp.download.origins.reader import PATIENCE
from rayapp.storage.retry import Tries

ENDPOINT = "https://www.googleapis.com"
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_SCOPES = ["https://www.googleapis.com/auth/drive.readonly"]
_FIELDS = "id,name,size,md5Checksum,headRevisionId,mimeType"


class DriveFile(NamedTuple):
    """What Drive tells of a file; `md5` and `revision` pin its content."""

    id: str
    name: str
    num_bytes: int
    md5: str
    revision: str


class Drive:
    """One service account at one endpoint, for all threads of a process.

    Raises:
        Fault: FAIL when the account file is missing or is none.
    """

    def __init__(self, endpoint: str = ENDPOINT, tries: Tries = PATIENCE):
        self.endpoint, self._tries = endpoint, tries
        path = os.environ.get(VARIABLE, "")
        try:
            self._credentials = service_account.Credentials.from_service_account_file(
                path, scopes=_SCOPES
            )
        except (OSError, ValueError) as error:
            note = f"no service account for Google Drive: {VARIABLE}={path!r}: {error}"
            raise Fault(Action.FAIL, note) from error
        self._lock = threading.Lock()
        self._local = threading.local()
        self._service = build(
            "drive",
            "v3",
            http=self._http(),
            client_options={"api_endpoint": f"{endpoint}/drive/v3/"},
            static_discovery=True,
            cache_discovery=False,
        )

    def token(self) -> str:
        """A valid bearer token, asked anew when it ends."""
        with self._lock:
            if not self._credentials.valid:
                self._refresh()
            return str(self._credentials.token)

    def renew(self, stale: str) -> None:
        """Replace a token that was refused, unless another thread has."""
        with self._lock:
            if self._credentials.token == stale:
                self._refresh()

    def metadata(self, file_id: str) -> DriveFile:
        """Name, size, md5 and revision of a file; raises Fault."""
        call = self._service.files().get(fileId=file_id, fields=_FIELDS, supportsAllDrives=True)
        return _file(self._execute(call, f"drive://{file_id}"))

    def folder(self, folder_id: str) -> list[DriveFile]:
        """The files in a folder, by name; raises Fault."""
        query = f"'{folder_id}' in parents and trashed = false"
        fields = f"nextPageToken,files({_FIELDS})"
        found: list[DriveFile] = []
        page: str | None = ""
        while page is not None:
            call = self._service.files().list(
                q=query,
                fields=fields,
                pageSize=1000,
                pageToken=page or None,
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
            )
            answer = self._execute(call, f"drive://{folder_id}/")
            found += [_file(entry) for entry in answer.get("files", []) if "size" in entry]
            page = answer.get("nextPageToken")
        return sorted(found, key=lambda file: file.name)

    def _execute(self, call: Any, what: str) -> dict[str, Any]:
        return self._tries.call(lambda: self._once(call, what), may_pass, asked_s)

    def _once(self, call: Any, what: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = call.execute(http=self._http(), num_retries=0)
        except HttpError as error:
            headers = {key.title(): str(value) for key, value in error.resp.items()}
            raise classify(error.resp.status, headers, error.content, what) from error
        except (OSError, httplib2.HttpLib2Error) as error:
            raise Fault(Action.RETRY, f"{what}: {error}") from error
        except GoogleAuthError as error:
            raise Fault(Action.FAIL, f"{what}: the service account is refused: {error}") from error
        return answer

    def _http(self) -> Any:
        """This thread's connection: httplib2 hangs when threads share one."""
        if not hasattr(self._local, "http"):
            http = httplib2.Http(timeout=30)
            self._local.http = google_auth_httplib2.AuthorizedHttp(self._credentials, http=http)
        return self._local.http

    def _refresh(self) -> None:
        try:
            self._credentials.refresh(google.auth.transport.requests.Request())
        except GoogleAuthError as error:
            note = f"the service account is refused: {error}"
            retry = bool(getattr(error, "retryable", False))
            raise Fault(Action.RETRY if retry else Action.FAIL, note) from error


class DriveAddress:
    """The content of one file by `alt=media`."""

    def __init__(self, drive: Drive, file_id: str):
        self._drive = drive
        query = "alt=media&supportsAllDrives=true"
        self._url = f"{drive.endpoint}/drive/v3/files/{file_id}?{query}"

    def current(self) -> tuple[str, dict[str, str]]:
        """The URL and the bearer token."""
        return self._url, {"Authorization": f"Bearer {self._drive.token()}"}

    def renew(self, stale: tuple[str, dict[str, str]]) -> None:
        """A new token."""
        self._drive.renew(stale[1]["Authorization"].removeprefix("Bearer "))


def _file(entry: dict[str, Any]) -> DriveFile:
    if "size" not in entry:
        raise Fault(Action.FAIL, f"drive://{entry['id']}: a folder or a Google document")
    return DriveFile(
        entry["id"],
        entry["name"],
        int(entry["size"]),
        entry.get("md5Checksum", ""),
        entry.get("headRevisionId", ""),
    )
