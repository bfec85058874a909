"""The files that an input names: one, those below a folder or prefix, those of a pattern."""

import fnmatch
import os
import re
from collections.abc import Iterator

from rayapp.config.paths import absolute_uri
from rayapp.storage.store import LocalStore, Stat, Store
from rayapp.storage.uris import BUCKETS, open_store, split_uri

_PATTERN = re.compile(r"[*?\[]")


def is_folder(uri: str) -> bool:
    """Whether a local folder has this name, whatever it ends in."""
    return os.path.isdir(absolute_uri(uri))


def is_pattern(uri: str) -> bool:
    """Whether it is a pattern, and not the name of a file."""
    return bool(_PATTERN.search(uri)) and not os.path.exists(absolute_uri(uri))


def walk(uri: str) -> tuple[Store, Iterator[Stat]]:
    """The files below a folder or of a pattern, as they are found."""
    if is_pattern(uri):
        return matching(uri)
    store = open_store(uri)
    return store, every(store)


def every(store: Store) -> Iterator[Stat]:
    """All files; a link that leads nowhere stands for an image that is missed."""
    return store.list_with_dead_links() if isinstance(store, LocalStore) else store.list()


def single_file(uri: str) -> tuple[Store, list[Stat]] | None:
    """The one file that a URI names, and the store of its folder; None where it names none."""
    if uri.endswith("/") or (uri.partition("://")[0] in BUCKETS and uri.count("/") < 3):
        return None
    store, key = split_uri(uri)
    stat = store.stat(key)
    is_file = stat is not None and next(open_store(uri).list(), None) is None
    return (store, [stat]) if stat and is_file else None


def matching(uri: str) -> tuple[Store, Iterator[Stat]]:
    """Files that match a pattern; `*` stays within a folder, `**` does not."""
    whole = absolute_uri(uri)
    fixed = whole[: _PATTERN.search(whole).start()].rpartition("/")[0]  # type: ignore[union-attr]
    store = open_store(fixed or "/")
    wanted = re.compile(_expression(whole[len(fixed) + 1 :]))
    return store, (stat for stat in every(store) if wanted.fullmatch(stat.key))


def _expression(pattern: str) -> str:
    return "".join(_pieces(pattern))


def _pieces(pattern: str) -> Iterator[str]:
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern):
        if part == "**/":
            yield r"(?:.*/)?"
        elif part == "**":
            yield ".*"
        elif part == "*":
            yield "[^/]*"
        elif part == "?":
            yield "[^/]"
        elif part.startswith("[") and len(part) > 2:
            yield fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
        else:
            yield re.escape(part)
