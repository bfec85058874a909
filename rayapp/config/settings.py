"""What every job's settings are made of: typed, frozen, each field described."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rayapp.config.paths import OutputUri
from rayapp.config.renamed import old_names, with_new_names

EXIT_DONE, EXIT_FAILED, EXIT_WRONG_USE, EXIT_MISSES = 0, 1, 2, 3


def one_or_more(*fields: str) -> Any:
    """A validator by which these fields of a class take one text for a list of one."""
    return field_validator(*fields, mode="before")(
        lambda value: (value,) if isinstance(value, str) else value
    )


class Settings(BaseModel):
    """Base of every job's settings: frozen, no unknown field, each field described."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Options that are looked for here and are another job's: what to do instead.
    elsewhere: ClassVar[Mapping[str, str]] = {}
    # Old name → name now: the old one is taken for one version.
    renamed: ClassVar[Mapping[str, str]] = {}
    # Free mappings that change another job's settings, and those.
    nested_jobs: ClassVar[Mapping[str, type[BaseModel]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _names_of_now(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        old = not old_names(cls).keys().isdisjoint(data)
        return with_new_names(cls, data) if old or cls.nested_jobs else data


class JobSettings(Settings):
    """What every job takes beside its own settings: where its output goes and what it runs on."""

    # Defaults too: `runs/prune` is relative to where the user stands.
    model_config = ConfigDict(validate_default=True)

    output: OutputUri = Field(
        description="folder or bucket prefix (s3://, gs://, az://) for the results"
    )
    overwrite: bool = Field(False, description="replace an output that belongs to another run")
    cpus: int | None = Field(
        None, ge=1, description="CPUs of the local Ray that the job starts; all where not given"
    )
    on_ray: bool = Field(
        False, description="work on Ray even where the job's own process is done sooner"
    )
    wait_s: float = Field(
        600.0, ge=0, description="seconds to wait for resources that a cluster may still add"
    )
    verbose: bool = Field(False, description="show Ray's own messages")
