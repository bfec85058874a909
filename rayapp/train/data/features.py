"""Features of a frozen encoder, kept on disk: a probe trains on them in seconds.

Shapes: N items · C features.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import safetensors.torch
import torch
from torch import Tensor

from rayapp.models.distributed.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.models.inference.linear_layers import linear_by_onednn
from rayapp.run.progress import Progress
from rayapp.storage.uris import open_store
from rayapp.train.data.crops import Batch
from rayapp.train.data.items import TrainItem
from rayapp.train.data.views import scored
from rayapp.train.training_job import Job, RankContext

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
    uri: str, network: Network, job: Job, items: Sequence[TrainItem], rank_context: RankContext
) -> CachedFeatures:
    """The features of all items: read where they were made before, made by all ranks otherwise."""
    store = open_store(f"{uri}/{_key(network, job)}")
    network.eval()
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    mine = [
        chunk for chunk in chunks[rank_context.rank :: num_ranks()] if not store.stat(_name(chunk))
    ]
    on_cpu = rank_context.device.type == "cpu"
    faster = cast("Network", linear_by_onednn(network)) if on_cpu else network
    # One pass over all that is missing, so that processes that read ahead start once.
    missing = [item for chunk in mine for item in chunk]
    found = _told(scored(faster.features, missing, job, rank_context), len(missing), rank_context)
    for chunk in mine:
        features = [feature for _, feature in itertools.islice(found, len(chunk))]
        none = torch.full((network.num_features,), torch.nan)
        features_NC = torch.stack([none if isinstance(f, str) else f for f in features])
        store.put(_name(chunk), safetensors.torch.save({"features": features_NC}))
    # Every rank has written its chunks; on a GPU only the value, not the call, waits for that.
    float(global_sum(torch.zeros(1, device=rank_context.device)))
    parts = [safetensors.torch.load(store.get(_name(chunk)))["features"] for chunk in chunks]
    return CachedFeatures(torch.cat(parts), items)


def _told(
    found: Iterator[tuple[TrainItem, Tensor | str]], num_items: int, rank_context: RankContext
) -> Iterator[tuple[TrainItem, Tensor | str]]:
    """What is found, while it is said how far that is; of several ranks each has its share."""
    progress = Progress("features", num_items, stream=io.StringIO())  # for its words alone
    share = f" (worker {rank_context.rank})" if num_ranks() > 1 else ""
    for one in found:
        progress.update(failed=isinstance(one[1], str))
        rank_context.tell(f"{progress.line()}{share}")
        yield one


def _key(network: Network, job: Job) -> str:
    """What the features depend on: the backbone with its weights and strides, and the view."""
    backbone, architecture = network.encoder.backbone, job.spec.architecture
    digest = hashlib.sha256(json.dumps(sorted(backbone.strides().items())).encode())
    digest.update(json.dumps(sorted(architecture.options.items())).encode())
    digest.update(job.spec.preprocessing.hash.encode())
    digest.update(f"{job.settings.root}\0{architecture.backbone}".encode())
    if network.pool:
        digest.update(f"{network.pool.kind}\0{network.pool.layers}".encode())
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _name(chunk: Sequence[TrainItem]) -> str:
    ids = "\0".join(item.id for item in chunk).encode()
    return f"{hashlib.sha256(ids).hexdigest()[:32]}.safetensors"
