"""Settings of predict."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings
from rayapp.models.adopted.hub_uris import SYNTHETIC_LABELS, labelled
from rayapp.models.detector_spec import Precision, Stability, TrustDeclared, View

# What only says where and how fast work is done: a run may go on with other values.
PLACEMENT = frozenset(
    {
        "batch_size",
        "threads",
        "gpus_per_worker",
        "num_workers",
        "compile",
        "gallery",
        "follow_every_s",
    }
)


class PredictSettings(JobSettings):
    """Score images: how likely each is AI-generated, by a detector."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "fpr": "is an option of calibrate: `imaginet calibrate --fpr 0.01 …` writes a detector "
        "that decides at that rate; --threshold P decides at a probability"
    }

    renamed: ClassVar[Mapping[str, str]] = {
        "protocol": "perturbation",
        "gpus": "gpus_per_worker",
        "workers": "num_workers",
    }

    detector: Uri = Field(
        description="folder or bucket prefix of a detector, a Hugging Face folder or "
        "hf://OWNER/NAME[@REVISION], an ONNX file, or a Python file with predict(images)"
    )
    synthetic_labels: tuple[str, ...] = SYNTHETIC_LABELS
    input: Uri = Field(
        description="image, folder, bucket prefix, pattern, list (.txt), table of paths, addresses "
        "or images (.csv, .parquet), manifest, .tar, or hf://datasets/OWNER/NAME[/CONFIG][@REV]"
    )
    root: Uri | None = Field(
        None, description="where the paths of a list or table start; its own folder if none"
    )
    column: str | None = Field(
        None, description="of a table, with the paths or images; found by its name if none"
    )
    scheme: Packaged = Field(
        "imaginet", description="label scheme of a list, or of a manifest, if your own"
    )
    view: View | None = Field(
        None, description="how images of any size are seen; the detector's own view if none"
    )
    view_size: int | None = Field(
        None, ge=8, description="side of a view in pixels; its own if none"
    )
    perturbation: Packaged | None = Field(
        None, description="how images are disturbed before they are scored, by name or file"
    )
    seed: int = Field(42, ge=0, description="of the perturbation's draws")
    follow: bool = Field(
        False, description="score what is new or changed since the last such run, drop what is gone"
    )
    follow_every_s: float | None = Field(
        None,
        ge=1,
        description="with follow: seconds from one look to the next, until it is stopped; one look "
        "if none",
    )
    stream: bool | None = Field(
        None,
        description="images are read and scores written by workers, as a folder of tables; from "
        "100,000 images on if none",
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="probability from which on: synthetic; as calibrated if none"
    )
    trust_declared: TrustDeclared = Field(
        "none",
        description="whose word on its own origin goes before the detector's: signed: of files "
        "whose signature is verified; any: of any file whose signature is not broken; none: what "
        "files declare is shown beside",
    )
    trust_list: Uri | None = Field(
        None,
        description="certificates (PEM) to which a C2PA signer's must lead to count as verified",
    )
    stability: Stability = Field(
        "none",
        description="web: score each image also as it is delivered elsewhere (smaller and "
        "compressed, cropped, with bars); a verdict that flips is unsure. Takes up to five times "
        "as long",
    )
    maps: bool = Field(
        False,
        description="keep where in each picture the detector sees what, of a head on a ViT's "
        "patches; of the view tiles that is always kept",
    )
    precision: Precision = Field(
        "auto",
        description="exact: float32; bf16; auto: bf16 where the hardware has it and it moves no "
        "probability of a few of the images by more than 0.005",
    )
    batch_size: int | None = Field(
        None, ge=1, description="views of a forward pass; by measured memory if none"
    )
    threads: int = Field(1, ge=1, description="CPU threads of a forward pass, and CPUs of a worker")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of one worker; 0: CPU")
    num_workers: int | None = Field(
        None, ge=1, description="workers at most; as many as fit if none"
    )
    compile: bool = Field(
        False, description="compile the network too; pays on a GPU from thousands of images on"
    )
    gallery: int = Field(500, ge=0, description="images in gallery.html; 0: no gallery")

    _labelled = model_validator(mode="before")(labelled)

    @model_validator(mode="after")
    def _every_goes_with_follow(self) -> Self:
        if self.follow_every_s is not None and not self.follow:
            raise ValueError("follow_every_s goes with follow")
        return self
