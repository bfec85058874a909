"""What each stage trains: a module from images to what its loss takes, and that loss.

Shapes: N images of this rank · V exits · D embedding · K classes.
The loss is this rank's share of the whole batch's, see rayapp.models.losses.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from rayapp.models.encoder import ClassificationHead, Encoder, Network, ProjectionHeads
from rayapp.models.losses import (
    ORIGIN,
    class_cross_entropy,
    cross_entropy,
    multilabel_selfcon_loss,
    selfcon_loss,
)
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import STAGE2


class Objective(Protocol):
    """The contract of the modules below; `extra` are the modules that no detector keeps."""

    extra: nn.ModuleList

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """This rank's share of the loss of the whole batch."""


class Contrastive(nn.Module):
    """Embeddings of all exits, contrasted by origin and, where labelled, by generator."""

    def __init__(
        self,
        encoder: Encoder,
        embedding_size: int,
        *,
        temperature: float,
        base_temperature: float,
        weights: Sequence[float],
        by_generator: bool,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        projection = ProjectionHeads(encoder.num_features, encoder.num_exits, embedding_size)
        self.extra = nn.ModuleList([projection])
        self._temperatures = {"temperature": temperature, "base_temperature": base_temperature}
        self._weights, self._by_generator = weights, by_generator

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Embeddings [N, V, D] of unit length."""
        embeddings: Tensor = self.extra[0](self.encoder(images_NCHW))
        return embeddings

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """SelfCon; with one exit SupCon."""
        if self._by_generator:
            return multilabel_selfcon_loss(
                output, labels_N4, weights=self._weights, **self._temperatures
            )
        return self._weights[0] * selfcon_loss(output, labels_N4[:, ORIGIN], **self._temperatures)


class Classifier(nn.Module):
    """Logits of every exit, each by its own head; the backbone's head is the detector's."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        encoder, outputs = network.encoder, network.head.output.out_features
        self.extra = nn.ModuleList(
            ClassificationHead(encoder.num_features, norm="none", hidden=0, num_outputs=outputs)
            for _ in range(encoder.num_exits - 1)
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits [N, V], or [N, V, K]; the detector's are the last."""
        exits = self.network.encoder(images_NCHW).unbind(1)
        heads = [*self.extra, self.network.head]
        return torch.stack([head(exit) for head, exit in zip(heads, exits, strict=True)], dim=1)

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy, the mean over exits."""
        return _classified(output, targets_N)


class HeadOnly(nn.Module):
    """Logits of the head on the frozen encoder, whose BatchNorm keeps its running statistics."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.extra = nn.ModuleList()

    def train(self, mode: bool = True) -> Self:
        """The head alone changes mode."""
        super().train(mode)
        self.network.encoder.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [N, 1], or [N, 1, K], of images [N, C, H, W] or of features [N, C]."""
        with torch.no_grad():
            features_NC = inputs if inputs.ndim == 2 else self.network.features(inputs)
        logits: Tensor = self.network.head(features_NC)
        return logits.unsqueeze(1)

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy."""
        return _classified(output, targets_N)


def create_objective(
    network: Network, stage: str, settings: TrainSettings, by_generator: bool
) -> Contrastive | Classifier | HeadOnly:
    """What a stage trains of the network."""
    if stage == STAGE2:
        return HeadOnly(network)
    if settings.loss == "ce":
        return Classifier(network)
    return Contrastive(
        network.encoder,
        settings.embedding_size,
        temperature=settings.temperature,
        base_temperature=settings.base_temperature,
        weights=settings.weights,
        by_generator=by_generator,
    )


def _classified(logits: Tensor, targets_N: Tensor) -> Tensor:
    if logits.ndim == 2:
        return cross_entropy(logits, targets_N)
    exits = [class_cross_entropy(logits_NK, targets_N) for logits_NK in logits.unbind(1)]
    return torch.stack(exits).mean()
