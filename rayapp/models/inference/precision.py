"""In which numbers a device computes: bf16 where it is fast, float32 as such where asked."""

import contextlib
from collections.abc import Iterator

import torch


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
