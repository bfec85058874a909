"""How the cores of a machine are shared out between forward passes and decoding."""

import os
from pathlib import Path

import torch

ON_GPU = 2  # batches of a worker: while the network has one, the other is read and decoded
_MOST_HERE = 8  # batches at once in one process: each holds feature maps of its own
_BATCH_ROWS = 64  # read ahead together
_LEAST_BATCHES = 16  # so that few images are done together at the end
_CARDS = Path("/proc/driver/nvidia/gpus")  # all of the machine, whichever a worker may use


def shared_out(cores: int, threads: int, num_rows: int, *, alone: bool) -> tuple[int, int]:
    """Threads of a forward pass, and batches under way at once, where one process does it all.

    Forward passes beside one another never wait for each other, as the threads of one do: of a
    ViT-B, 2 of one thread each are done in less time than one of two threads.

    Args:
        cores: of the machine.
        threads: of a forward pass at least.
        num_rows: that are to be done.
        alone: one batch at a time, by all cores: the code is not ours, and may not stand threads.
    """
    cores = max(cores, threads)
    if alone:
        return cores, 1
    at_once = max(1, min(cores // threads, num_rows, _MOST_HERE))
    return cores // at_once, at_once


def batch_rows(num_rows: int, side_by_side: int) -> int:
    """Images of a batch."""
    return max(1, min(_BATCH_ROWS, num_rows // max(_LEAST_BATCHES, 4 * side_by_side)))


def cores_beside(gpus: float) -> int:
    """Cores of this machine for each worker that has so many of its GPUs."""
    cards = len(list(_CARDS.iterdir())) if _CARDS.is_dir() else torch.cuda.device_count()
    return int(len(os.sched_getaffinity(0)) * min(gpus / max(cards, 1), 1.0))
