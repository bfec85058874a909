"""Settings of audit."""

from pathlib import PurePosixPath
from typing import Self

from pydantic import Field, model_validator

from rayapp.audit.lists import TEST
from rayapp.config.paths import Packaged, Uri
from rayapp.config.settings import JobSettings

_KNOWN_ROLES = ("train", "head", "calibration", "anchor", TEST)


class AuditSettings(JobSettings):
    """Say what is wrong with a dataset: lists, files, copies, balance, shortcuts."""

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists")
    root: Uri | None = Field(None, description="folder or bucket prefix of the lists' paths")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    lists_only: bool = Field(False, description="read no image")
    roles: dict[str, str] = Field(
        {}, description="list's file name: train, head, calibration, anchor or test"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.root is None and not self.lists_only:
            raise ValueError(
                "give --root, the folder that the lists' paths start from, or --lists-only"
            )
        known = {PurePosixPath(uri).name for uri in self.annotations}
        for name, role in self.roles.items():
            if role not in _KNOWN_ROLES:
                raise ValueError(f"roles: {role!r} is no role ({', '.join(_KNOWN_ROLES)})")
            if name not in known:
                raise ValueError(f"roles: {name!r} is none of the lists")
        return self
