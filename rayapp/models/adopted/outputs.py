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


def as_logits(outputs_NK: Tensor, adopted: Adopted) -> Tensor:
    """Logits of synthetic float32 [N], whose sigmoid is what the network itself gives.

    Several synthetic classes add up in probability: logsumexp of these less that of the rest is
    the logit of the softmax's sum.
    """
    outputs_NK = outputs_NK.flatten(1).double()
    if outputs_NK.shape[1] != len(adopted.classes):
        raise UserError(
            f"the network gives {outputs_NK.shape[1]} outputs, {len(adopted.classes)} are named"
        )
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
