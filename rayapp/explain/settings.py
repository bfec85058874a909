"""Settings of explain."""

from pydantic import Field, model_validator

from rayapp.config.paths import OutputUri, Uri
from rayapp.config.settings import JobSettings, one_or_more
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled


class ExplainSettings(JobSettings):
    """Make an evidence sheet per image: verdict, where, how firm, what the file declares."""

    output: OutputUri = Field("runs/explained", description="folder or bucket prefix for the pages")
    image: tuple[Uri, ...] = Field(min_length=1, description="image files")
    detector: Uri = Field(
        description="folder or bucket prefix of a detector, or hf://OWNER/NAME[@REVISION]"
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which on: synthetic; as calibrated if none"
    )

    _labelled = model_validator(mode="before")(labelled)

    _several = one_or_more("image")
