"""How images that have no score yet are scored."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from rayapp.config.settings import Settings


class ScoringSettings(Settings):
    """How images that have no score yet are scored."""

    renamed: ClassVar[Mapping[str, str]] = {"gpus": "gpus_per_worker", "workers": "num_workers"}

    batch_size: int | None = Field(
        None, ge=1, description="views of a forward pass; by measured memory if none"
    )
    threads: int = Field(1, ge=1, description="CPU threads of one worker that scores")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs of one worker that scores; 0: CPU")
    num_workers: int | None = Field(None, ge=1, description="workers that score, at most")
