"""The loss of the detector as it will be used, on items that it does not train on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rayapp.images import ImageError
from rayapp.models.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.models.preprocessing import cut_views, normalise
from rayapp.train.crops import PictureSource, open_source
from rayapp.train.items import TrainItem
from rayapp.train.job import Job, Place
from rayapp.transforms import Window


def validation_loss(network: Network, job: Job, place: Place) -> tuple[float, dict[str, str]]:
    """Mean cross-entropy over the validation items of all ranks, and what could not be read."""
    network.eval()
    total = torch.zeros(2, dtype=torch.float64)
    failures = {}
    source = open_source(job.settings.root)
    mine = job.validation[place.rank :: num_ranks()]
    with torch.inference_mode():
        for item in mine:
            try:
                views_KCHW = item_views(item, source, job).to(place.device)
            except (ImageError, OSError) as error:
                failures[item.id] = f"{type(error).__name__}: {error}"
                continue
            logits = network(views_KCHW).float().mean(0, keepdim=True).cpu()
            total += torch.tensor([_loss(logits, torch.tensor([item.target])), 1.0])
    loss, count = global_sum(total.to(place.device)).tolist()
    return loss / max(count, 1), failures


def item_views(item: TrainItem, source: PictureSource, job: Job) -> Tensor:
    """The item's image as the detector will see it: normalised views float32 [K, C, H, W]."""
    picture = source.open(item)
    pixels_HWC = picture.read(Window(0, 0, *picture.size_HW))
    preprocessing = job.spec.preprocessing
    return normalise(torch.from_numpy(cut_views(pixels_HWC, preprocessing)), preprocessing)


def _loss(logits: Tensor, targets: Tensor) -> float:
    # Not the losses of rayapp.models: those speak to all ranks, and ranks hold uneven numbers here.
    if logits.ndim == 1:
        return float(F.binary_cross_entropy_with_logits(logits, targets.float()))
    return float(F.cross_entropy(logits, targets))
