"""Settings of download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import Settings


class DownloadSettings(Settings):
    """Fetch the images that annotation lists name, and nothing else."""

    renamed: ClassVar[Mapping[str, str]] = {"workers": "num_workers"}

    root: OutputUri = Field(
        description="folder or s3:// prefix for the images, at their annotated paths"
    )
    sources: list[str] = Field(min_length=1, description="names of the catalogue, or all")
    annotations: list[Uri] = Field([], description="annotation lists (files or s3:// URIs)")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    catalogue: Packaged = Field("sources", description="catalogue of sources: a name or a file")
    dry_run: bool = Field(False, description="print what would be fetched and stop")
    limit: int | None = Field(None, ge=1, description="at most so many images of each source")
    num_workers: int | None = Field(None, ge=1, description="processes that fetch; else by CPUs")
    threads: int = Field(16, ge=1, le=256, description="requests under way in one process")
    attempts: int = Field(8, ge=1, description="times that one request is tried")
    backoff_s: float = Field(0.5, gt=0, description="first pause before a retry, it doubles")
    cpus: int | None = Field(None, ge=1, description="CPUs of the local Ray that the job starts")
    verbose: bool = Field(False, description="show Ray's own messages")
