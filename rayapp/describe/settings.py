"""Settings of describe."""

from pydantic import Field

from rayapp.config.paths import Uri
from rayapp.config.settings import Settings


class DescribeSettings(Settings):
    """Print what a detector is, what it was trained on, and how it did where it was measured."""

    detector: Uri = Field(description="folder or s3:// prefix of the detector")
