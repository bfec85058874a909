"""Layers made ready for inference: convolution, BatchNorm, addition and ReLU in one.

On the CPU through oneDNN with weights in its own layout (what torch.compile lowers to, without its
compiler), elsewhere through plain ones.

Shapes: N images · C channels · H W.
"""

import operator
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

_MOST_LAYOUTS = 4
_ADDITIONS = {operator.add, operator.iadd, torch.add}
_RELUS = {F.relu, torch.relu, torch.relu_, F.relu_}


def fuse(module: nn.Module, dtype: torch.dtype) -> fx.GraphModule | None:
    """The module, which is used up, as a graph of fused layers; None without a convolution in it.

    Args:
        module: in evaluation mode.
        dtype: of all convolutions but the first, which computes in float32.
    """
    traced = fx.GraphModule(module, _Tracer().trace(module))
    _drop_idle(traced)
    _fold_batchnorm(traced)
    first = _first_convolutions(traced)
    convs = [node for node in traced.graph.nodes if is_plain_conv(_called(traced, node))]
    for node in convs:
        own = torch.float32 if node in first else dtype
        conv = FusedConv(cast(nn.Conv2d, _called(traced, node)), own, dtype)
        _replace(traced, node, conv)
    _fuse_after(traced)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced if convs else None


class FusedConv(nn.Module):
    """Convolution with bias, then an optional addition and an optional ReLU, in one pass.

    Args:
        conv: what it computes.
        dtype: it computes in.
        out_dtype: of what it gives.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, out_dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.out_dtype = dtype, out_dtype
        self.relu = False
        self.in_place = False  # the sum overwrites what is added
        self.weight = _rounded(conv.weight.detach(), dtype)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        pair = [cast(Any, getattr(conv, name)) for name in ("padding", "stride", "dilation")]
        self.steps: list[Any] = [*map(list, pair), conv.groups]
        self._layouts: dict[torch.Size, Tensor] = {}

    def forward(self, images_NCHW: Tensor, other_NCHW: Tensor | None = None) -> Tensor:
        """Feature maps [N, C, H, W], as channels last in memory."""
        maps = images_NCHW.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if other_NCHW is not None:
            other_NCHW = other_NCHW.to(self.dtype)
        compute = self._onednn if maps.device.type == "cpu" else self._plain
        with torch.autocast(maps.device.type, enabled=False):  # its precision is its own
            return compute(maps, other_NCHW).to(self.out_dtype)

    def _plain(self, maps: Tensor, other: Tensor | None) -> Tensor:
        padding, stride, dilation, groups = self.steps
        maps = F.conv2d(maps, self.weight, self.bias, stride, padding, dilation, groups)
        maps = maps if other is None else maps.add_(other)
        return maps.relu_() if self.relu else maps

    def _onednn(self, maps: Tensor, other: Tensor | None) -> Tensor:
        weight, ops = self._packed(maps.shape), torch.ops.mkldnn
        if other is None:
            after: tuple[Any, ...] = ("relu" if self.relu else "none", [], "")
            pointwise = ops._convolution_pointwise
            return cast(Tensor, pointwise(maps, weight, self.bias, *self.steps, *after))
        added: tuple[Any, ...] = ("add", 1.0, "relu" if self.relu else None, [], "")
        if self.in_place:
            into = ops._convolution_pointwise_.binary
            return cast(Tensor, into(other, maps, weight, self.bias, *self.steps, *added))
        binary = ops._convolution_pointwise.binary
        return cast(Tensor, binary(maps, other, weight, self.bias, *self.steps, *added))

    def _packed(self, shape: torch.Size) -> Tensor:
        """The weights as oneDNN lays them out for this shape; else it would do so every time."""
        if shape not in self._layouts:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            reorder = torch.ops.mkldnn._reorder_convolution_weight
            self._layouts[shape] = reorder(self.weight, *self.steps, list(shape))
        return self._layouts[shape]


def _rounded(weight_OIHW: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights of another precision, rounded so that the errors of each filter sum to nearly zero.

    What follows a ReLU has a positive mean, so errors of one sign would shift a whole feature map,
    and pooling, which averages all other errors away, keeps a shift. Each weight takes over the
    error of the one before it.
    """
    if dtype == weight_OIHW.dtype:
        return weight_OIHW
    columns = weight_OIHW.flatten(1).T.contiguous()
    error_O = torch.zeros_like(columns[0])
    for weights_O in columns:
        wanted_O = weights_O + error_O
        weights_O.copy_(wanted_O.to(dtype))
        error_O = wanted_O - weights_O
    return columns.T.to(dtype).view_as(weight_OIHW)


class _Tracer(fx.Tracer):
    """Takes every BatchNorm as one step, timm's with its activation as well."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _BatchNorm) or super().is_leaf_module(m, module_qualified_name)


def _called(traced: fx.GraphModule, node: Any) -> nn.Module | None:
    is_call = isinstance(node, fx.Node) and node.op == "call_module"
    return traced.get_submodule(str(node.target)) if is_call else None


def is_plain_conv(module: nn.Module | None) -> bool:
    """Whether it is a convolution that FusedConv can compute."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _replace(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Has the node call `module`, under a name of its own: layers may be called more than once."""
    name = f"fused_{node.name}"
    traced.add_submodule(name, module)
    node.target = name


def _bypass(node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _drop_idle(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if isinstance(_called(traced, node), (nn.Identity, nn.Dropout, nn.Dropout2d)):
            _bypass(node, node.args[0])


def _fold_batchnorm(traced: fx.GraphModule) -> None:
    """Every BatchNorm that follows a convolution alone becomes part of it."""
    for node in list(traced.graph.nodes):
        norm = _called(traced, node)
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            continue
        before = node.args[0]
        conv = _called(traced, before)
        if not is_plain_conv(conv) or len(before.users) > 1:
            continue
        _replace(traced, before, fuse_conv_bn_eval(cast(nn.Conv2d, conv), norm))
        activation = getattr(norm, "act", None)
        if activation is None or isinstance(activation, nn.Identity):
            _bypass(node, before)
        else:
            _replace(traced, node, activation)


def _first_convolutions(traced: fx.GraphModule) -> set[fx.Node]:
    """Convolutions that see the pixels: no other stands between."""
    pixels: set[fx.Node] = set()
    first: set[fx.Node] = set()
    for node in traced.graph.nodes:
        reads_pixels = node.op == "placeholder" or any(n in pixels for n in node.all_input_nodes)
        is_conv = node.target is F.conv2d or is_plain_conv(_called(traced, node))
        if reads_pixels and is_conv:
            first.add(node)
        elif reads_pixels:
            pixels.add(node)
    return first


def _fuse_after(traced: fx.GraphModule) -> None:
    """Puts ReLU, and an addition before one, into the convolution that they follow."""
    for relu in [node for node in traced.graph.nodes if _is_relu(traced, node)]:
        before = relu.args[0]
        conv = _called(traced, before)
        if isinstance(conv, FusedConv) and len(before.users) == 1:
            conv.relu = True
            _bypass(relu, before)
        elif _is_addition(before) and len(before.users) == 1:
            _fuse_addition(traced, before, relu)


def _fuse_addition(traced: fx.GraphModule, addition: fx.Node, relu: fx.Node) -> None:
    for node, other in _both_ways(addition):
        conv = _called(traced, node)
        if not isinstance(conv, FusedConv) or len(node.users) > 1 or conv.relu:
            continue
        # The later of the two: what it adds is then there.
        order = {step: at for at, step in enumerate(traced.graph.nodes)}
        others_done = all(order[user] <= order[addition] for user in other.users)
        made_here = isinstance(_called(traced, other), (FusedConv, nn.MaxPool2d))
        conv.relu, conv.in_place = True, others_done and made_here
        with traced.graph.inserting_before(relu):
            fused = traced.graph.call_module(str(node.target), (node.args[0], other))
        _bypass(relu, fused)
        traced.graph.erase_node(addition)
        traced.graph.erase_node(node)
        return


def _both_ways(addition: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    left, right = addition.args[:2]
    if isinstance(left, fx.Node) and isinstance(right, fx.Node) and left is not right:
        yield left, right
        yield right, left


def _is_relu(traced: fx.GraphModule, node: fx.Node) -> bool:
    by_function = node.op == "call_function" and node.target in _RELUS
    return by_function or type(_called(traced, node)) is nn.ReLU


def _is_addition(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in _ADDITIONS and len(node.args) == 2
