"""Settings of download."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings

# How fast it goes, and what is only looked at: a run may go on with other values.
PLACEMENT = frozenset({"num_workers", "threads", "attempts", "backoff_s", "dry_run"})


class DownloadSettings(JobSettings):
    """Fetch the images that annotation lists name, and nothing else."""

    renamed: ClassVar[Mapping[str, str]] = {"workers": "num_workers", "root": "output"}

    output: OutputUri = Field(
        description="folder or bucket prefix for the images, at their annotated paths"
    )
    sources: list[str] = Field(min_length=1, description="names of the catalogue, or all")
    annotations: list[Uri] = Field([], description="annotation lists (files or bucket URIs)")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    catalogue: Packaged = Field("sources", description="catalogue of sources: a name or a file")
    dry_run: bool = Field(False, description="print what would be fetched and stop")
    limit: int | None = Field(None, ge=1, description="at most so many images of each source")
    num_workers: int | None = Field(None, ge=1, description="processes that fetch; else by CPUs")
    threads: int = Field(16, ge=1, le=256, description="requests under way in one process")
    attempts: int = Field(8, ge=1, description="times that one request is tried")
    backoff_s: float = Field(0.5, gt=0, description="first pause before a retry, it doubles")
    overwrite: bool = Field(
        False, description="add to an output of other settings; what is there and verifies stays"
    )
