"""Settings of prune."""

from pydantic import Field

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings


class PruneSettings(JobSettings):
    """Make a folder hold exactly what the annotation lists name; without --apply, only say how."""

    root: OutputUri = Field(description="folder or bucket prefix that the lists' paths start from")
    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists; their union")
    output: OutputUri = Field("runs/prune", description="folder or bucket prefix for the decisions")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    apply: bool = Field(False, description="remove what is not named")
    trash: OutputUri | None = Field(
        None, description="with --apply: move there (folder or bucket prefix) instead of removing"
    )
    yes: bool = Field(False, description="with --apply: do not ask")
    allow_missing: bool = Field(
        False, description="with --apply: go on though annotated images are missing"
    )
