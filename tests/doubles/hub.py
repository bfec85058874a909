"""The Hugging Face hub on loopback: HEAD resolves to a CDN on another host name, gates, limits."""

from __future__ import annotations

import hashlib

from tests.doubles.server import Reply, Request, Server, serve_range


class Hub:
    """Files by `/<repo>/resolve/<revision>/<path>`; bytes live on `localhost`, not 127.0.0.1."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.listed: dict[str, bytes] = {}  # what the listing says where it is not what is served
        self.gated = False
        self.resolved = 0
        self.limit_next = 0  # so many resolutions are answered 429 with RateLimit
        self.uses_per_url: int | None = None
        self._uses: dict[int, int] = {}
        self.endpoint = Server(self._hub)
        self.cdn = Server(self._cdn)

    def __enter__(self) -> Hub:
        self.cdn.__enter__()
        self.endpoint.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.endpoint.__exit__()
        self.cdn.__exit__()

    def _tree(self, request: Request) -> Reply:
        """`/api/{models|datasets}/OWNER/NAME/tree/REVISION`: large files with their sha256."""
        repo, revision = request.path.split("/tree/")
        prefix = repo.removeprefix("/api/models").removeprefix("/api")
        prefix += f"/resolve/{revision}/"
        files = {k: v for k, v in (self.files | self.listed).items() if k.startswith(prefix)}
        if not files:
            return Reply(404, {"X-Error-Code": "RepoNotFound"})
        return Reply.json([self._entry(k.removeprefix(prefix), v) for k, v in files.items()])

    def _entry(self, path: str, data: bytes) -> dict[str, object]:
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": blob}
        if len(data) > 1000:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
        return entry

    def _hub(self, request: Request) -> Reply:
        if request.path.startswith("/api/") and "/tree/" in request.path:
            return self._tree(request)
        data = self.files.get(request.path)
        if data is None:
            return Reply(404, {"X-Error-Code": "EntryNotFound"})
        if self.gated and request.headers.get("authorization") != "Bearer hf_good":
            return Reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        if self.limit_next:
            self.limit_next -= 1
            return Reply(429, {"RateLimit": '"resolvers";r=0;t=1'})
        self.resolved += 1
        location = f"http://localhost:{self.cdn.port}{request.path}?n={self.resolved}"
        headers = {
            "X-Repo-Commit": "c" * 40,
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Linked-Size": str(len(data)),
            "Location": location,
        }
        return Reply(302, headers)

    def _cdn(self, request: Request) -> Reply:
        number = int(request.query["n"])
        self._uses[number] = self._uses.get(number, 0) + 1
        if self.uses_per_url is not None and self._uses[number] > self.uses_per_url:
            return Reply(403, {"Content-Type": "application/xml"}, b"<Code>AccessDenied</Code>")
        return serve_range(self.files[request.path], request, etag='"cdn"')
