"""A pool of gloo processes, started once for all tests that need several ranks."""

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MAX_RANKS = 3
TIMEOUT_S = 60


def prepare() -> None:
    """Start the fork server; it imports what all ranks need while other tests run.

    DDP imports dynamo when first used, and a plain fork would inherit the autograd threads of this
    process, which torch refuses.
    """
    multiprocessing.set_forkserver_preload(
        ["torch._dynamo", "timm", "pytest", "rayapp.train.engine", "rayapp.train.prepare"]
    )
    forkserver.ensure_running()


class RankPool:
    """Runs a module-level function on 1 to MAX_RANKS ranks, each time in a fresh process group."""

    def __init__(self) -> None:
        prepare()
        context = multiprocessing.get_context("forkserver")
        self._folder = tempfile.TemporaryDirectory()
        self._num_runs = 0
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(MAX_RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(
        self,
        function: Callable[..., Any],
        arguments: list[tuple[Any, ...]],
        timeout_s: float = TIMEOUT_S,
    ) -> list[Any]:
        """Results of `function(*arguments[rank])`, one rank for each entry of `arguments`."""
        self._num_runs += 1
        meeting = Path(self._folder.name) / str(self._num_runs)
        pipes = self._pipes[: len(arguments)]
        for rank, pipe in enumerate(pipes):
            pipe.send((function, arguments[rank], rank, len(arguments), str(meeting), timeout_s))
        answers = []
        for rank, pipe in enumerate(pipes):
            assert pipe.poll(timeout_s), f"rank {rank} did not answer in {timeout_s:g} s"
            answers.append(pipe.recv())
        failures = [failure for failure, _ in answers if failure]
        assert not failures, "\n".join(failures)
        return [result for _, result in answers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            process.kill()
        self._folder.cleanup()


def _serve(pipe: Connection) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while True:
        try:
            function, arguments, rank, num_ranks, meeting, timeout_s = pipe.recv()
        except EOFError:
            return
        try:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{meeting}",
                rank=rank,
                world_size=num_ranks,
                timeout=timedelta(seconds=timeout_s),
            )
            pipe.send((None, function(*arguments)))
        except Exception:  # noqa: BLE001  whatever it was, the test that asked shows it
            pipe.send((traceback.format_exc(), None))
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
