"""Settings of weights."""

from typing import Literal

from pydantic import Field

from rayapp.config.settings import JobSettings

Name = Literal["imaginet", "imaginet_corvi", "corvi2022", "grag2021", "lasted", "commfor"]


class WeightsSettings(JobSettings):
    """Fetch the weights of a published detector and keep them as a detector's folder."""

    name: Name = Field(description="the detector; its entry in the catalogue is weights_NAME")
    output: str = Field("", description="folder or s3:// prefix; runs/weights/NAME if none")
    fetched: str = Field("runs/weights/fetched", description="where the files as published go")
    files: tuple[str, ...] = Field((), description="files that you have; nothing is fetched then")
    catalogue: str = Field("sources", description="catalogue, by name or file")
    anchors: str | None = Field(None, description="lasted: list of real images to compare with")
    scheme: str = Field("imaginet", description="label scheme of that list")
    root: str | None = Field(None, description="where the list's paths start")
