"""The networks of a fusion's parts, as one module whose weights are kept together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from rayapp.config.errors import UserError

if TYPE_CHECKING:
    from rayapp.models.backbones import Backbone
    from rayapp.models.fusion import Fusion


class FusedNetwork(nn.Module):
    """Networks that each see an image in their own way: only whole images can be given to them.

    Args:
        networks: of the parts, in the fusion's order.
        fusion: how their logits become one.
    """

    def __init__(self, networks: Sequence[nn.Module], fusion: Fusion) -> None:
        super().__init__()
        self.parts = nn.ModuleList(networks)
        self.fusion = fusion

    def features(self, images_NCHW: Tensor) -> Tensor:
        """None are had.

        Raises:
            UserError: always.
        """
        raise UserError("a fusion gives no features, only its answer; take those of a part")

    @property
    def backbones(self) -> list[Backbone]:
        """None of its own: each part's are checked with the part."""
        return []
