"""Features of a ViT's tokens: the class token's, the patches' mean, or attention over patches.

Shapes: N images · P patches, gh × gw of them · F features: C channels of each layer side by side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rayapp.models.detector_spec import Pool


class TokenPool(nn.Module):
    """Class token [N, F] and patch tokens [N, P, F] → features [N, F].

    Args:
        kind: `cls` the class token; `mean` of the patches; `attention`: the mean of the patches
            weighted by softmax over P of tokens · query / √F. The query is learned, and zero at
            first: training starts from the mean.
        layers: blocks whose tokens stand side by side.
        num_channels: C.
    """

    def __init__(self, kind: Pool, layers: Sequence[int], num_channels: int) -> None:
        super().__init__()
        self.kind, self.layers = kind, tuple(layers)
        self.num_features = len(self.layers) * num_channels
        if kind == "attention":
            self.query = nn.Parameter(torch.zeros(self.num_features))

    def forward(self, class_NF: Tensor, patches_NPF: Tensor) -> Tensor:
        """Features [N, F]."""
        if self.kind == "cls":
            return class_NF
        if self.kind == "mean":
            return patches_NPF.mean(1)
        return (self.attention(patches_NPF)[..., None] * patches_NPF).sum(1)

    def attention(self, patches_NPF: Tensor) -> Tensor:
        """How much each patch counts [N, P]; each row adds up to 1."""
        num_patches = patches_NPF.shape[1]
        if self.kind != "attention":
            return patches_NPF.new_full(patches_NPF.shape[:2], 1 / num_patches)
        scores_NP = patches_NPF @ self.query.to(patches_NPF.dtype) / self.num_features**0.5
        attention_NP: Tensor = scores_NP.softmax(1)
        return attention_NP
