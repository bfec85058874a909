"""Whether the network takes images of the sides that it will be given: tried on no values.

On torch's meta device a tensor is a shape alone, so that the largest network answers at once.
Shapes: N images · C H W.
"""

import torch

from rayapp.config.errors import UserError
from rayapp.models.encoder import Network
from rayapp.models.networks import build_network
from rayapp.train.training_job import STAGE2, Job
from rayapp.transforms.operations import SizeHW

# Of patches of 16 and of 14 px, and what networks of convolutions are given.
_USUAL = {*range(16, 513, 16), *range(14, 519, 14)}


def check_sizes(job: Job) -> None:
    """Nothing where the network takes the detector's view, and the crops of each stage.

    Crops whose size depends on the image are known later, see `check_crops`.

    Raises:
        UserError: it does not; the line says which side it takes.
    """
    network = _on_meta(job)
    for stage in job.stages:
        on_features = stage.name == STAGE2 and job.settings.feature_cache
        if stage.perturbation.size_HW and not on_features:
            check_crops(job, stage.name, stage.perturbation.size_HW, network)
    view_HW = job.spec.preprocessing.shape_HW
    if why := _why_not(network, view_HW):
        said = f"views of {view_HW[0]} × {view_HW[1]} px"
        raise _refused(said, "view_size", job, network, view_HW, why)


def check_crops(job: Job, stage: str, size_HW: SizeHW, network: Network | None = None) -> None:
    """Nothing where the network takes a stage's crops.

    Raises:
        UserError: it does not.
    """
    network = network or _on_meta(job)
    if why := _why_not(network, size_HW):
        said = f"{stage}: crops of {size_HW[0]} × {size_HW[1]} px"
        raise _refused(said, f"{stage}.crop_px", job, network, size_HW, why)


def _on_meta(job: Job) -> Network:
    with torch.device("meta"):
        return build_network(job.spec.architecture).eval()


def _why_not(network: Network, size_HW: SizeHW) -> str:
    """What the network has against images of this size; empty: nothing."""
    images_NCHW = torch.zeros(2, 3, *size_HW, device="meta")
    try:
        with torch.no_grad():
            (network.features if network.pool else network.encoder)(images_NCHW)
    except NotImplementedError:  # of an operation that knows no shapes alone, nothing is told
        return ""
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ""


def _refused(
    said: str, option: str, job: Job, network: Network, size_HW: SizeHW, why: str
) -> UserError:
    built_for = network.encoder.backbone.blank_image("meta").shape[2]
    near = sorted({*_USUAL, built_for}, key=lambda side: abs(side - size_HW[0]))
    taken = next((side for side in near if not _why_not(network, (side, side))), None)
    advice = f"set {option} {taken}" if taken else "take another backbone"
    return UserError(f"{said} don't fit {job.spec.architecture.backbone}: {why}; {advice}")
