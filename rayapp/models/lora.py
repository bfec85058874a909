"""LoRA: a frozen linear map with a trained one of low rank beside it, merged into it at the end.

Source: Hu et al., LoRA, ICLR 2022, arXiv 2106.09685. Our own few lines: peft wraps and renames
modules, while here a detector is saved as if it had been trained whole.

Shapes: N… any · R rank · I inputs · O outputs of a linear map.
"""

import copy
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rayapp.config.errors import UserError
from rayapp.models.backbones import Backbone
from rayapp.models.detector_spec import LoraSettings

# Of timm's ViTs `blocks.3.attn.qkv`, of its Swin `layers.1.blocks.0.…`, ConvNeXt `stages.…`.
_BLOCK = re.compile(r"^((?:(?:layers|stages)\.\d+\.)?blocks\.\d+)\.(.+)$")
_TRAINED = (".lora_down", ".lora_up")
Module = TypeVar("Module", bound=nn.Module)


class LoraLinear(nn.Linear):
    """W·x + b + alpha / rank · up·down·x, with W and b frozen; `up` [O, R] starts at zero."""

    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: float

    def forward(self, input: Tensor) -> Tensor:
        """[N…, I] → [N…, O]."""
        added = F.linear(F.linear(input, self.lora_down), self.lora_up)
        return F.linear(input, self.weight, self.bias) + self.lora_scale * added


class LoraWeight(nn.Module):
    """Parametrization of a weight [O, I], W + alpha / rank · up·down, where W is read directly."""

    def __init__(self, linear: nn.Linear, settings: LoraSettings) -> None:
        super().__init__()
        _start(self, linear, settings)

    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: float

    def forward(self, weight: Tensor) -> Tensor:
        """[O, I] → [O, I]."""
        return weight + self.lora_scale * (self.lora_up @ self.lora_down)


def add_lora(backbone: Backbone, settings: LoraSettings) -> list[str]:
    """Put LoRA beside linear maps of a backbone's blocks, in place; the names of their weights.

    The backbone computes what it did, until it is trained.

    Raises:
        UserError: no blocks, or no such layer or target.
    """
    names = _targets(backbone.model, settings)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules()):
        raise UserError("lora: this backbone has BatchNorm, whose averages training would change")
    called = _called(backbone, names)
    for name in names:
        linear = cast(nn.Linear, backbone.model.get_submodule(name))
        if name in called:
            # As a class of its own: names of modules and weights stay what they are.
            linear.__class__ = LoraLinear
            _start(linear, linear, settings)
        else:  # as in timm's BEiT and Eva, whose qkv has a bias in two parts
            parametrize.register_parametrization(linear, "weight", LoraWeight(linear, settings))
    return [f"{name}.weight" for name in names]


def train_lora_only(backbone: Backbone) -> None:
    """Freeze all of a backbone but its LoRA maps; nothing where it has none."""
    names = {name for name, _ in backbone.named_parameters() if name.endswith(_TRAINED)}
    for name, parameter in backbone.named_parameters() if names else ():
        parameter.requires_grad_(name in names)


def merged(network: Module) -> Module:
    """A copy of the network whose LoRA maps are added to the weights; itself where it has none."""
    if not any(isinstance(module, LoraLinear | LoraWeight) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if isinstance(module, LoraLinear):
            with torch.no_grad():
                module.weight.add_(module.lora_scale * (module.lora_up @ module.lora_down))
            del module.lora_down, module.lora_up, module.lora_scale
            cast(nn.Module, module).__class__ = nn.Linear
        elif isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            # By hand: torch's own removal would take the weight from the copied network too.
            weight = nn.Parameter(module.weight.detach().clone())
            del module.parametrizations
            module.__class__ = nn.Linear
            module.weight = weight
    return network


def _start(holder: Any, linear: nn.Linear, settings: LoraSettings) -> None:
    like: dict[str, Any] = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    holder.lora_down = nn.Parameter(torch.empty(settings.rank, linear.in_features, **like))
    holder.lora_up = nn.Parameter(torch.zeros(linear.out_features, settings.rank, **like))
    holder.lora_scale = settings.alpha / settings.rank
    nn.init.kaiming_uniform_(holder.lora_down, a=math.sqrt(5))


def _targets(model: nn.Module, settings: LoraSettings) -> list[str]:
    """Names of the linear maps that are meant, in the model's order."""
    numbers: dict[str, int] = {}  # of blocks, through all stages
    linear: dict[str, tuple[int, str]] = {}  # of a map: its block, and its name there
    for name, module in model.named_modules():
        if not (found := _BLOCK.match(name)):
            continue
        number = numbers.setdefault(found[1], len(numbers))
        if type(module) is nn.Linear:
            linear[name] = number, found[2]
    if not linear:
        raise UserError(
            "lora: wants a ViT, Swin or ConvNeXt of timm's; this one has no blocks of linear maps"
        )
    num_blocks = len(numbers)
    beyond = [layer for layer in settings.layers if not -num_blocks <= layer < num_blocks]
    if beyond:
        raise UserError(f"lora.layers: {beyond[0]} is not among the {num_blocks} blocks")
    layers = {layer % num_blocks for layer in settings.layers} or set(numbers.values())
    chosen: set[str] = set()
    for target in settings.targets:
        ending = f".{target}"
        hits = [n for n, (block, _) in linear.items() if n.endswith(ending) and block in layers]
        if not hits:
            known = sorted({name for block, name in linear.values() if block in layers})
            there = f"it has {', '.join(known)}" if known else "it has no linear maps"
            raise UserError(f"lora.targets: no {target!r} in a block; {there}")
        chosen.update(hits)
    return [name for name in linear if name in chosen]


def _called(backbone: Backbone, names: list[str]) -> set[str]:
    """Those of the maps that the network calls; of others it reads the weight."""
    trial = copy.deepcopy(backbone.model).to("meta")
    called: set[str] = set()
    for name in names:
        hook: Callable[..., None] = lambda *_, name=name: called.add(name)  # noqa: E731
        trial.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        trial(backbone.blank_image("meta"))
    return called
