"""What each stage trains: a module from images to what its loss takes, and that loss.

Shapes: N images of this rank · V exits · D embedding · K classes.
The loss is this rank's share of the whole batch's, see rayapp.models.losses.
"""

from collections.abc import Sequence
from typing import Protocol, Self, cast

import torch
from torch import Tensor, nn

from rayapp.models.encoder import ClassificationHead, Encoder, Network, ProjectionHeads
from rayapp.models.lora import train_lora_only
from rayapp.models.losses import (
    ORIGIN,
    class_cross_entropy,
    consistency_loss,
    cross_entropy,
    multilabel_selfcon_loss,
    selfcon_loss,
)
from rayapp.train.settings import ConsistencySettings, TrainSettings
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
        if self.network.pool is not None:
            return cast(Tensor, self.network(images_NCHW)).unsqueeze(1)
        exits = self.network.encoder(images_NCHW).unbind(1)
        heads = [*self.extra, self.network.head]
        return torch.stack([head(exit) for head, exit in zip(heads, exits, strict=True)], dim=1)

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy, the mean over exits."""
        return _classified(output, targets_N)


class ConsistentClassifier(nn.Module):
    """Features and logits of two views of each image, classified, and held together."""

    def __init__(self, network: Network, terms: ConsistencySettings) -> None:
        super().__init__()
        self.network = network
        self.extra = nn.ModuleList()
        self._weights = {"feature_weight": terms.features, "logit_weight": terms.logits}

    def forward(self, images_MCHW: Tensor) -> Tensor:
        """[M, C + K]: features, then logits; rows 2n and 2n + 1 of M = 2N are those of image n."""
        features_MC = self.network.features(images_MCHW)
        logits: Tensor = self.network.head(features_MC)
        return torch.cat([features_MC, logits.view(len(logits), -1)], 1)

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy of all views, and the consistency of the two of an image."""
        pairs = output.view(len(targets_N), 2, -1)
        num_features = self.network.num_features
        features, logits = pairs[:, :, :num_features], pairs[:, :, num_features:]
        if logits.shape[2] == 1:
            logits = logits[:, :, 0]
        apart = consistency_loss(features, logits, **self._weights)
        return _classified(logits, targets_N) + apart


class HeadOnly(nn.Module):
    """Logits of the head on the frozen encoder, whose BatchNorm keeps its running statistics.

    The pool of a head on tokens is trained with it.
    """

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
        # Of the encoder's weights none asks for a gradient, a pool's do.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.network.pool is not None):
            features_NC = inputs if inputs.ndim == 2 else self.network.features(inputs)
        logits: Tensor = self.network.head(features_NC)
        return logits.unsqueeze(1)

    def loss(self, output: Tensor, labels_N4: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy."""
        return _classified(output, targets_N)


def set_trained(network: Network, stage: str) -> None:
    """Say of each weight whether a stage trains it.

    Stage 1 trains the network, of a backbone with LoRA only the maps of low rank; stage 2 the head
    and its pool. What has no say in the output is left out, as DDP wants.
    """
    network.requires_grad_(True)
    network.encoder.requires_grad_(stage != STAGE2)
    if stage != STAGE2:
        train_lora_only(network.encoder.backbone)
        if network.pool is not None:
            for parameter in network.encoder.backbone.beyond(network.pool.layers):
                parameter.requires_grad_(False)


def create_objective(
    network: Network, stage: str, settings: TrainSettings, by_generator: bool
) -> Contrastive | Classifier | ConsistentClassifier | HeadOnly:
    """What a stage trains of the network."""
    if stage == STAGE2:
        return HeadOnly(network)
    if settings.consistency:
        return ConsistentClassifier(network, settings.consistency)
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
