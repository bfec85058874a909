"""Settings of describe."""

from pydantic import Field, model_validator

from rayapp.config.paths import Uri
from rayapp.config.settings import Settings
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled


class DescribeSettings(Settings):
    """Print what a detector is, what it was trained on, and how it did where it was measured."""

    detector: Uri = Field(
        description="folder or bucket prefix of the detector, or hf://OWNER/NAME[@REVISION]"
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS

    _labelled = model_validator(mode="before")(labelled)
