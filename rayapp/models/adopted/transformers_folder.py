"""A Hugging Face folder as a detector: `config.json`, `model.safetensors`, the processor's file.

Nothing else of the folder is read, and what is read is data: no pickle, no code.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.models.adopted.checks import check_inside, read_json, without_placement
from rayapp.models.adopted.class_names import synthetic_classes
from rayapp.models.adopted.hub import fetched
from rayapp.models.adopted.hub_uris import HUB
from rayapp.models.adopted.processors import (
    CONFIG_FILE,
    NESTED,
    NESTED_FILE,
    PROCESSOR_FILE,
    read_processor,
)
from rayapp.models.adopted.spec import Adopted
from rayapp.models.adopted.transformers_network import build, check_takes, labels_of, require
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings
from rayapp.models.scope import Scope
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl")
ONE_LOGIT = HeadSettings(norm="none", hidden=0)


def load(uri: str, labels: Sequence[str] = ()) -> Detector:
    """The detector in a folder or on the hub, in evaluation mode.

    Args:
        uri: local path, `s3://…` or `hf://OWNER/NAME[@REVISION]`.
        labels: names of the classes that mean synthetic, where their words do not tell.

    Raises:
        UserError: files that lack, that are refused, or that do not belong together; classes of
            which it is not clear what they mean.
    """
    require()
    store = open_store(fetched(uri) if uri.startswith(HUB) else uri)
    config = without_placement(read_json(store, CONFIG_FILE))
    processor = _processor(store)
    files = _weight_files(store)
    classes = labels_of(config, uri)
    gives = _gives(config, len(classes), uri)
    synthetic = synthetic_classes(classes, uri, labels, several=gives == "softmax")
    if gives == "logit" and len(synthetic) > 1:
        raise UserError(
            f"{uri}: its classes do not exclude each other, so they do not add up: name the one "
            "that means synthetic, --synthetic-labels NAME"
        )
    adopted = Adopted(
        kind="transformers", classes=classes, synthetic=synthetic, gives=gives, config=config
    )
    preprocessing = read_processor(config, processor, uri)
    tensors, hashes = _tensors(store, files)
    network = build(adopted, tensors, uri)
    check_takes(network, preprocessing.shape_HW, uri)
    kind = str(config["model_type"])
    spec = DetectorSpec(
        architecture=Architecture(backbone=str(config.get("architecture", kind)), head=ONE_LOGIT),
        strides={},
        preprocessing=preprocessing,
        adopted=adopted,
        provenance={"from": uri, "sha256": hashes},
        scope=Scope(about=f"Hugging Face image classifier ({kind}) of {uri}"),
    )
    return Detector(network, spec)


def _processor(store: Store) -> dict[str, Any] | None:
    """Settings of the processor of images, from the file that transformers itself would take."""
    if store.stat(NESTED_FILE) and NESTED in (whole := read_json(store, NESTED_FILE)):
        found = whole[NESTED]
        if not isinstance(found, dict):
            raise UserError(f"{store.uri(NESTED_FILE)}: {NESTED}: a JSON object is wanted")
        return found
    return read_json(store, PROCESSOR_FILE) if store.stat(PROCESSOR_FILE) else None


def _gives(config: Mapping[str, Any], num_classes: int, where: str) -> Literal["softmax", "logit"]:
    """How the pipeline of transformers reads the outputs."""
    problem = config.get("problem_type")
    if problem == "regression":
        raise UserError(f"{where}: a regression gives no probability")
    return "logit" if num_classes == 1 or problem == "multi_label_classification" else "softmax"


def _weight_files(store: Store) -> list[str]:
    """The safetensors files that the folder consists of."""
    if store.stat(_WEIGHTS) is not None:
        names = [_WEIGHTS]
    elif store.stat(_INDEX) is not None:
        shards = read_json(store, _INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(v, str) for v in shards.values()):
            raise UserError(f"{store.uri(_INDEX)}: names no files of weights")
        names = sorted(set(shards.values()))
    else:
        there = itertools.islice((one.key for one in store.list()), 1000)
        pickles = [name for name in there if name.endswith(_PICKLES)]
        why = (
            f", only {pickles[0]}, which may carry code and is not opened: save it as safetensors"
            if pickles
            else ""
        )
        raise UserError(f"{store.uri()}: has no {_WEIGHTS}{why}")
    for name in names:
        check_inside(store, name)
        if not name.endswith(".safetensors"):
            raise UserError(f"{store.uri(name)}: refused: weights come as safetensors only")
        if store.stat(name) is None:
            raise UserError(f"{store.uri(name)}: no such file; the folder is not whole")
    return names


def _tensors(store: Store, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of the files, and the hash of each file."""
    tensors: dict[str, Tensor] = {}
    hashes = {}
    for name in names:
        try:
            data = store.get(name)
            hashes[name] = sha256(data)
            tensors |= safetensors.torch.load(data)
        except (safetensors.SafetensorError, ValueError):
            raise UserError(f"{store.uri(name)}: not a safetensors file") from None
    return tensors, hashes
