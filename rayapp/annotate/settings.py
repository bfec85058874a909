"""Settings of annotate."""

from typing import Literal

from pydantic import Field

from rayapp.config.settings import JobSettings


class AnnotateSettings(JobSettings):
    """Make lists of own images: label scheme, train, head, calibration and test."""

    input: str = Field(
        description="folder or s3:// prefix of images, or a CSV or Parquet table with columns "
        "path, origin and, where known, generator, content, group"
    )
    layout: str = Field(
        "real,synthetic/GENERATOR",
        description="what the folders mean: patterns of folder names, *, GENERATOR, CONTENT; "
        "=real or =synthetic behind one says its origin",
    )
    root: str | None = Field(None, description="where a table's paths start; none: its folder")
    split: str = Field(
        "60/15/10/15", description="shares of train/head/calibration/test, by generator"
    )
    group_by: tuple[Literal["look", "folder", "none"], ...] = Field(
        ("look",),
        description="what stays together: near-duplicates (look), files of one folder, or none; "
        "files of equal bytes and a table's groups always do",
    )
    hold_out: tuple[str, ...] = Field((), description="generators that only the test has")
    seed: int = Field(42, description="seed of the deal")
