"""Training without Ray, on one rank of a pool."""

import copy

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from rayapp.train.engine import Engine
from rayapp.train.job import Place
from rayapp.train.plan import plan
from rayapp.train.settings import TrainSettings


def weights_on_rank(settings: TrainSettings) -> dict[str, torch.Tensor]:
    """The trained network's weights and statistics, as this rank has them."""
    alone = dist.get_world_size() == 1
    place = Place(
        dist.get_rank(),
        wrap=None if alone else lambda m: DistributedDataParallel(m, broadcast_buffers=False),
    )
    engine = Engine(plan(settings)[0], place)
    list(engine.epochs())
    return copy.deepcopy(engine.network.state_dict())
