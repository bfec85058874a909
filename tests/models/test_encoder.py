import pytest
import torch
import torch.nn.functional as F

from rayapp.models.backbones import create_backbone
from rayapp.models.encoder import ClassificationHead, Encoder, Network, ProjectionHeads


def make_encoder(*tap_depths: float) -> Encoder:
    torch.manual_seed(0)
    options = {"width": 4, "depth": 4}
    return Encoder(create_backbone("highpass-small", tap_depths=tap_depths, options=options))


@pytest.mark.parametrize("tap_depths", [(), (0.5,), (0.3, 0.7)])
def test_exits_end_with_the_backbone(tap_depths: tuple[float, ...]) -> None:
    encoder = make_encoder(*tap_depths).eval()
    images = torch.rand(3, 3, 32, 32)
    exits = encoder(images)
    assert exits.shape == (3, len(tap_depths) + 1, 16)
    torch.testing.assert_close(exits[:, -1], encoder.features(images))
    embeddings = ProjectionHeads(16, encoder.num_exits, 8)(exits)
    assert embeddings.shape == (3, encoder.num_exits, 8)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3, encoder.num_exits))


def test_every_weight_of_the_exits_learns() -> None:
    encoder = make_encoder(0.5)
    heads = ProjectionHeads(16, 2, 8)
    heads(encoder(torch.rand(4, 3, 32, 32)))[..., 0].sum().backward()
    for module in (encoder, heads):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name


def test_head_is_the_papers() -> None:
    torch.manual_seed(0)
    head = ClassificationHead(6, hidden=10).eval()
    assert isinstance(head.norm, torch.nn.BatchNorm1d)
    assert head.hidden[2].p == 0.2
    head.norm.running_mean.normal_()
    x = torch.randn(4, 6)
    h = (x - head.norm.running_mean) / (head.norm.running_var + head.norm.eps).sqrt()
    h = F.relu(h @ head.hidden[0].weight.T + head.hidden[0].bias)
    torch.testing.assert_close(head(x), (h @ head.output.weight.T + head.output.bias)[:, 0])


def test_head_on_unit_length_ignores_scale() -> None:
    head = ClassificationHead(6, norm="length", hidden=0, num_outputs=4)
    x = torch.randn(5, 6)
    assert head(x).shape == (5, 4)
    torch.testing.assert_close(head(3 * x), head(x))


def test_linear_probe_is_one_linear_map() -> None:
    head = ClassificationHead(6, norm="none", hidden=0)
    assert {name for name, _ in head.named_parameters()} == {"output.weight", "output.bias"}
    x = torch.randn(5, 6)
    torch.testing.assert_close(head(x), F.linear(x, head.output.weight, head.output.bias)[:, 0])


def test_network_scores_the_backbone_exit() -> None:
    encoder = make_encoder(0.5)
    network = Network(encoder, ClassificationHead(16, hidden=8)).eval()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(network(images), network.head(encoder(images)[:, -1]))
