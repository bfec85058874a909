"""All that the app is made from, and what each of its routes asks of that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from rayapp.serve.desk import Desk
from rayapp.serve.doors import NOTES
from rayapp.serve.incoming.tokens import Tokens
from rayapp.serve.incoming.web_images import WebImages
from rayapp.serve.kept_images import KeptImages
from rayapp.serve.refusals import Refused
from rayapp.serve.score_contract import Scoring
from rayapp.serve.settings import Limits


@dataclass(frozen=True)
class Service:
    """All that the app is made from.

    Args:
        scoring: the detectors.
        desk: what there is once.
        limits: of requests.
        tokens: who may ask; None: anybody who reaches the service.
        web: fetches images by URL; None: that is off.
        hosts: see `Doors`.
        kept: where images are kept; None: nowhere.
    """

    scoring: Scoring
    desk: Desk
    limits: Limits = field(default_factory=Limits)
    tokens: Tokens | None = None
    web: WebImages | None = None
    hosts: frozenset[str] | None = None
    kept: KeptImages | None = None

    async def token_of(self, request: Request) -> str:
        """Whose token a request brings; `` where none is asked for.

        Raises:
            Refused: 401.
        """
        if self.tokens is None:
            return ""
        await asyncio.to_thread(self.tokens.refresh)  # the file may lie in a bucket
        found = self.tokens.name_of(request.headers.get("authorization", ""))
        request.scope[NOTES]["token"] = found
        return found

    def named(self, name: str | None) -> str:
        """The detector that is asked for.

        Raises:
            Refused: there is none of that name.
        """
        if name is None:
            return self.scoring.names[0]
        if name not in self.scoring.names:
            raise Refused(404, f"no such detector; there are: {', '.join(self.scoring.names)}")
        return name
