"""CLIP's image tower of the ResNet kind, of plain torch layers under OpenAI's key names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            conv, norm = nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
            self.downsample = nn.Sequential()
            self.downsample.add_module("-1", nn.AvgPool2d(stride))
            self.downsample.add_module("0", conv)
            self.downsample.add_module("1", norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.avgpool(F.relu(self.bn2(self.conv2(y))))
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if self.downsample else x))


class AttentionPool(nn.Module):
    def __init__(self, side: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(side**2 + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).permute(0, 2, 1)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding

        def split(part: Tensor) -> Tensor:
            return part.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        queries, keys, values = (
            split(net(part))
            for net, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        return self.c_proj(
            F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)[:, 0]
        )


class ImageTower(nn.Module):
    """RN50 at 224 px: embedding of 1,024."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64)
        for number in range(1, 4):
            conv = nn.Conv2d(
                widths[number - 1], widths[number], 3, 2 if number == 1 else 1, 1, bias=False
            )
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm2d(widths[number]))
        before = 64
        for number, (width, depth) in enumerate(
            zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)
        ):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(before, width, 2 if number and not block else 1))
                before = 4 * width
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.attnpool = AttentionPool(7, 2048, 32, 1024)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, 4):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        x = F.avg_pool2d(x, 2)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.attnpool(x)
