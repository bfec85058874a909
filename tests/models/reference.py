"""A ResNet-50 of plain torch layers with the key names of published checkpoints."""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        after = 4 * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcut_name = shortcut
        path: list[nn.Module] = []
        if stride != 1 or before != after:
            path = [nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)]
        if path or shortcut == "shortcut":
            setattr(self, shortcut, nn.Sequential(*path))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        path = getattr(self, self.shortcut_name, None)
        return torch.relu(self.bn3(self.conv3(y)) + (x if path is None else path(x)))


class ResNet50(nn.Module):
    """Strides as in `resnet50nodown`: 1 in the stem, then 1, 2, 2, 2."""

    def __init__(self, shortcut: str = "downsample", stem_stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stem_stride, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stem_stride, 1)
        before = 64
        for number, (width, depth) in enumerate(
            zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)
        ):
            blocks = []
            for block in range(depth):
                stride = 2 if number and not block else 1
                blocks.append(Bottleneck(before, width, stride, shortcut))
                before = 4 * width
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return x.mean((2, 3))


def unsettle(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and statistics of BatchNorm, as after training, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
                tensor.normal_(0, fan_in**-0.5, generator=generator)
                if tensor.ndim == 1 and name.endswith("weight"):
                    tensor.add_(0.5)
    return module.eval()
