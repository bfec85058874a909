"""Sums and gathers over all ranks that carry gradients, for shards of any size.

Every function works without a process group (one rank) and must otherwise be called by every rank.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """Number of ranks: 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_sum(value: Tensor) -> Tensor:
    """Sum of `value` over all ranks, without a gradient."""
    total = value.detach().clone()
    if num_ranks() > 1:
        dist.all_reduce(total)
    return total


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all ranks in rank order, and where this rank's begin; gradients flow to every rank.

    Shape: rows [n, ...] with n of this rank only → ([sum of n, ...], offset).

    The backward pass sums what all ranks ask of a row, so that a rank's row receives the gradient
    of the sum of all ranks' losses.
    """
    if num_ranks() == 1:
        return rows, 0
    counts = _all_gather(torch.tensor([len(rows)], device=rows.device)).flatten().tolist()
    return _apply(_GatherRows, rows, counts), sum(counts[: dist.get_rank()])


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of `value` over all ranks; the backward pass sums the gradients likewise."""
    return value if num_ranks() == 1 else _apply(_SumOverRanks, value)


def _all_gather(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(num_ranks())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    # Function.apply is untyped in torch.
    return cast(Tensor, cast(Callable[..., Any], function.apply)(*arguments))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        # all_gather wants equal shapes: short shards are padded, and cut again.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = _all_gather(padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = global_sum(gradients[0])
        return torch.split(total, ctx.counts)[dist.get_rank()], None


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return global_sum(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return global_sum(gradients[0])
