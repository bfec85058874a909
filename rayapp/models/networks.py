"""Networks with fresh weights, as an architecture describes them."""

import copy
from typing import Any, cast

import torch

from rayapp.config.errors import UserError
from rayapp.models.backbones import Backbone, create_backbone
from rayapp.models.detector_spec import Architecture, HeadSettings
from rayapp.models.encoder import ClassificationHead, Encoder, Ensemble, Network
from rayapp.models.pretrained import Weights
from rayapp.models.token_pool import TokenPool


def build_network(
    architecture: Architecture, *, pretrained: bool = False, weights: Weights | None = None
) -> Network:
    """The network with fresh weights; the backbone's published ones with `pretrained`.

    With `weights` the backbone starts from these.

    Raises:
        UserError: see create_backbone.
    """
    if architecture.num_networks:
        raise UserError("num_networks: an average is of trained networks; train one at a time")
    backbone = create_backbone(
        architecture.backbone,
        pretrained,
        tap_depths=architecture.tap_depths,
        options=architecture.options,
        weights=weights,
    )
    pool = _token_pool(backbone, architecture.head)
    num_features = pool.num_features if pool else backbone.num_features
    settings = architecture.head.model_dump(exclude={"pool", "layers"})
    head = ClassificationHead(num_features, **settings)  # first: its weights are drawn, in order
    return Network(Encoder(backbone), head, pool)


def _token_pool(backbone: Backbone, settings: HeadSettings) -> TokenPool | None:
    if settings.pool is None:
        return None
    model = cast(Any, backbone.model)
    if not hasattr(model, "num_features") or not hasattr(model, "blocks"):
        raise UserError("head.pool wants a ViT of timm's, which has tokens")
    if settings.pool == "cls" and not getattr(model, "num_prefix_tokens", 0):
        raise UserError("head.pool cls: the backbone has no class token; take mean or attention")
    layers = settings.layers or (-1,)
    if len({layer % len(model.blocks) for layer in layers}) < len(layers):
        raise UserError(f"head.layers {list(layers)}: names a block twice")
    pool = TokenPool(settings.pool, layers, model.num_features)
    with torch.no_grad():  # what does not fit is refused here, not in the first batch
        copy.deepcopy(backbone).to("meta").tokens(backbone.blank_image("meta"), pool.layers)
    return pool


def build_scorer(architecture: Architecture) -> Network | Ensemble:
    """The network, or the several whose logits are averaged, with fresh weights."""
    if architecture.num_networks is None:
        return build_network(architecture)
    alone = architecture.model_copy(update={"num_networks": None})
    return Ensemble([build_network(alone) for _ in range(architecture.num_networks)])
