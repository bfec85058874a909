"""Self-contrastive and cross-entropy losses of the whole batch, on any number of ranks.

Shapes: N images of this rank · V exits of an image · D embedding · E logits of an image · K classes
· A anchors (the rows of this rank) · R rows (N·V of all ranks).

Each rank returns (W / M) · (sum over its own rows), with W ranks and M rows in the global batch.
With the gradient carried through the gather, and DDP's mean over ranks, every parameter then
receives exactly the gradient of the loss of the global batch in one process, for shards of any
size. A mean taken rank by rank would not: ranks hold different numbers of synthetic images.
The loss to log is the mean of what the ranks return.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rayapp.models.distributed.collectives import gather_rows, global_sum, num_ranks

# Columns of the annotation format; the content and model labels carry no term of the loss.
ORIGIN, GENERATOR = 0, 2
SYNTHETIC = 1
IGNORED_CLASS = -1


def selfcon_loss(
    features_NVD: Tensor,
    labels_N: Tensor | None = None,
    *,
    temperature: float = 0.07,
    base_temperature: float = 0.07,
) -> Tensor:
    """Self-contrastive loss over features_NVD [N, V, D] of unit length: mean over all N·V rows.

    Every exit of every image is an anchor. Its positives are all other rows with the same label
    (its own other exits among them), its candidates all other rows. Without labels each image is
    its own class. One exit (V = 1) is SupCon; an anchor without a positive then adds nothing to
    the sum.
    The factor temperature / base_temperature keeps the size of the gradient independent of the
    temperature. Similarities are taken in float32 or better, under autocast too.

    Source: Bae et al., Self-Contrastive Learning, AAAI 2023, arXiv 2106.15499;
    Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, arXiv 2004.11362.
    """
    with torch.autocast(features_NVD.device.type, enabled=False):
        candidates_NVD, offset = gather_rows(_at_least_float32(features_NVD))
        everyone = torch.arange(len(candidates_NVD), device=features_NVD.device)
        labels = everyone if labels_N is None else gather_rows(labels_N)[0]
        mine = everyone[offset : offset + len(features_NVD)]
        return _selfcon_term(candidates_NVD, labels, mine, temperature, base_temperature)


def multilabel_selfcon_loss(
    features_NVD: Tensor,
    labels_N4: Tensor,
    *,
    temperature: float = 0.07,
    base_temperature: float = 0.07,
    weights: Sequence[float] = (1.0, 1.0),
) -> Tensor:
    """SelfCon on origin over all images plus SelfCon on generator over the synthetic images only.

    Shapes: features_NVD [N, V, D] of unit length, labels_N4 [N, 4] the annotation's columns origin,
    content, generator, model; weights: of the origin term and of the generator term. A batch
    without any synthetic image has a generator term of zero.

    Source: Boychev and Cholakov, ImagiNet, arXiv 2407.20020.
    """
    origin_weight, generator_weight = weights
    with torch.autocast(features_NVD.device.type, enabled=False):
        candidates_NVD, offset = gather_rows(_at_least_float32(features_NVD))
        labels_N4 = gather_rows(labels_N4)[0]
        is_mine = torch.zeros(len(candidates_NVD), dtype=torch.bool, device=features_NVD.device)
        is_mine[offset : offset + len(features_NVD)] = True
        synthetic = labels_N4[:, ORIGIN] == SYNTHETIC
        origin = _selfcon_term(
            candidates_NVD,
            labels_N4[:, ORIGIN],
            is_mine.nonzero()[:, 0],
            temperature,
            base_temperature,
        )
        generator = _selfcon_term(
            candidates_NVD[synthetic],
            labels_N4[synthetic, GENERATOR],
            is_mine[synthetic].nonzero()[:, 0],
            temperature,
            base_temperature,
        )
        return origin_weight * origin + generator_weight * generator


def cross_entropy(logits_NE: Tensor, origin_N: Tensor) -> Tensor:
    """Binary cross-entropy of logits [N] or [N, E] (E exits) and origin [N] (1 synthetic): mean."""
    logits = _at_least_float32(logits_NE)
    targets = origin_N.to(logits.dtype).view(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
    with torch.autocast(logits.device.type, enabled=False):
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _global_mean(losses, torch.ones_like(losses, dtype=torch.bool))


def class_cross_entropy(logits_NK: Tensor, classes_N: Tensor) -> Tensor:
    """Softmax cross-entropy of logits [N, K] and classes [N]: mean over images not of class -1."""
    counted = classes_N != IGNORED_CLASS
    with torch.autocast(logits_NK.device.type, enabled=False):
        losses = F.cross_entropy(
            _at_least_float32(logits_NK), classes_N, ignore_index=IGNORED_CLASS, reduction="none"
        )
    return _global_mean(losses, counted)


def consistency_loss(
    features_N2C: Tensor, logits: Tensor, *, feature_weight: float, logit_weight: float
) -> Tensor:
    """How far two views of an image are apart: mean over images, 0 where they are alike.

    feature_weight · (1 - cosine of the features) + logit_weight · ½ (KL(p, q) + KL(q, p)), with p
    and q the two views' probabilities.

    Shapes: features_N2C [N, 2, C]; logits [N, 2], or [N, 2, K] of K classes.

    Source: DCPT, arXiv 2604.10102.
    """
    features_N2C, logits = _at_least_float32(features_N2C), _at_least_float32(logits)
    with torch.autocast(logits.device.type, enabled=False):
        apart_N = 1 - F.cosine_similarity(features_N2C[:, 0], features_N2C[:, 1], dim=1)
        if logits.ndim == 2:  # of one logit the second class has 0
            logits = torch.stack([logits, torch.zeros_like(logits)], 2)
        logs_N2K = logits.log_softmax(2)
        # KL(p, q) + KL(q, p) = Σ (p - q) (log p - log q)
        change_NK = logs_N2K.exp()[:, 0] - logs_N2K.exp()[:, 1]
        symmetric_N = (change_NK * (logs_N2K[:, 0] - logs_N2K[:, 1])).sum(1) / 2
        losses = feature_weight * apart_N + logit_weight * symmetric_N
    return _global_mean(losses, torch.ones_like(losses, dtype=torch.bool))


def _selfcon_term(
    rows_NVD: Tensor, labels_N: Tensor, mine_n: Tensor, temperature: float, base_temperature: float
) -> Tensor:
    """One term over all rows of the global batch; mine_n: which of the images are this rank's."""
    num_images, num_exits = rows_NVD.shape[:2]
    candidates_RD = rows_NVD.flatten(0, 1)
    labels_R = labels_N.repeat_interleave(num_exits)
    exits = torch.arange(num_exits, device=mine_n.device)
    anchors_A = (mine_n[:, None] * num_exits + exits).flatten()

    itself_AR = torch.zeros(
        len(anchors_A), len(candidates_RD), dtype=torch.bool, device=mine_n.device
    ).scatter_(1, anchors_A[:, None], True)
    positive_AR = (labels_R[anchors_A, None] == labels_R) & ~itself_AR
    logits_AR = candidates_RD[anchors_A] @ candidates_RD.T / temperature
    # Not -inf: an anchor without any other candidate would have a gradient of NaN.
    others_AR = logits_AR.masked_fill(itself_AR, torch.finfo(logits_AR.dtype).min)
    log_probability_AR = logits_AR - others_AR.logsumexp(1, keepdim=True)
    mean_over_positives_A = log_probability_AR.where(positive_AR, 0).sum(1) / positive_AR.sum(
        1
    ).clamp(min=1)
    num_rows = max(num_images * num_exits, 1)
    scale = temperature / base_temperature * num_ranks() / num_rows
    return -scale * mean_over_positives_A.sum()


def _global_mean(losses: Tensor, counted: Tensor) -> Tensor:
    """This rank's share of the mean over all counted losses of all ranks, times the ranks."""
    num_counted = global_sum(counted.sum()).clamp(min=1)
    return losses.where(counted, 0).sum() * num_ranks() / num_counted


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
