"""What a training run is made of: lists, network, loss, two stages, and where it runs."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.paths import OutputUri, Packaged, Uri
from rayapp.config.settings import JobSettings, Settings
from rayapp.models.detector_spec import Architecture, LoraSettings

# Where training runs and how it is kept going: a run may be resumed with other ones.
PLACEMENT = frozenset(
    {
        "num_workers",
        "min_workers",
        "resize_check_s",
        "max_failures",
        "gpus_per_worker",
        "cpus_per_worker",
        "threads",
        "loader_processes",
    }
)
# Every rank gets an image in every step, and BatchNorm more than one, down to a quarter of a batch.
_MIN_PER_RANK = 4


class StageSettings(Settings):
    """One stage of training: how its images are augmented, and how its weights move."""

    renamed: ClassVar[Mapping[str, str]] = {"protocol": "perturbation"}

    perturbation: Packaged = Field(
        description="augmentation: a shipped perturbation's name, or a YAML file"
    )
    crop_px: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="side of a random square that ends the perturbation; none: it ends itself",
    )
    epochs: int = Field(ge=0, description="passes over the list; 0: the stage is left out")
    batch_size: int = Field(ge=8, description="images of one step, of all workers together")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="sgd or adamw")
    learning_rate: float = Field(gt=0, description="at its peak, after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.0, ge=0, description="L2 in sgd, decoupled in adamw")
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="factor on the learning rate of a layer of the backbone for each layer above "
        "it; none: all learn alike",
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up, then cosine")


class ConsistencySettings(Settings):
    """Terms that hold two perturbations of one image together (DCPT, arXiv 2604.10102)."""

    perturbation: Packaged = Field(
        description="of the second view, drawn apart from the first: a shipped one, or a YAML file"
    )
    features: float = Field(
        1.0, ge=0, description="weight of 1 - cosine of the two views' features"
    )
    logits: float = Field(
        1.0, ge=0, description="weight of the symmetric KL of the two views' probabilities"
    )


class TrainSettings(JobSettings):
    """Train a detector: stage 1 the encoder, stage 2 a head on the frozen encoder."""

    renamed: ClassVar[Mapping[str, str]] = {"gpu": "gpus_per_worker"}

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists of stage 1")
    head_annotations: tuple[Uri, ...] = Field(
        (), description="annotation lists of stage 2; those of stage 1 where not given"
    )
    validation: tuple[Uri, ...] = Field(
        (), description="annotation lists that choose the best epoch; none: the last is taken"
    )
    root: Uri = Field(description="folder, bucket prefix or tile store that holds the images")
    manifest: Uri | None = Field(
        None,
        description="the images' manifest: those of one group, as a photograph and its partner "
        "(reconstruct), stand in one batch",
    )
    shared_draws: float = Field(
        0.0,
        ge=0,
        le=1,
        description="chance that images of one group are cut and disturbed alike in an epoch",
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    target: str = Field("origin", description="label column that the detector tells; see classes")
    architecture: Architecture = Field(description="backbone, taps and head")
    about: str | None = Field(
        None, description="what the detector is, in a line: whoever uses it reads that first"
    )
    pretrained: bool = Field(False, description="start from timm's published weights")
    backbone_weights: Uri | None = Field(
        None,
        description="safetensors file, in timm's names, of pretrained weights to start from; timm "
        "then fetches none",
    )
    encoder: Uri | None = Field(
        None, description="detector folder whose trained encoder to start from"
    )
    view: Literal["centre", "five", "tiles", "resize"] = Field(
        "centre", description="how the detector will look at an image; see its preprocessing"
    )
    view_size: int = Field(256, ge=8, description="side of such a view in px")
    loss: Literal["selfcon", "supcon", "ce"] = Field(
        "selfcon", description="of stage 1: contrast of all exits, of the last one, cross-entropy"
    )
    temperature: float = Field(0.07, gt=0, description="of the contrastive losses")
    base_temperature: float = Field(0.07, gt=0, description="at which the gradient keeps its size")
    weights: tuple[float, float] = Field(
        (1.0, 1.0), description="of the contrast by origin and of that by generator"
    )
    embedding_size: int = Field(128, ge=2, description="dimensions in which images are contrasted")
    stage1: StageSettings = Field(description="training of the encoder")
    stage2: StageSettings = Field(description="training of the head")
    feature_cache: OutputUri | None = Field(
        None,
        description="folder or, for workers on several machines, bucket prefix for features of the "
        "frozen encoder: stage 2 is then a probe on them, of the detector's own views without "
        "augmentation",
    )
    lora: LoraSettings | None = Field(
        None,
        description="in stage 1, adapt the backbone, a ViT, Swin or ConvNeXt of timm's, by maps of "
        "low rank, which are merged into its weights in the detector; none: train it whole",
    )
    consistency: ConsistencySettings | None = Field(
        None, description="in stage 1 with loss ce, hold two views of an image together"
    )
    # As torch takes them.
    seed: int = Field(
        42,
        ge=-(1 << 63),
        lt=1 << 63,
        description="seed of weights, order, augmentation and dropout",
    )
    ingest: Literal["indexed", "stream"] = Field(
        "indexed",
        description="indexed: batches by index, the same on any number of workers and after a "
        "kill; stream: Ray Data brings crops as they come, for lists too large for every worker to "
        "hold; whole batches only, and NOT reproducible",
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast; losses in fp32")
    channels_last: bool = Field(False, description="memory format of the images and weights")
    compile: bool = Field(False, description="compile the network with torch.compile")
    checkpoint_activations: bool = Field(
        False, description="compute activations twice instead of keeping them: less memory"
    )
    num_workers: int = Field(
        1,
        ge=0,
        description="Ray Train workers; one on a CPU trains in the job's own process, unless "
        "--on-ray or a cluster asks for Ray; 0: there in any case",
    )
    min_workers: int | None = Field(
        None, ge=1, description="go on with so many while others are lost; none: wait for all"
    )
    resize_check_s: float = Field(
        60.0, gt=0, description="seconds between looks whether lost workers can come back"
    )
    max_failures: int = Field(3, ge=0, description="restarts from the last checkpoint")
    gpus_per_worker: int = Field(0, ge=0, le=1, description="GPUs of one worker: 1, or 0 for CPU")
    cpus_per_worker: float = Field(
        0.5, gt=0, description="CPUs that Ray reserves for a worker; less than all it has"
    )
    threads: int = Field(1, ge=1, le=1024, description="torch threads of a worker")
    loader_processes: int = Field(
        0, ge=0, description="processes of a worker that read images ahead; 0: it reads itself"
    )

    @model_validator(mode="after")
    def _workers_fit(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is above num_workers")
        for name in ("stage1", "stage2"):
            stage: StageSettings = getattr(self, name)
            if stage.epochs and stage.batch_size < _MIN_PER_RANK * self.num_workers:
                raise ValueError(
                    f"{name}.batch_size {stage.batch_size} is too small for {self.num_workers} "
                    f"workers; give at least {_MIN_PER_RANK * self.num_workers}"
                )
        if self.loss != "ce" and not self.stage2.epochs:
            raise ValueError("stage2.epochs is 0: only loss ce trains a head in stage 1")
        if self.encoder is not None and self.pretrained:
            raise ValueError("encoder and pretrained both say where to start; set one of them")
        if self.encoder is not None and self.backbone_weights is not None:
            raise ValueError("encoder and backbone_weights both say where to start; set one")
        if self.shared_draws and self.manifest is None:
            raise ValueError("shared_draws: goes with manifest, which holds the groups")
        if self.ingest == "stream":
            self._streams_fit()
        self._adaptation_fits()
        if not self.stage1.epochs and not self.stage2.epochs:
            raise ValueError("both stages have 0 epochs")
        return self

    def _adaptation_fits(self) -> None:
        """Pools, LoRA and consistency where the stage that they are for can use them."""
        for name in ("lora", "consistency"):
            if getattr(self, name) is not None and not self.stage1.epochs:
                raise ValueError(f"{name} is for stage 1, and stage1.epochs is 0")
        if self.consistency is not None and (self.loss != "ce" or self.ingest == "stream"):
            raise ValueError("consistency wants loss ce and ingest indexed")
        if self.consistency is not None and self.architecture.tap_depths:
            raise ValueError("consistency is of the backbone's own features: set no tap_depths")
        pool = self.architecture.head.pool
        if pool is not None and self.loss != "ce" and self.stage1.epochs:
            raise ValueError("architecture.head.pool: stage 1 trains it with loss ce only")
        if pool == "attention" and self.feature_cache is not None:
            raise ValueError(
                "architecture.head.pool attention is trained on tokens; a feature_cache keeps "
                "pooled features only: leave one out"
            )

    def _streams_fit(self) -> None:
        """Ray Data deals out equal parts, and knows neither indices, features nor groups."""
        if self.manifest is not None:
            raise ValueError("ingest stream keeps no groups together; leave manifest out")
        if not self.num_workers or self.min_workers is not None or self.feature_cache is not None:
            raise ValueError(
                "ingest stream wants num_workers above 0, no min_workers and no feature_cache"
            )
        for stage in (self.stage1, self.stage2):
            if stage.epochs and stage.batch_size % self.num_workers:
                raise ValueError(
                    f"ingest stream wants batches that {self.num_workers} workers share evenly, "
                    f"not {stage.batch_size}"
                )

    @property
    def built(self) -> Architecture:
        """The architecture that is trained: supcon has no use for sub-networks."""
        if self.loss == "supcon":
            return self.architecture.model_copy(update={"tap_depths": ()})
        return self.architecture
