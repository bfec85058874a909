"""Settings of reconstruct."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings

# Where and how the work is done: the same pairs come out. Of the weights, their hash counts.
PLACEMENT = frozenset(
    {"batch_size", "catalogue", "fetched", "gpus_per_worker", "num_workers", "preview", "weights"}
)
FETCHED = "runs/weights/fetched"


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ReconstructSettings(JobSettings):
    """Give each real image a partner that went through an autoencoder, alike in all else."""

    root: Uri = Field(description="folder or bucket prefix under which the images lie")
    annotations: tuple[Uri, ...] = Field(
        (),
        description="lists whose real images are taken; every image under --root where not given",
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    manifest: Uri | None = Field(
        None, description="the images' own manifest; its source, licence and group are carried over"
    )
    autoencoder: Annotated[tuple[Packaged, ...], BeforeValidator(_several)] = Field(
        min_length=1,
        description="a shipped one's name (taef2), a YAML file, a .py with reconstruct(images), or "
        "a TorchScript .pt; of several, each image is drawn one",
    )
    weights: Uri | None = Field(
        None,
        description="folder with the autoencoder's files, or one of them; fetched by the catalogue "
        "where not given",
    )
    fetched: OutputUri | None = Field(
        None, description=f"where fetched files go; {FETCHED} if none"
    )
    catalogue: Packaged = Field("sources", description="catalogue, by name or file")
    seed: int = Field(0, description="seed of all draws")
    side: int = Field(
        512,
        ge=16,
        le=16_383,
        description="largest side of the cut in px; what is cut off is drawn, on the grid in which "
        "the file was compressed",
    )
    align: bool = Field(
        True, description="compress the partner with the tables and subsampling of the real's JPEG"
    )
    perturbation: Packaged | None = Field(
        None, description="a perturbation whose steps, drawn once a pair, are done to both alike"
    )
    latent_noise: float = Field(
        0.0,
        ge=0,
        le=2,
        description="noise on the latent, uniform in 0..this, as a share of its standard deviation",
    )
    blend: float = Field(
        0.0, ge=0, le=1, description="chance that a partner is mixed with its real image"
    )
    blend_least: float = Field(
        0.3, gt=0, le=1, description="a mix holds this share of the reconstruction at least"
    )
    blend_in: Literal["pixels", "bands", "both"] = Field(
        "both",
        description="mixed pixel by pixel, in a drawn band of frequencies, or either by half",
    )
    format: Literal["webp", "png"] = Field("webp", description="lossless WebP, or PNG")
    preview: int = Field(
        0, ge=0, le=50, description="so many pairs and their differences on a sheet, preview.png"
    )
    batch_size: int = Field(
        4, ge=1, le=256, description="images that a worker takes at once; each is rendered alone"
    )
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs a worker")
    num_workers: int | None = Field(
        None, ge=1, description="workers at most; as many as fit if none"
    )

    @model_validator(mode="after")
    def _lists_for_what_needs_them(self) -> Self:
        if self.manifest and not self.annotations:
            raise ValueError("manifest: goes with annotations")
        return self
