"""Settings of a job that takes images by annotation lists, or as a set of any size."""

from typing import Self

from pydantic import Field, model_validator

from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings


class GivenImages(JobSettings):
    """Which images: those of annotation lists under a root, or all of an input."""

    annotations: tuple[Uri, ...] = Field((), description="annotation lists, in order")
    input: Uri | None = Field(
        None,
        description="in place of lists, images of any number, read and written by workers: folder, "
        "bucket prefix, pattern, list, table of paths, addresses or images (.csv, .parquet), .tar, "
        "or hf://datasets/OWNER/NAME[/CONFIG][@REV]",
    )
    root: Uri | None = Field(
        None, description="folder or bucket prefix from which the paths of lists and tables start"
    )
    column: str | None = Field(
        None, description="of an input's table, with the paths or images; found by its name if none"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")

    @model_validator(mode="after")
    def _lists_or_input(self) -> Self:
        if bool(self.annotations) == bool(self.input):
            raise ValueError("give --annotations, the lists, or --input, the images themselves")
        if self.column and not self.input:
            raise ValueError("--column: goes with --input, a table")
        return self

    def needs_root(self) -> None:
        """Nothing where the paths of lists have a start.

        Raises:
            ValueError: there is none.
        """
        if self.annotations and self.root is None:
            raise ValueError("give --root, the folder that the lists' paths start from")
