"""The catalogue of sources: what there is, how it is reached, what it needs, where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.paths import Uri
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.download.origins.governor import Quota


class Origin(Settings):
    """What an origin allows; units are its own."""

    units_per_s: float | None = Field(None, gt=0, description="quota; none known where missing")
    request_units: float = Field(1.0, gt=0, description="cost of one download")
    burst_units: float = Field(1.0, gt=0, description="what may be spent at once")
    endpoint: str = Field("", description="base URL of the API, where it is not the usual one")
    gap_bytes: int = Field(65_536, ge=0, description="a smaller gap is read, not asked around")

    def quota(self) -> Quota:
        """As the governor takes it."""
        return Quota(self.units_per_s, self.request_units, self.burst_units)


class Source(Settings):
    """One source of images, lists or weights."""

    about: str = Field(description="what it is, one line")
    kind: Literal["images", "annotations", "weights"] = Field("images", description="what it holds")
    at: list[Uri] = Field(min_length=1, description="URIs: archives, volumes, or a {name} template")
    form: Literal["archive", "volumes", "files", "ffhq", "folder"] = Field(
        "archive",
        description="archives; volumes of one archive; single files; the FFHQ list; a folder",
    )
    paths: dict[str, str] = Field({}, description="annotated prefix: prefix inside of the source")
    match: Literal["tail", "name"] = Field(
        "tail", description="a member answers by the end of its path, or by its file name alone"
    )
    inner: str = Field("", description="member that is the archive itself, where it is nested")
    files: dict[str, str] = Field({}, description="fixed files: path: checksum (git:…, sha256:…)")
    listing: str = Field("", description="URI of the list of file ids and checksums (form ffhq)")
    images: int = Field(0, ge=0, description="annotated images it provides, all splits")
    image_bytes: int = Field(200_000, gt=0, description="typical size of one, for the dry run")
    page: str = Field("", description="page with the rules or the licence to accept")
    accept: str = Field("", description="what has to be accepted there by hand")
    password_variable: str = Field("", description="environment variable with the password")
    licence: str = Field("", description="licence of the images, SPDX where there is one")
    licences: dict[str, str] = Field({}, description="annotated prefix: licence that differs")
    attribution: str = Field("", description="whom to name")
    in_all: bool = Field(True, description="whether `--sources all` takes it")

    @model_validator(mode="after")
    def _folder_can_be_listed(self) -> Self:
        if self.form == "folder" and not self.at[0].startswith(("drive://", "hf://")):
            raise ValueError(
                f"form: folder is for drive:// and hf://, not {self.at[0]}; give `form: files` "
                "with at: ['…/{name}'], and the paths that stand for it"
            )
        return self

    def inside(self, path: str) -> str | None:
        """The path inside of the source of an annotated path, None where it is not from here."""
        prefix = _longest(self.paths, path)
        if prefix is None:
            return path if path in self.files else None
        return self.paths[prefix] + path[len(prefix) :]

    def claim(self, path: str) -> int:
        """How much of an annotated path the source's longest prefix covers, -1 where none does."""
        if path in self.files:
            return len(path) + 1
        prefix = _longest(self.paths, path)
        return -1 if prefix is None else len(prefix)

    def licence_of(self, path: str) -> str:
        """The licence of one annotated path."""
        prefix = _longest(self.licences, path)
        return self.licence if prefix is None else self.licences[prefix]


def _longest(prefixes: dict[str, str], path: str) -> str | None:
    fitting = (prefix for prefix in prefixes if path.startswith(prefix))
    return max(fitting, key=len, default=None)


class Catalogue(Settings):
    """All sources by name, and the origins they are at."""

    origins: dict[str, Origin] = Field({}, description="scheme of the URI: what it allows")
    sources: dict[str, Source] = Field(description="name: source")

    def choose(self, names: Sequence[str]) -> dict[str, Source]:
        """The named sources; `all` are those of kind images that exclude no other.

        Raises:
            UserError: a name that is not in the catalogue.
        """
        chosen: dict[str, Source] = {}
        for name in names:
            if name == "all":
                every = self.sources.items()
                chosen |= {k: v for k, v in every if v.in_all and v.kind == "images"}
            elif name in self.sources:
                chosen[name] = self.sources[name]
            else:
                raise UserError(f"no source {name!r} (known: all, {', '.join(self.sources)})")
        return chosen

    def origin(self, scheme: str) -> Origin:
        """What is known of an origin; nothing where it is not listed."""
        return self.origins.get(scheme, Origin())


def load_catalogue(name_or_path: str = "sources") -> Catalogue:
    """`annotations/sources.yaml`, or a user's own file of the same form; raises UserError."""
    return parse_yaml(resource("annotations", name_or_path), Catalogue)
