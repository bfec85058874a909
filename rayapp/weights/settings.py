"""Settings of weights."""

from typing import Any, Literal

from pydantic import Field, model_validator

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings

Name = Literal["imaginet", "imaginet_corvi", "corvi2022", "grag2021", "lasted", "commfor"]


class WeightsSettings(JobSettings):
    """Fetch the weights of a published detector and keep them as a detector's folder."""

    name: Name = Field(description="the detector; its entry in the catalogue is weights_NAME")
    output: OutputUri = Field("", description="folder or bucket prefix; runs/weights/NAME if none")
    fetched: OutputUri = Field(
        "runs/weights/fetched", description="where the files as published go"
    )
    files: tuple[Uri, ...] = Field((), description="files that you have; nothing is fetched then")
    catalogue: Packaged = Field("sources", description="catalogue, by name or file")
    anchors: Uri | None = Field(None, description="lasted: list of real images to compare with")
    scheme: Packaged = Field("imaginet", description="label scheme of that list")
    root: Uri | None = Field(None, description="where the list's paths start")

    @model_validator(mode="before")
    @classmethod
    def _folder_of_its_name(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"output": f"runs/weights/{data.get('name')}"} | data
