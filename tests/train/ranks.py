"""Training without Ray, on one rank of a pool."""

import copy

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext


def weights_on_rank(settings: TrainSettings) -> dict[str, torch.Tensor]:
    """The trained network's weights and statistics, as this rank has them."""
    alone = dist.get_world_size() == 1
    rank_context = RankContext(
        dist.get_rank(),
        wrap=None if alone else lambda m: DistributedDataParallel(m, broadcast_buffers=False),
    )
    engine = Engine(make_job(settings)[0], rank_context)
    list(engine.epochs())
    return copy.deepcopy(engine.network.state_dict())
