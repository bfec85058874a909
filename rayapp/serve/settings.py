"""Settings of serve."""

import ipaddress
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from rayapp.config.paths import OutputUri, Uri, slug
from rayapp.config.settings import JobSettings, Settings
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled, split_labels

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Limits(Settings):
    """What one request, and all at once, may take of the service."""

    max_mb: float = Field(64.0, gt=0, description="megabytes of a request's body at most")
    max_images: int = Field(64, ge=1, description="images of a request at most")
    max_maps: int = Field(8, ge=1, description="images of a request that asks for maps, at most")
    timeout_s: float = Field(
        60.0, gt=0, description="seconds until a request is answered or given up"
    )
    upload_s: float = Field(30.0, gt=0, description="seconds in which a body must have come")
    queue: int = Field(
        256, ge=1, description="images that may be under way at once; over it requests are refused"
    )
    per_token: int = Field(
        128, ge=1, description="images of one token that may be under way at once"
    )

    @property
    def max_bytes(self) -> int:
        """Of a body."""
        return int(self.max_mb * 1e6)


class ServeSettings(JobSettings):
    """Score images online: an HTTP service on Ray Serve, with a page at /."""

    output: OutputUri = Field(
        "runs/serve", description="folder or bucket prefix for batches' results and counts a day"
    )
    detector: tuple[Uri, ...] = Field(
        min_length=1,
        description="detectors, as predict takes them; the first is the one that answers where a "
        "request names none",
    )
    names: tuple[str, ...] = Field(
        (), description="how the detectors are called, in their order; their folders' names if none"
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    host: str = Field(
        "127.0.0.1", description="address to listen at; others than loopback want tokens"
    )
    port: int = Field(8000, ge=1, le=65535, description="port to listen at")
    tokens: Uri | None = Field(
        None, description="file of bearer tokens, hashed, a line each; read anew when it changes"
    )
    add_token: str | None = Field(
        None, description="add a token of this name to the file, print it once, and end"
    )
    write_config: OutputUri | None = Field(
        None, description="write this file for `serve deploy`, and end"
    )
    min_replicas: int = Field(1, ge=1, description="replicas of each detector at least")
    max_replicas: int | None = Field(
        None, ge=1, description="replicas of each detector at most; as many as fit if none"
    )
    target_ongoing_requests: float = Field(
        2.0, gt=0, description="requests under way in a replica, over which another is started"
    )
    precision: Literal["exact", "bf16"] = Field(
        "exact", description="exact: float32, as predict's --precision exact; bf16"
    )
    batch_size: int | None = Field(
        None, ge=1, description="views of a forward pass; by measured memory if none"
    )
    threads: int = Field(
        1, ge=1, description="CPU threads of a forward pass, and CPUs of a replica"
    )
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of one replica; 0: CPU")
    trust_list: Uri | None = Field(
        None,
        description="certificates (PEM) to which a C2PA signer's must lead to count as verified",
    )
    limits: Limits = Field(Limits(), description="what requests may take")
    fetch_from: tuple[str, ...] = Field(
        (),
        description="hosts from which requests may have images fetched by URL; none: no fetching",
    )
    batch_roots: tuple[Uri, ...] = Field(
        (),
        description="folders and bucket prefixes whose images batches may score; none: no batches",
    )
    keep: OutputUri | None = Field(
        None, description="folder or bucket prefix where images are kept; none: nowhere"
    )
    keep_hours: float = Field(24.0, gt=0, description="hours after which kept images are removed")

    _labelled = model_validator(mode="before")(labelled)

    @field_validator("detector", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.names and len(self.names) != len(self.detector):
            raise ValueError(f"names: {len(self.names)} for {len(self.detector)} detectors")
        if odd := [name for name in self.names if slug(name) != name]:
            raise ValueError(f"names: {odd[0]!r} can't be asked for; write {slug(odd[0])}")
        if len(set(self.called)) < len(self.called):
            raise ValueError("names: two detectors are called alike; give each its own by --names")
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas: is less than min_replicas")
        if self.add_token and not self.tokens:
            raise ValueError("add_token: goes into a file; name it by --tokens")
        if not self.tokens and not self.on_loopback:
            raise ValueError(
                f"host: others reach {self.host}; give --tokens FILE, or listen at 127.0.0.1"
            )
        return self

    @property
    def called(self) -> tuple[str, ...]:
        """The detectors' names."""
        return self.names or tuple(_called(uri) for uri in self.detector)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _called(uri: str) -> str:
    plain = split_labels(uri)[0].rstrip("/")
    last = plain.rpartition("/")[2]
    above = plain.rpartition("/")[0].rpartition("/")[2]
    return slug(above if last == "detector" and above else last)
