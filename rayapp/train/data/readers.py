"""Processes that read images ahead of the network, for torch's DataLoader."""

import multiprocessing
from typing import Any

# By the server that they are forked from, once: each would else take seconds to import them anew,
# at every validation.
_IMPORTED = ["torch", "rayapp.train.data.crops", "rayapp.train.data.views"]


def reading(processes: int) -> dict[str, Any]:
    """Arguments of a DataLoader whose images so many processes read; 0: this one."""
    if not processes:
        return {"num_workers": 0}
    # Forked from this process, with Ray's and torch's threads, they would hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return {"num_workers": processes, "multiprocessing_context": context}
