"""Kaggle on loopback: one API call redirects to a signed URL that expires and forbids HEAD."""

from __future__ import annotations

import json

from tests.doubles.server import Reply, Request, Server, serve_range


class Kaggle:
    """The competition API and the storage behind it.

    `kagglesdk` with `KAGGLE_API_ENVIRONMENT=TEST` calls http://localhost:7777 and nothing else.
    """

    def __init__(self, competition: str, archive: bytes):
        self.competition = competition
        self.archive = archive
        self.rules_accepted = True
        self.minted = 0
        self.expired: set[int] = set()
        self.uses_per_url: int | None = None  # a URL expires after so many reads
        self._uses: dict[int, int] = {}
        self.api = Server(self._api, port=7777)
        self.storage = Server(self._storage)

    def __enter__(self) -> Kaggle:
        self.storage.__enter__()
        self.api.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.api.__exit__()
        self.storage.__exit__()

    def _api(self, request: Request) -> Reply:
        if not request.path.endswith("/competitions.CompetitionApiService/DownloadDataFiles"):
            return Reply.json({"code": 404, "message": "no such call"}, 404)
        if request.headers.get("authorization") != "Bearer good-token":
            return Reply.json({"code": 401, "message": "Unauthenticated"}, 401)
        if json.loads(request.body)["competitionName"] != self.competition:
            return Reply.json({"code": 404, "message": "no such competition"}, 404)
        if not self.rules_accepted:
            message = "You must accept this competition's rules before you'll be able to download"
            return Reply.json({"code": 403, "message": message}, 403)
        self.minted += 1
        location = f"{self.storage.url}/archive.zip?Expires=99&Signature={self.minted}"
        return Reply(302, {"Location": location, "Content-Type": "text/plain"})

    def _storage(self, request: Request) -> Reply:
        signature = int(request.query.get("Signature", "0"))
        self._uses[signature] = self._uses.get(signature, 0) + 1
        spent = self.uses_per_url is not None and self._uses[signature] > self.uses_per_url
        if request.method == "HEAD" or "authorization" in request.headers:
            return Reply(403, {"Content-Type": "application/xml"}, b"<Code>AccessDenied</Code>")
        if not 1 <= signature <= self.minted or signature in self.expired or spent:
            body = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"
            return Reply(400, {"Content-Type": "application/xml"}, body)
        return serve_range(self.archive, request, etag='"gcs"')
