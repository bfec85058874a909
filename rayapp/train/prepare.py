"""From settings to the job: what may be wrong in them is found before anything starts."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from rayapp.config.defaults import __version__
from rayapp.config.errors import UserError
from rayapp.config.paths import portable
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_lists
from rayapp.dataset.manifest import read_table
from rayapp.models.backbones import check_start, normalisation, resize_filter
from rayapp.models.detector import DetectorSpec
from rayapp.models.detector_spec import Architecture, Labels, Preprocessing
from rayapp.models.folder import load_detector, read_spec
from rayapp.models.networks import build_network
from rayapp.models.pretrained import read_weights
from rayapp.models.scope import Images, Scope
from rayapp.run import record
from rayapp.storage.uris import read_uri, split_uri
from rayapp.train.accepted_sizes import check_sizes
from rayapp.train.data.batches import MOST_OF_BATCH
from rayapp.train.data.items import (
    LOSS_COLUMNS,
    ORIGIN,
    TrainItem,
    describe,
    train_items,
    with_groups,
)
from rayapp.train.settings import PLACEMENT, StageSettings, TrainSettings
from rayapp.train.training_job import STAGE1, STAGE2, Job, Stage
from rayapp.transforms.perturbations import Perturbation, load_perturbation


def make_job(settings: TrainSettings) -> tuple[Job, dict[str, str]]:
    """The job, and the hashes of what goes into it.

    Raises:
        UserError: no such list, scheme, perturbation or backbone, nothing to tell apart, or images
            of a size that the network does not take.
    """
    scheme = load_scheme(settings.scheme)
    inputs = {"root": settings.root}
    labels = describe(scheme, settings.target)
    head_lists = settings.head_annotations or settings.annotations
    for uri in {*settings.annotations, *head_lists, *settings.validation}:
        inputs[uri] = sha256(read_uri(uri))
    if settings.manifest:
        inputs[settings.manifest] = sha256(read_uri(settings.manifest))
    stages = _stages(settings, head_lists, scheme, inputs)
    validation = []
    if settings.validation:
        validation = train_items(read_lists(settings.validation, scheme), settings.target)
        validation = _with_class(validation, settings, settings.validation)
    if settings.encoder:
        inputs[settings.encoder] = _encoder_hash(settings)
    own, weights = settings.backbone_weights, None
    if own:
        data = read_uri(own)
        inputs[own], weights = sha256(data), read_weights(data, own)
    built = settings.built
    check_start(built.backbone, built.options, settings.pretrained, weights)
    items = [item for stage in stages for item in stage.items]
    lists = tuple(dict.fromkeys((*settings.annotations, *settings.head_annotations)))
    scope = Scope(about=settings.about or "", trained=_images(items, lists, scheme))
    spec = _spec(settings, labels, inputs, scope)
    by_generator = "generator" in scheme.columns
    job = Job(settings, spec, tuple(stages), tuple(validation), by_generator)
    check_sizes(job)
    return job, inputs


def _stages(
    settings: TrainSettings, head_lists: Sequence[str], scheme: LabelScheme, inputs: dict[str, str]
) -> list[Stage]:
    """The stages that have epochs, with their items; hashes of the perturbations go to `inputs`."""
    groups = _groups(settings.manifest)
    stages = []
    for name, stage, uris in (
        (STAGE1, settings.stage1, settings.annotations),
        (STAGE2, settings.stage2, head_lists),
    ):
        if not stage.epochs:
            continue
        perturbation = _ending(load_perturbation(stage.perturbation), stage)
        inputs[f"perturbation of {name}"] = perturbation.hash
        second = None
        if settings.consistency and name == STAGE1:
            second = _ending(load_perturbation(settings.consistency.perturbation), stage).second()
            inputs["perturbation of consistency"] = second.hash
        items = train_items(read_lists(uris, scheme), settings.target)
        if len(items) < 2:
            raise UserError(f"{', '.join(uris)}: one image only, and {name} compares several")
        if settings.manifest:
            items = with_groups(items, groups)
            _check_groups(items, stage.batch_size, name)
        if name == STAGE2 or settings.loss == "ce":
            items = _with_class(items, settings, uris)
        if settings.ingest == "stream" and len(items) < stage.batch_size:
            raise UserError(
                f"{', '.join(uris)}: {len(items)} images are less than a batch of {name} "
                f"({stage.batch_size}), and ingest stream has whole batches only"
            )
        stages.append(Stage(name, stage, perturbation, items, second=second))
    return stages


def _ending(perturbation: Perturbation, stage: StageSettings) -> Perturbation:
    """The perturbation, with the crop that the stage ends it in.

    Raises:
        UserError: it makes several images of one.
    """
    if perturbation.variants:
        several = ", ".join(list(perturbation.variants)[:3])
        raise UserError(
            f"perturbation {perturbation.name}: makes variants of an image ({several}, …), and "
            "training takes one; give a perturbation of steps alone"
        )
    return perturbation.ending_in_crop(stage.crop_px) if stage.crop_px else perturbation


def open_run(settings: TrainSettings, inputs: Mapping[str, str]) -> record.Run:
    """The run at the settings' output: new, to be resumed, or done; on whatever machines.

    Raises:
        UserError: the output belongs to another run.
    """
    return record.start(
        "train",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )


def _groups(manifest_uri: str | None) -> dict[str, str | None]:
    """Path → group of the images in a manifest.

    Raises:
        UserError: it has no such columns.
    """
    if manifest_uri is None:
        return {}
    table = read_table(*split_uri(manifest_uri))
    for column in ("path", "group"):
        if column not in table.column_names:
            raise UserError(f"{manifest_uri}: has no column {column}")
    paths = (item_id(path) for path in table["path"].to_pylist())
    return dict(zip(paths, table["group"].to_pylist(), strict=True))


def _check_groups(items: Sequence[TrainItem], batch_size: int, stage: str) -> None:
    """Nothing where groups fit in batches.

    Raises:
        UserError: one is too large.
    """
    ((group, count),) = Counter(item.group for item in items if item.group).most_common(1)
    if count > batch_size // MOST_OF_BATCH:
        raise UserError(
            f"{stage}.batch_size {batch_size}: group {group} has {count} images, and a batch "
            f"{MOST_OF_BATCH} times as many at least"
        )


def _with_class(
    items: list[TrainItem], settings: TrainSettings, uris: Sequence[str]
) -> list[TrainItem]:
    """The items that have a class of the target.

    Raises:
        UserError: fewer than two classes are among them.
    """
    chosen = [item for item in items if item.target >= 0]
    if len({item.target for item in chosen}) < 2:
        raise UserError(f"{', '.join(uris)}: one {settings.target} only, nothing to tell apart")
    return chosen


def _encoder_hash(settings: TrainSettings) -> str:
    """Hash of the detector whose encoder is taken.

    Raises:
        UserError: there is none, or its encoder is not the one that the settings describe.
    """
    assert settings.encoder
    detector = load_detector(settings.encoder)
    theirs, ours = detector.spec.architecture, settings.built
    for name in ("backbone", "options", "tap_depths"):
        if getattr(theirs, name) != getattr(ours, name):
            raise UserError(
                f"encoder {settings.encoder}: its {name} is {getattr(theirs, name)!r}, "
                f"architecture says {getattr(ours, name)!r}"
            )
    return detector.hash()


def _images(items: Sequence[TrainItem], lists: tuple[str, ...], scheme: LabelScheme) -> Images:
    """What is trained on, each image once; its date is added when the detector is written."""
    labels = {item.id: dict(zip(LOSS_COLUMNS, item.labels, strict=True)) for item in items}
    if ORIGIN not in scheme.columns:
        return Images(lists=lists)
    synthetic = [codes for codes in labels.values() if codes[ORIGIN]]
    column = next((name for name in ("generator", "model") if name in scheme.columns), None)
    codes = sorted({one[column] for one in synthetic}) if column else []
    return Images(
        lists=lists,
        num_real=len(labels) - len(synthetic),
        num_synthetic=len(synthetic),
        generators=tuple(scheme.names(column)[code] for code in codes) if column else (),
    )


def _spec(
    settings: TrainSettings, labels: Labels, inputs: Mapping[str, str], scope: Scope
) -> DetectorSpec:
    outputs = 1 if settings.target == ORIGIN else len(labels.classes)
    head = settings.built.head.model_copy(update={"num_outputs": outputs})
    architecture: Architecture = settings.built.model_copy(update={"head": head})
    with torch.device("meta"):
        strides = build_network(architecture).encoder.backbone.strides()
    return DetectorSpec(
        architecture=architecture,
        strides=strides,
        preprocessing=_preprocessing(settings, architecture.backbone),
        labels=labels,
        provenance={
            "code": __version__,
            "settings": portable(settings.model_dump(mode="json", exclude={"output", "overwrite"})),
            "inputs": portable(dict(inputs)),
        },
        scope=scope,
    )


def _preprocessing(settings: TrainSettings, backbone: str) -> Preprocessing:
    """The view that is asked for, as what the training starts from saw its images."""
    if settings.encoder:  # of another's, with its mean, deviation and filter
        return read_spec(settings.encoder)[0].preprocessing.seen_as(
            settings.view, settings.view_size
        )
    mean, std = normalisation(backbone)
    pretrained = settings.pretrained or settings.backbone_weights is not None
    return Preprocessing(
        view=settings.view,
        size=settings.view_size,
        filter=resize_filter(backbone) if pretrained and settings.view == "resize" else None,
        mean=mean,
        std=std,
    )
