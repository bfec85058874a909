import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayapp.models.distributed.collectives import global_sum, num_ranks
from rayapp.models.losses import (
    class_cross_entropy,
    cross_entropy,
    multilabel_selfcon_loss,
    selfcon_loss,
)

TAU, TAU0, WEIGHTS = 0.11, 0.07, (1.0, 0.6)

# origin, content, generator, model. A lone generator (9), and unequal classes.
MIXED = [
    [0, 2, -1, -1],
    [1, 2, 0, 1],
    [1, 0, 0, 2],
    [0, 1, -1, -1],
    [1, 1, 9, 5],
    [1, 0, 3, 6],
    [0, 3, -1, -1],
    [1, 3, 3, 6],
    [1, 3, 0, 2],
]
REAL = [[0, content, -1, -1] for content in range(5)]
SYNTHETIC = [[1, 0, generator, 0] for generator in (0, 0, 1, 2, 1, 0)]


def unit_rows(num_images: int, num_exits: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_images, num_exits, 6, generator=generator, dtype=torch.float64)
    return F.normalize(rows, dim=-1)


def reference_term(features: Tensor, labels: list[int]) -> Tensor:
    """The loss as it is written, with a loop over anchors and a loop over their positives."""
    num_images, num_exits, _ = features.shape
    rows = [(i, v) for i in range(num_images) for v in range(num_exits)]
    total = features.sum() * 0
    for anchor in rows:
        others = [row for row in rows if row != anchor]
        similarity = {row: features[anchor] @ features[row] / TAU for row in others}
        positives = [row for row in others if labels[row[0]] == labels[anchor[0]]]
        for positive in positives:
            denominator = torch.stack([value.exp() for value in similarity.values()]).sum()
            ratio = similarity[positive].exp() / denominator
            total = total - (TAU / TAU0) / len(positives) * ratio.log()
    return total / max(len(rows), 1)


def reference_multilabel(features: Tensor, labels: list[list[int]]) -> Tensor:
    synthetic = [i for i, row in enumerate(labels) if row[0] == 1]
    origin = reference_term(features, [row[0] for row in labels])
    generator = reference_term(features[synthetic], [labels[i][2] for i in synthetic])
    return WEIGHTS[0] * origin + WEIGHTS[1] * generator


def assert_same(actual: Tensor, expected: Tensor, features: Tensor, tolerance: float) -> None:
    (gradient,) = torch.autograd.grad(actual, features)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_exits", [1, 2, 3])
@pytest.mark.parametrize("labels", [None, [0, 0, 0, 1, 1, 4, 2, 0]])
def test_selfcon_equals_the_double_loop(num_exits: int, labels: list[int] | None) -> None:
    features = unit_rows(8, num_exits).requires_grad_()
    loss = selfcon_loss(
        features,
        None if labels is None else torch.tensor(labels),
        temperature=TAU,
        base_temperature=TAU0,
    )
    assert_same(loss, reference_term(features, labels or list(range(8))), features, 1e-10)


@pytest.mark.parametrize("num_exits", [1, 2, 3])
@pytest.mark.parametrize("labels", [MIXED, REAL, SYNTHETIC, MIXED[:1]])
def test_multilabel_equals_the_double_loop(num_exits: int, labels: list[list[int]]) -> None:
    features = unit_rows(len(labels), num_exits).requires_grad_()
    loss = multilabel_selfcon_loss(
        features, torch.tensor(labels), temperature=TAU, base_temperature=TAU0, weights=WEIGHTS
    )
    assert_same(loss, reference_multilabel(features, labels), features, 1e-10)


def test_temperature_does_not_scale_the_gradient() -> None:
    def gradient_size(temperature: float) -> float:
        features = unit_rows(64, 2).requires_grad_()
        selfcon_loss(features, temperature=temperature).backward()
        assert features.grad is not None
        return float(features.grad.norm())

    # Without the factor τ/τ0 the ratio would be near 10.
    assert 0.3 < gradient_size(0.05) / gradient_size(0.5) < 3


def test_similarities_are_float32_under_autocast() -> None:
    features = unit_rows(16, 2).bfloat16().requires_grad_()
    plain = selfcon_loss(features.float())
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = selfcon_loss(features)
        assert (features[:, 0] @ features[:, 1].T).dtype == torch.bfloat16
    assert under_autocast.dtype == torch.float32
    torch.testing.assert_close(under_autocast, plain, rtol=1e-6, atol=0)


def test_cross_entropy_means_over_images_and_exits() -> None:
    logits = torch.tensor([[0.5, -1.0], [2.0, 0.0], [-3.0, 1.0]], dtype=torch.float64)
    origin = torch.tensor([1, 0, 1])
    expected = sum(
        math.log1p(math.exp(-z if y else z))
        for row, y in zip(logits.tolist(), origin.tolist(), strict=True)
        for z in row
    )
    assert float(cross_entropy(logits, origin)) == pytest.approx(expected / 6, abs=1e-12)
    assert float(cross_entropy(logits[:, 0], origin)) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits[:, 0], origin.double())), abs=1e-12
    )


def test_class_cross_entropy_skips_images_without_a_class() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64)
    classes = torch.tensor([2, -1, 0, -1])
    expected = F.cross_entropy(logits[[0, 2]], classes[[0, 2]])
    torch.testing.assert_close(class_cross_entropy(logits, classes), expected)
    assert float(class_cross_entropy(logits, torch.full((4,), -1))) == 0


# Several ranks. One shard has no synthetic image, all are of different size.
SHARDS = {1: [range(9)], 2: [[0, 3, 6], [1, 2, 4, 5, 7, 8]], 3: [[1, 2, 4, 7], [0, 3, 6], [5, 8]]}
LOSSES = ["selfcon", "unlabelled", "multilabel", "binary", "classes"]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 12)).double()


def images() -> Tensor:
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def loss_of(name: str, outputs: Tensor, labels: Tensor) -> Tensor:
    features = F.normalize(outputs.unflatten(1, (2, 6)), dim=-1)
    options = {"temperature": TAU, "base_temperature": TAU0}
    match name:
        case "selfcon":
            return selfcon_loss(features, labels[:, 2], **options)
        case "unlabelled":
            return selfcon_loss(features, **options)
        case "multilabel":
            return multilabel_selfcon_loss(features, labels, weights=WEIGHTS, **options)
        case "binary":
            return cross_entropy(outputs[:, :2], labels[:, 0])
        case "classes":
            return class_cross_entropy(outputs, labels[:, 2])
        case "naive":
            return reference_multilabel(features, labels.tolist())
    raise ValueError(name)


def rank_gradient(
    name: str, shard: list[int], labels: list[list[int]]
) -> tuple[float, list[float]]:
    """Logged loss and gradient under DDP, whose mean over ranks the losses count on."""
    torch.manual_seed(0)
    ddp = nn.parallel.DistributedDataParallel(network())
    loss = loss_of(name, ddp(images()[shard]), torch.tensor(labels)[shard])
    loss.backward()
    return float(global_sum(loss)) / num_ranks(), flat_gradient(ddp)


def flat_gradient(module: nn.Module) -> list[float]:
    gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(gradients).tolist()  # type: ignore[no-any-return]


def distance_to_one_process(ranks, name: str, num_ranks: int, labels: list[list[int]]) -> float:
    plain = network()
    reference = "multilabel" if name == "naive" else name
    loss = loss_of(reference, plain(images()), torch.tensor(labels))
    loss.backward()
    shards = SHARDS[num_ranks]
    answers = ranks.run(rank_gradient, [(name, list(shard), labels) for shard in shards])
    difference = torch.tensor([gradient for _, gradient in answers], dtype=torch.float64)
    worst = (difference - torch.tensor(flat_gradient(plain), dtype=torch.float64)).abs().max()
    assert name == "naive" or abs(answers[0][0] - loss.item()) < 1e-12
    return float(worst)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_on_ranks_is_that_of_one_process(ranks, name: str, num_ranks: int) -> None:
    assert distance_to_one_process(ranks, name, num_ranks, MIXED) <= 1e-12


@pytest.mark.parametrize("origin", [0, 1])
def test_batches_of_one_origin_on_ranks(ranks, origin: int) -> None:
    labels = [[origin, 0, i % 3 if origin else -1, 0] for i in range(9)]
    assert distance_to_one_process(ranks, "multilabel", 3, labels) <= 1e-12


def test_mean_taken_rank_by_rank_is_another_gradient(ranks) -> None:
    assert distance_to_one_process(ranks, "naive", 3, MIXED) > 1e-3
    assert distance_to_one_process(ranks, "naive", 1, MIXED) <= 1e-12
