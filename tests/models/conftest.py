from collections.abc import Iterator

import pytest
import torch

from tests.ddp import RankPool


@pytest.fixture(scope="session")
def ranks() -> Iterator[RankPool]:
    with RankPool() as pool:
        yield pool


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
