"""From the outputs of an adopted network to the logit of synthetic.

Shapes: N images · K outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rayapp.config.errors import UserError

if TYPE_CHECKING:
    from rayapp.models.adopted.spec import Adopted
    from rayapp.models.backbones import Backbone

_LEAST = 1e-12  # a probability nearer to 0 or 1 is not told from it


class AdoptedNetwork(nn.Module):
    """A network of others: normalised images float32 [N, 3, H, W] → logits of synthetic [N]."""

    def __init__(self, adopted: Adopted) -> None:
        super().__init__()
        self.adopted = adopted

    def outputs(self, images_NCHW: Tensor) -> Tensor:
        """What the network itself gives, float [N, K]."""
        raise NotImplementedError

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits of synthetic float32 [N]."""
        return as_logits(self.outputs(images_NCHW), self.adopted)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """None are had.

        Raises:
            UserError: always.
        """
        raise UserError("a detector of others gives no features, only its answer")

    @property
    def backbones(self) -> list[Backbone]:
        """None of ours."""
        return []


def trial_outputs(network: AdoptedNetwork, shape_HW: tuple[int, int], where: str) -> Tensor:
    """What the network gives of a black and a white image, float [2, K].

    Raises:
        UserError: it does not take images of this size, or gives other outputs than are named.
    """
    images_NCHW = torch.stack([torch.zeros(3, *shape_HW), torch.ones(3, *shape_HW)])
    try:
        with torch.inference_mode():
            outputs_NK = network.eval().outputs(images_NCHW).flatten(1)
            as_logits(outputs_NK, network.adopted)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a network of others may fail in any way
        height, width = shape_HW
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: it fails on images of {height}×{width} px, so it wants others: {why}"
        ) from None
    return outputs_NK


def as_logits(outputs_NK: Tensor, adopted: Adopted) -> Tensor:
    """Logits of synthetic float32 [N], whose sigmoid is what the network itself gives.

    Several synthetic classes add up in probability: logsumexp of these less that of the rest is
    the logit of the softmax's sum.
    """
    outputs_NK = outputs_NK.flatten(1).double()
    num_outputs, num_named = outputs_NK.shape[1], len(adopted.classes)
    if num_outputs != num_named:
        raise UserError(f"the network gives {num_outputs} outputs, {num_named} are named")
    chosen = torch.zeros(len(adopted.classes), dtype=torch.bool)
    chosen[list(adopted.synthetic)] = True
    if adopted.gives == "softmax":
        chosen = chosen.to(outputs_NK.device)
        logits_N = outputs_NK[:, chosen].logsumexp(1) - outputs_NK[:, ~chosen].logsumexp(1)
    elif adopted.gives == "probability":
        p_N = outputs_NK[:, list(adopted.synthetic) or [0]].sum(1).clamp(_LEAST, 1 - _LEAST)
        logits_N = torch.logit(p_N)
    else:
        logits_N = outputs_NK[:, list(adopted.synthetic) or [0]].squeeze(1)
    if not adopted.synthetic:  # the sole output means real
        logits_N = -logits_N
    return logits_N.float()
