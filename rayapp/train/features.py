"""Features of a frozen encoder, kept on disk: a probe trains on them in seconds.

Shapes: N items · C features.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from rayapp.images import ImageError
from rayapp.models.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.storage import Store, open_store
from rayapp.train.crops import Batch, PictureSource, open_source
from rayapp.train.items import TrainItem
from rayapp.train.job import Job, Place
from rayapp.train.validation import item_views

_CHUNK = 256  # items of one file


@dataclass(frozen=True)
class CachedFeatures:
    """Features float32 [N, C] of a list's items, in its order; rows of NaN could not be read."""

    features_NC: Tensor
    items: Sequence[TrainItem]

    def batch(self, step: Sequence[tuple[int, int]]) -> Batch:
        """The features of a step's (epoch, index) pairs."""
        indices = [index for _, index in step]
        rows = self.features_NC[indices]
        good = ~rows.isnan().any(1)
        chosen = [self.items[index] for index in indices]
        failures = {item.id: "unreadable" for item, ok in zip(chosen, good, strict=True) if not ok}
        kept = [item for item, ok in zip(chosen, good, strict=True) if ok]
        labels = torch.tensor([item.labels for item in kept])
        return Batch(rows[good], labels, torch.tensor([item.target for item in kept]), failures)


def feature_items(
    uri: str, network: Network, job: Job, items: Sequence[TrainItem], place: Place
) -> CachedFeatures:
    """The features of all items: read where they were made before, made by all ranks otherwise."""
    store = open_store(f"{uri}/{_key(network, job)}")
    source = open_source(job.settings.root)
    network.eval()
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    mine = range(len(chunks))[place.rank :: num_ranks()]
    for number in mine:
        if store.stat(_name(chunks[number])) is None:
            features_NC = torch.stack(
                [_features(item, source, network, job, place) for item in chunks[number]]
            )
            store.put(_name(chunks[number]), safetensors.torch.save({"features": features_NC}))
    global_sum(torch.zeros(1, device=place.device))  # every rank has written its chunks
    return CachedFeatures(torch.cat([_read(store, chunk) for chunk in chunks]), items)


def _features(
    item: TrainItem, source: PictureSource, network: Network, job: Job, place: Place
) -> Tensor:
    try:
        views_KCHW = item_views(item, source, job)
    except (ImageError, OSError):
        return torch.full((network.encoder.num_features,), torch.nan)
    with torch.inference_mode():
        return network.features(views_KCHW.to(place.device)).float().mean(0).cpu().clone()


def _read(store: Store, chunk: Sequence[TrainItem]) -> Tensor:
    features_NC: Tensor = safetensors.torch.load(store.get(_name(chunk)))["features"]
    return features_NC


def _key(network: Network, job: Job) -> str:
    """What the features depend on: weights and strides of the backbone, and the view."""
    backbone = network.encoder.backbone
    digest = hashlib.sha256(json.dumps(sorted(backbone.strides().items())).encode())
    digest.update(job.spec.preprocessing.hash.encode())
    digest.update(f"{job.settings.root}\0{job.spec.architecture.backbone}".encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _name(chunk: Sequence[TrainItem]) -> str:
    ids = "\0".join(item.id for item in chunk).encode()
    return f"{hashlib.sha256(ids).hexdigest()[:32]}.safetensors"
