"""Files that lie among images and were never images, told by their names."""

import re

from rayapp.dataset.formats import SUFFIXES as IMAGE_SUFFIXES

_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", ".Trashes", ".Spotlight-V100", ".fseventsd", ".git",
     ".ipynb_checkpoints", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)  # fmt: skip
_NAMES = re.compile(
    r"(?:eh)?thumbs\.db|desktop\.ini|icon\r"
    r"|read_?me|licen[cs]e|copying|notice|authors|changelog|makefile|checksums|(?:md5|sha\d+)sums",
    re.IGNORECASE,
)
# Text, and what cameras, editors, crawlers and datasets put beside an image.
_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".log", ".ini", ".cfg", ".toml", ".yaml", ".yml", ".json", ".jsonl",
     ".ndjson", ".csv", ".tsv", ".xml", ".xmp", ".html", ".htm", ".css", ".js", ".py", ".ipynb",
     ".sh", ".aae", ".pp3", ".dop", ".lnk", ".url", ".webloc", ".md5", ".sha1", ".sha256"}
)  # fmt: skip


def clutter_kind(key: str) -> str | None:
    """What a file is that is no image by its name: `.txt`, `.DS_Store`, `__MACOSX/`, `*~`, ….

    None where it may be an image. That a file named as an image is none, its content tells.
    """
    *folders, name = key.split("/")
    for folder in folders:
        if folder in _FOLDERS:
            return f"{folder}/"
    lower = name.lower()
    if name.startswith("._"):  # what macOS keeps of a file on a foreign disk
        return "._*"
    if name.endswith("~"):
        return "*~"
    if lower.endswith(IMAGE_SUFFIXES):
        return None
    if name.startswith(".") or _NAMES.fullmatch(name):
        return name.strip()
    suffix = lower[lower.rfind(".") :] if "." in lower else ""
    return suffix if suffix in _SUFFIXES else None
