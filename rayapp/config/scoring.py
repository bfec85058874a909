"""How images that have no score yet are scored."""

from pydantic import Field

from rayapp.config.settings import Settings


class ScoringSettings(Settings):
    """How images that have no score yet are scored."""

    batch_size: int = Field(16, ge=1, description="images of one batch, where scores are missing")
    threads: int = Field(1, ge=1, description="CPU threads of one worker that scores")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker that scores; 0: CPU")
    workers: int | None = Field(None, ge=1, description="workers that score, at most")
