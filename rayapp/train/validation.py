"""The loss of the detector as it will be used, on items that it does not train on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rayapp.config.errors import JobFailed
from rayapp.models.distributed.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.train.data.views import scored
from rayapp.train.training_job import Job, RankContext


def validation_loss(
    network: Network, job: Job, rank_context: RankContext
) -> tuple[float, dict[str, str]]:
    """Mean cross-entropy over the validation items of all ranks, and what could not be read.

    Raises:
        JobFailed: nothing could.
    """
    network.eval()
    total = torch.zeros(2, dtype=torch.float64)
    failures = {}
    mine = job.validation[rank_context.rank :: num_ranks()]
    for item, logits in scored(network, mine, job, rank_context):
        if isinstance(logits, str):
            failures[item.id] = logits
        else:
            total += torch.tensor([_loss(logits[None], torch.tensor([item.target])), 1.0])
    loss, count = global_sum(total.to(rank_context.device)).tolist()
    if not count:
        raise JobFailed(f"none of {len(job.validation)} validation images could be read")
    return loss / count, failures


def _loss(logits: Tensor, targets: Tensor) -> float:
    # Not the losses of rayapp.models: those speak to all ranks, and ranks hold uneven numbers here.
    if logits.ndim == 1:
        return float(F.binary_cross_entropy_with_logits(logits, targets.float()))
    return float(F.cross_entropy(logits, targets))
