"""Google Drive v3 on loopback: OAuth token endpoint that checks the real RS256 JWT, files, quotas.

Facts from the public API reference: a service account posts a signed JWT to `token_uri` and gets a
bearer token; `files/{id}?alt=media` is the content, without it the metadata; errors carry
`error.errors[0].reason`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.doubles.server import Reply, Request, Server, serve_range


def _unpad(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def refusal(status: int, reason: str, **headers: str) -> Reply:
    """Drive's error body for a reason such as `userRateLimitExceeded`."""
    error = {"code": status, "message": reason, "errors": [{"domain": "x", "reason": reason}]}
    return Reply.json({"error": error}, status, **headers)


class Drive:
    """Files by id, folders by id, one service account, an optional quota of downloads a second."""

    def __init__(self, downloads_per_s: float | None = None):
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, dict[str, str]] = {}  # folder id → {file id: name}
        self.tokens_issued = 0
        self.refused = 0
        self.served = 0
        self.expire_tokens = False
        self._valid: set[str] = set()
        self._rate = downloads_per_s
        self._level = downloads_per_s or 0.0
        self._seen_s = time.monotonic()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def write_account(self, path: Path, url: str) -> Path:
        """Write a service-account file for this double at `path`."""
        private = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "type": "service_account",
            "client_email": "tester@double",
            "private_key_id": "1",
            "private_key": private.decode(),
            "token_uri": f"{url}/token",
        }
        path.write_text(json.dumps(account))
        return path

    def server(self, latency_s: float = 0.0) -> Server:
        return Server(self.handle, latency_s=latency_s)

    def handle(self, request: Request) -> Reply:
        if request.path == "/token":
            return self._token(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer not in self._valid:
            return refusal(401, "authError")
        if self.expire_tokens:
            self.expire_tokens = False
            self._valid.clear()
            return refusal(401, "authError")
        if request.path == "/drive/v3/files":
            return self._list(request)
        file_id = request.path.removeprefix("/drive/v3/files/")
        data = self.files.get(file_id)
        if data is None:
            return refusal(404, "notFound")
        if request.query.get("alt") != "media":
            return Reply.json(self._metadata(file_id, data))
        if not self._admit():
            self.refused += 1
            return refusal(403, "userRateLimitExceeded")
        self.served += 1
        return serve_range(data, request, etag="", media="application/octet-stream")

    def _token(self, request: Request) -> Reply:
        assertion = parse_qs(request.body.decode())["assertion"][0]
        head, claims, signature = assertion.split(".")
        self._key.public_key().verify(
            _unpad(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        claim = json.loads(_unpad(claims))
        if claim["iss"] != "tester@double" or claim["exp"] < time.time():
            return Reply.json({"error": "invalid_grant"}, 400)
        if "drive.readonly" not in claim["scope"]:
            return Reply.json({"error": "invalid_scope"}, 400)
        self.tokens_issued += 1
        token = f"token-{self.tokens_issued}"
        self._valid.add(token)
        return Reply.json({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    def _list(self, request: Request) -> Reply:
        folder = request.query["q"].split("'")[1]
        names = self.folders.get(folder, {})
        files = [self._metadata(key, self.files[key]) | {"name": names[key]} for key in names]
        return Reply.json({"files": files})

    def _metadata(self, file_id: str, data: bytes) -> dict[str, str]:
        return {
            "id": file_id,
            "name": f"{file_id}.bin",
            "mimeType": "application/octet-stream",
            "size": str(len(data)),
            "md5Checksum": hashlib.md5(data).hexdigest(),
            "headRevisionId": "r1",
        }

    def _admit(self) -> bool:
        if self._rate is None:
            return True
        now = time.monotonic()
        self._level = min(self._rate, self._level + (now - self._seen_s) * self._rate)
        self._seen_s = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
