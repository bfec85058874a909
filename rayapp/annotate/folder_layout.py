"""A layout: what the folders above a file say of its image, as patterns of their names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rayapp.annotate.words import CODES, REAL, SYNTHETIC, Origin, origin_of
from rayapp.config.errors import UserError

ANY, ROOT = "*", "."
GENERATOR, CONTENT = "GENERATOR", "CONTENT"


@dataclass(frozen=True)
class Labelled:
    """One image with what is known of it; empty where it is not known.

    `generator` of a real image is `real`; `subset` is the part of a published
    split that it is in, in the words of its folder or table.
    """

    path: str
    origin: Origin
    generator: str
    content: str = ""
    group: str = ""
    subset: str = ""


@dataclass(frozen=True)
class Pattern:
    """Folders from the root on: names in any case, `*`, GENERATOR, CONTENT; `.`: the root itself.

    Files lie anywhere below.
    """

    folders: tuple[str, ...]
    origin: Origin

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """`real`, `synthetic/GENERATOR`, `photos/CONTENT=real`, `.=real`.

        Raises:
            UserError: a pattern that does not say the origin.
        """
        path, _, word = text.partition("=")
        folders = tuple(path.strip("/ ").split("/"))
        if word:
            origin = CODES.get(word.strip()) or origin_of(word)
        else:
            origins = (CODES.get(folder) or origin_of(folder) for folder in folders)
            origin = next(filter(None, origins), SYNTHETIC if GENERATOR in folders else None)
        if origin is None or not all(folders):
            raise UserError(
                f"--layout {text!r}: say the origin by a folder real or synthetic, or by "
                "=real or =synthetic behind it"
            )
        return cls(() if folders == (ROOT,) else folders, origin)

    def match(self, path: str) -> Labelled | None:
        """What a path under the root says, or None where it is not of this pattern."""
        folders = path.split("/")[:-1]
        if len(folders) < len(self.folders):
            return None
        found = {GENERATOR: "", CONTENT: ""}
        for wanted, folder in zip(self.folders, folders, strict=False):
            if wanted in found:
                found[wanted] = folder
            elif wanted != ANY and wanted.casefold() != folder.casefold():
                return None
        return Labelled(path, self.origin, made_by(self.origin, found[GENERATOR]), found[CONTENT])


def made_by(origin: Origin, generator: str) -> str:
    """What stands for the generator: `real`, or `synthetic` where it is not known."""
    return REAL if origin == REAL else generator or SYNTHETIC


def parse_layout(text: str) -> list[Pattern]:
    """Patterns, parted by commas; the first that fits a file counts."""
    return [Pattern.parse(one) for one in text.split(",") if one.strip()]


def by_layout(
    paths: Iterable[str], patterns: Sequence[Pattern]
) -> tuple[list[Labelled], list[str]]:
    """The labelled images, and the paths that are of no pattern."""
    found, other = [], []
    for path in paths:
        matches = (pattern.match(path) for pattern in patterns)
        one = next((match for match in matches if match), None)
        found.append(one) if one else other.append(path)
    return found, other
