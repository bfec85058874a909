"""Settings of a benchmark."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from rayapp.config.paths import Packaged, Uri, absolute_uri
from rayapp.config.settings import JobSettings, Settings

ROOT = "{root}"


def _list(uri: str) -> str:
    return uri if ROOT in uri else absolute_uri(uri)


ListUri = Annotated[str, AfterValidator(_list)]  # a Uri, or one below `{root}`


class Lists(Settings):
    """The annotation lists of each step; `{root}/…` names one that the download brings."""

    train: tuple[ListUri, ...] = Field(min_length=1, description="lists that train the encoder")
    head: tuple[ListUri, ...] = Field((), description="lists that train the head; train's if none")
    calibration: ListUri = Field(description="list on which the detector is calibrated")
    test: tuple[ListUri, ...] = Field(min_length=1, description="lists that it is measured on")


class Expected(Settings):
    """How many images the lists name, for an estimate that is made before the lists are there."""

    train: int = Field(0, ge=0, description="images of lists.train")
    head: int = Field(0, ge=0, description="images of lists.head")
    test: int = Field(0, ge=0, description="images of lists.calibration and lists.test")


class Reckoning(Settings):
    """The machines that the estimate reckons with."""

    cpus: int = Field(16, ge=1, description="CPUs at work together")
    gpus: int = Field(0, ge=0, description="GPUs at work together")
    mb_per_s: float = Field(200.0, gt=0, description="bytes to and from the store, of all nodes")


class BenchmarkSettings(JobSettings):
    """Rebuild a benchmark, train a detector on it, calibrate and measure it: all in one run."""

    renamed: ClassVar[Mapping[str, str]] = {"plan": "estimate"}

    root: Uri | None = Field(None, description="folder of the images; <output>/images if none")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    lists: Lists = Field(description="annotation lists of each step")
    list_sources: tuple[str, ...] = Field((), description="catalogue entries that hold the lists")
    sources: tuple[str, ...] = Field(
        (), description="catalogue entries to download; none: the images are in place"
    )
    recipe: Packaged = Field(description="recipe of training: a name in configs/, or a file")
    clean: bool = Field(False, description="measure the test images as they are, too")
    tiles: bool = Field(False, description="train on lossless tiles, packed once")
    seed: int = Field(42, description="seed of perturbation, training and resampling")
    download: dict[str, Any] = Field({}, description="more settings of the download")
    prune: dict[str, Any] = Field(
        {}, description="more settings of pruning; it removes nothing, unless they say apply"
    )
    perturb: dict[str, Any] = Field({}, description="more settings of perturbation")
    train: dict[str, Any] = Field({}, description="changes of the recipe")
    predict: dict[str, Any] = Field({}, description="more settings of prediction")
    calibrate: dict[str, Any] = Field({}, description="more settings of calibration")
    evaluate: dict[str, Any] = Field({}, description="more settings of evaluation")
    report: dict[str, Any] = Field({}, description="more settings of the report")
    estimate: bool = Field(False, description="print what each step will take, and stop")
    expected: Expected = Field(Expected(), description="images of the lists, where not there yet")
    reckoning: Reckoning = Field(Reckoning(), description="machines of the estimate")
