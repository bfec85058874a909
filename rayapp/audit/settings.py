"""Settings of audit."""

from pathlib import PurePosixPath
from typing import Self

from pydantic import Field, model_validator

from rayapp.audit.lists import TEST
from rayapp.config.given_images import GivenImages

_KNOWN_ROLES = ("train", "head", "calibration", "anchor", TEST)


class AuditSettings(GivenImages):
    """Say what is wrong with a dataset: lists, files, copies, balance, shortcuts."""

    lists_only: bool = Field(False, description="read no image")
    roles: dict[str, str] = Field(
        {}, description="list's file name: train, head, calibration, anchor or test"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.input and (self.lists_only or self.roles):
            raise ValueError("--lists-only and --roles: go with --annotations")
        if self.annotations and self.root is None and not self.lists_only:
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
