"""Which images batches may name: those under allowed roots, whatever a path is written like."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rayapp.config.paths import absolute_uri, without_file_scheme
from rayapp.serve.refusals import Refused

# Control characters, lone surrogates, backslashes; odd blanks and joiners are in names.
_NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")


@dataclass(frozen=True)
class Root:
    """A folder, or a bucket prefix, under which images may lie."""

    uri: str

    @classmethod
    def of(cls, uri: str) -> Root:
        """The place that a URI really is, links followed."""
        whole = absolute_uri(uri).rstrip("/") or "/"
        return cls(whole if "://" in whole else os.path.realpath(whole))

    def path_of(self, uri: str) -> str | None:
        """Where an image lies from here; None: elsewhere."""
        if "://" in self.uri:
            key = uri.removeprefix(f"{self.uri}/")
            parts = key.split("/")
            return None if key == uri or {"", ".", ".."} & set(parts) else key
        plain = without_file_scheme(uri)
        if "://" in plain or not os.path.isabs(plain):
            return None
        real = os.path.realpath(plain)
        inside = os.path.commonpath([real, self.uri]) == self.uri and real != self.uri
        return os.path.relpath(real, self.uri) if inside else None


def under_one_root(images: Sequence[str], roots: Sequence[Root]) -> tuple[Root, list[str]]:
    """The root under which all images of a batch lie, and their paths from there.

    Raises:
        Refused: 403, where one lies elsewhere; it says nothing of what is there.
    """
    for number, uri in enumerate(images):
        if _NO_NAME.search(uri):
            raise Refused(403, f"images.{number}: no path or URI")
    best: list[str | None] = []
    for root in roots:
        found = [root.path_of(uri) for uri in images]
        paths = [one for one in found if one is not None]
        if len(paths) == len(images):
            return root, paths
        best = found if sum(map(bool, found)) >= sum(map(bool, best)) else best
    at = next(number for number, one in enumerate(best) if one is None)
    raise Refused(
        403,
        f"images.{at}: lies under none of the folders that are allowed, or not under that of the "
        "others; give whole paths or URIs, all under one of them",
    )
