"""Where a network computes and in which numbers: bf16 where it is fast, float32 as such."""

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import nn


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 is faster than float32 there: it has instructions for it."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """On a GPU, float32 as such in the block: TensorFloat-32 rounds nearly as bf16 does.

    Torch has it on for convolutions by default, so that scores would not be those of a CPU.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes; one may have no parameters, but its weights as bytes."""
    return next(itertools.chain(network.parameters(), network.buffers())).device
