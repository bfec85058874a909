"""What is trained: an encoder with early exits, projections for the loss, heads for the answer.

Shapes: N images · V exits (sub-networks first, the backbone last) · C features · D embedding
· K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayapp.config.errors import UserError

if TYPE_CHECKING:
    from rayapp.models.backbones import Backbone
    from rayapp.models.detector_spec import HeadNorm
    from rayapp.models.token_pool import TokenPool


class Encoder(nn.Module):
    """Backbone with one sub-network a tap: mean over positions, then a linear map to C features.

    Source: the "fc" sub-network of Bae et al., Self-Contrastive Learning, arXiv 2106.15499.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features = backbone.num_features
        self.num_exits = len(backbone.tap_channels) + 1
        self.subnetworks = nn.ModuleList(
            nn.Linear(channels, self.num_features) for channels in backbone.tap_channels
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Features of all exits [N, V, C]; the backbone's are the last."""
        maps, features_NC = self.backbone(images_NCHW)
        exits = [net(tap.mean((2, 3))) for net, tap in zip(self.subnetworks, maps, strict=True)]
        return torch.stack([*exits, features_NC], dim=1)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """Features of the backbone's exit alone [N, C]; skips the sub-networks."""
        return self.backbone.features(images_NCHW)


class ProjectionHeads(nn.Module):
    """One multilayer perceptron an exit: features [N, V, C] → embeddings [N, V, D] of length 1."""

    def __init__(self, num_features: int, num_exits: int, embedding_size: int = 128) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(num_features, num_features),
                nn.ReLU(inplace=True),
                nn.Linear(num_features, embedding_size),
            )
            for _ in range(num_exits)
        )

    def forward(self, features_NVC: Tensor) -> Tensor:
        """Embeddings [N, V, D] of unit length."""
        exits = zip(self.heads, features_NVC.unbind(1), strict=True)
        return F.normalize(torch.stack([head(exit_NC) for head, exit_NC in exits], dim=1), dim=-1)


class ClassificationHead(nn.Module):
    """Features [N, C] → logits: [N] for one output, [N, K] for several.

    Args:
        num_features: C.
        norm: of the features: `batch` BatchNorm1d, `length` to unit length, `none`.
        projection: width of a linear map of the features before all else; None: without.
        hidden: width of the hidden layer (linear, ReLU, dropout); 0: none, a linear probe.
        dropout: probability of dropping a hidden unit in training.
        num_outputs: 1: one binary logit; K: one logit a class.
    """

    def __init__(
        self,
        num_features: int,
        *,
        norm: HeadNorm = "batch",
        projection: int | None = None,
        hidden: int = 1024,
        dropout: float = 0.2,
        num_outputs: int = 1,
    ) -> None:
        super().__init__()
        self.projection: nn.Module = nn.Identity()
        if projection:
            self.projection = nn.Linear(num_features, projection)
            num_features = projection
        norms = {
            "batch": nn.BatchNorm1d(num_features),
            "length": UnitLength(),
            "none": nn.Identity(),
        }
        self.norm = norms[norm]
        self.hidden: nn.Module = nn.Identity()
        if hidden:
            self.hidden = nn.Sequential(
                nn.Linear(num_features, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
            )
        self.output = nn.Linear(hidden or num_features, num_outputs)

    def forward(self, features_NC: Tensor) -> Tensor:
        """Logits [N] or [N, K]."""
        logits: Tensor = self.output(self.hidden(self.norm(self.projection(features_NC))))
        return logits[:, 0] if logits.shape[1] == 1 else logits


class UnitLength(nn.Module):
    """Scales each feature vector to length 1."""

    def forward(self, features_NC: Tensor) -> Tensor:
        """Features [N, C] of unit length."""
        return F.normalize(features_NC, dim=-1)


class Network(nn.Module):
    """Encoder and head: normalised images float32 [N, 3, H, W] → logits [N] or [N, K].

    With a `pool` the head is on tokens of the backbone, which must be a ViT.
    """

    def __init__(
        self, encoder: Encoder, head: ClassificationHead, pool: TokenPool | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pool = pool

    @property
    def num_features(self) -> int:
        """Width of what the head is given."""
        return self.pool.num_features if self.pool else self.encoder.num_features

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits [N] of the backbone's exit, or [N, K]."""
        logits: Tensor = self.head(self.features(images_NCHW))
        return logits

    def features(self, images_NCHW: Tensor) -> Tensor:
        """Pooled features of the backbone [N, C], before the head."""
        if self.pool is None:
            return self.encoder.features(images_NCHW)
        class_NF, patches_NHWF = self.encoder.backbone.tokens(images_NCHW, self.pool.layers)
        features_NF: Tensor = self.pool(class_NF, patches_NHWF.flatten(1, 2))
        return features_NF

    def patch_logits(self, images_NCHW: Tensor) -> Tensor:
        """What the head says of each patch alone [N, gh, gw], or [N, gh, gw, K].

        Raises:
            UserError: the features are not a mean of patches.
        """
        _, patches_NHWF = self._patches(images_NCHW)
        grid = patches_NHWF.shape[:3]
        logits: Tensor = self.head(patches_NHWF.flatten(0, 2))
        return logits.view(*grid, *logits.shape[1:])

    def patch_attention(self, images_NCHW: Tensor) -> Tensor:
        """How much each patch counts in the features [N, gh, gw]; each image's add up to 1."""
        pool, patches_NHWF = self._patches(images_NCHW)
        return pool.attention(patches_NHWF.flatten(1, 2)).view(patches_NHWF.shape[:3])

    def _patches(self, images_NCHW: Tensor) -> tuple[TokenPool, Tensor]:
        if self.pool is None or self.pool.kind == "cls":
            raise UserError(
                "the head is not on patches: train one with head.pool mean or attention"
            )
        return self.pool, self.encoder.backbone.tokens(images_NCHW, self.pool.layers)[1]

    @property
    def backbones(self) -> list[Backbone]:
        """Its backbone, in a list."""
        return [self.encoder.backbone]


class Ensemble(nn.Module):
    """Networks of one architecture whose logits are averaged."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Mean logits [N] or [N, K]."""
        return torch.stack([network(images_NCHW) for network in self.networks]).mean(0)

    def features(self, images_NCHW: Tensor) -> Tensor:
        """Pooled features of all backbones, one after the other [N, C]."""
        found = [cast(Network, network).features(images_NCHW) for network in self.networks]
        return torch.cat(found, dim=1)

    @property
    def backbones(self) -> list[Backbone]:
        """One of each network."""
        return [cast(Network, network).encoder.backbone for network in self.networks]
