"""Settings of annotate."""

from typing import Literal

from pydantic import Field

from rayapp.config.paths import Uri
from rayapp.config.settings import JobSettings


class AnnotateSettings(JobSettings):
    """Make lists of own images: label scheme, train, head, calibration and test."""

    input: Uri = Field(
        description="folder or bucket prefix of images, or a CSV or Parquet table with columns "
        "path, origin and, where known, generator, content, group, split"
    )
    layout: str | None = Field(
        None,
        description="what the folders mean: patterns of folder names, *, GENERATOR, CONTENT, such "
        "as real,synthetic/GENERATOR; =real or =synthetic behind one says its origin, . is the "
        "input itself. None: recognised by the folders' names",
    )
    root: Uri | None = Field(None, description="where a table's paths start; none: its folder")
    split: str | None = Field(
        None,
        description="shares of train/head/calibration/test, by generator; 0/0/0/100: all test. "
        "None: 60/15/10/15, or all test where the images are only real or only synthetic",
    )
    split_by_folder: bool | None = Field(
        None,
        description="keep a published split: what lies in folders train, val, test (in any usual "
        "form) stays apart; test is tested on, val too where there is no test, else calibrated on. "
        "None: where there is a folder val or test",
    )
    group_by: tuple[Literal["look", "folder", "none"], ...] = Field(
        ("look",),
        description="what stays together: near-duplicates (look), files of one folder, or none; "
        "files of equal bytes and a table's groups always do",
    )
    hold_out: tuple[str, ...] = Field((), description="generators that only the test has")
    seed: int = Field(42, description="seed of the deal")
