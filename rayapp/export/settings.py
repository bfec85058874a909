"""Settings of export."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.paths import Uri
from rayapp.config.settings import JobSettings
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled


class ExportSettings(JobSettings):
    """Write a detector as an ONNX file or a Hugging Face folder, proved to say the same."""

    detector: Uri = Field(description="folder or bucket prefix of the detector")
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    to: Literal["onnx", "huggingface"] = Field(
        description="onnx: model.onnx and model.json; huggingface: what transformers loads"
    )
    fp16: bool = Field(False, description="onnx: compute in 16 bits; half the size, 5e-3 exact")
    push: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="huggingface: OWNER/NAME on the hub to upload to as well; the token is the hub "
        "client's own (hf auth login)",
    )

    _labelled = model_validator(mode="before")(labelled)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.fp16 and self.to != "onnx":
            raise ValueError("fp16 goes with --to onnx")
        if self.push and self.to != "huggingface":
            raise ValueError("push goes with --to huggingface")
        return self
