"""Settings of report."""

from pydantic import Field

from rayapp.config.paths import Uri
from rayapp.config.settings import JobSettings, one_or_more


class ReportSettings(JobSettings):
    """Write one self-contained page from evaluations; without any, the published tables alone."""

    evaluations: tuple[Uri, ...] = Field(
        (), description="outputs of evaluate; the first is the one in focus"
    )
    embeddings: tuple[Uri, ...] = Field(
        (), description="outputs of evaluate's embedding of features, to be drawn"
    )
    runs: tuple[Uri, ...] = Field((), description="outputs of other jobs to list under 'what ran'")
    title: str = Field("", description="title of the page; one of ours where none is given")
    note: str = Field("", description="what the reader must know before any figure")

    _several = one_or_more("evaluations", "embeddings", "runs")
