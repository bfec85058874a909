from collections.abc import Callable

import torch

from rayapp.models.losses import multilabel_selfcon_loss, selfcon_loss
from rayapp.models.networks import build_network
from rayapp.train.objectives import Classifier, Contrastive, HeadOnly, create_objective
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings

Tiny = Callable[..., TrainSettings]

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[n % 2, 0, n % 3 if n % 2 else 4, 0] for n in range(6)])


def _made(settings: TrainSettings, stage: str = "stage1", by_generator: bool = True):
    network = build_network(make_job(settings)[0].spec.architecture)
    return create_objective(network, stage, settings, by_generator)


def test_contrast_is_by_origin_and_generator_where_there_are_generators(tiny: Tiny) -> None:
    settings = tiny(temperature=0.2, weights=[1.0, 0.5])
    objective = _made(settings)
    assert isinstance(objective, Contrastive)
    embeddings = objective(IMAGES)
    assert embeddings.shape == (6, 2, 8)
    expected = multilabel_selfcon_loss(embeddings, LABELS, temperature=0.2, weights=(1.0, 0.5))
    assert torch.equal(objective.loss(embeddings, LABELS, LABELS[:, 0]), expected)
    plain = _made(settings, by_generator=False).loss(embeddings, LABELS, LABELS[:, 0])
    assert torch.equal(plain, selfcon_loss(embeddings, LABELS[:, 0], temperature=0.2))


def test_supcon_has_one_exit(tiny: Tiny) -> None:
    assert _made(tiny(loss="supcon"))(IMAGES).shape == (6, 1, 8)


def test_cross_entropy_trains_every_exit(tiny: Tiny) -> None:
    objective = _made(tiny(loss="ce"))
    assert isinstance(objective, Classifier)
    logits = objective(IMAGES)
    assert logits.shape == (6, 2)
    objective.loss(logits, LABELS, LABELS[:, 0]).backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_identification_has_a_logit_a_class_and_ignores_real_images(tiny: Tiny) -> None:
    objective = _made(tiny(target="model"), "stage2")
    logits = objective(IMAGES)
    assert logits.shape == (6, 1, 4)
    targets = torch.tensor([-1, 1, -1, 0, -1, 2])
    loss = objective.loss(logits, LABELS, targets)
    expected = torch.nn.functional.cross_entropy(logits[1::2, 0], targets[1::2])
    torch.testing.assert_close(loss, expected)


def test_the_head_learns_on_an_encoder_that_stands_still(tiny: Tiny) -> None:
    objective = _made(tiny(), "stage2").train()
    assert isinstance(objective, HeadOnly)
    assert not objective.network.encoder.training
    assert objective.network.head.training
    before = {k: v.clone() for k, v in objective.network.encoder.state_dict().items()}
    objective.loss(objective(IMAGES), LABELS, LABELS[:, 0]).backward()
    assert all(p.grad is None for p in objective.network.encoder.parameters())
    after = objective.network.encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
