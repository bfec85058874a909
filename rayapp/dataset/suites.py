"""Suites: test sets with the protocol they are measured under, as data (`configs/suites/*.yaml`).

A suite names the published lists, how they are cut into slices, and which reals each slice holds.
`legacy` takes the lists as they are published; `clean` takes each photograph once.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from pydantic import Field, model_validator

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.dataset.labels import (
    AnnotationList,
    Item,
    LabelScheme,
    check_labels,
    item_id,
    load_scheme,
    read_list,
)
from rayapp.storage.store import Store

ProtocolName = Literal["clean", "legacy"]
Reals = Literal["own", "all", "drawn"]
FOLDER = "folder"
BY_LIST = "list"


class RealsRule(Settings):
    """Which real images a slice holds beside its synthetic ones, by protocol."""

    clean: Reals = Field("all", description="own: of the same list or label; all: every real")
    legacy: Reals = Field("own", description="drawn: as many as synthetics, by a stated seed")


class Sweep(Settings):
    """A perturbation at several strengths."""

    clean: str = Field(description="perturbation (configs/perturbations) by which images are made")
    legacy: str | None = Field(None, description="that as published, where there is one")
    axis: str = Field(description="what the strength is, with its unit")


class Suite(Settings):
    """A test set with the protocol it is measured under."""

    name: str = Field(description="name on the command line")
    title: str = Field(description="name in tables")
    about: str = Field("", description="one sentence: the images, their size, where they are from")
    view_px: int | None = Field(None, description="side of what the original's detector saw")
    scheme: str = Field("imaginet", description="label scheme of the lists")
    task: Literal["origin", "identification"] = Field(
        "origin", description="real or synthetic, or which generator"
    )
    lists: tuple[str, ...] = Field((), description="files of the test set, in order")
    legacy_lists: tuple[str, ...] = Field(
        (), description="files that legacy takes instead, where the original measured others"
    )
    made_from: dict[str, str] = Field(
        {}, description="list: the list of the photographs it was made from, line by line"
    )
    column: str = Field("", description="what slices are cut by: a label column, or list")
    slices: dict[str, int | str] = Field(
        {}, description="name in the published table: code or list"
    )
    reals: RealsRule = Field(RealsRule(), description="which reals a slice holds")
    calibration: str | None = Field(None, description="list that the original calibrates on")
    sweep: Sweep | None = Field(None, description="a perturbation at several strengths")
    published: str | None = Field(None, description="its name in the table of published figures")
    heading: str = Field("Model", description="first column of the original's CSV")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        scheme = load_scheme(self.scheme)
        if self.column not in {"", BY_LIST, *scheme.columns}:
            raise ValueError(f"label scheme {scheme.name} has no column {self.column!r}")
        known: Iterable[int | str] = self.lists
        if self.column not in {"", BY_LIST}:
            known = scheme.names(self.column)
        unknown = [value for value in self.slices.values() if value not in known]
        if unknown:
            raise ValueError(f"slices: {unknown[0]!r} is none of {', '.join(map(str, known))}")
        if self.task == "identification" and self.column in {"", BY_LIST, "origin"}:
            raise ValueError("identification is by a label column of synthetic images")
        return self

    @property
    def called(self) -> str:
        """What messages call it: a folder of one's own by its lists, another by its name."""
        if self.name != FOLDER:
            return f"suite {self.name}"
        return ", ".join(uri.rpartition("/")[2] for uri in self.lists)

    def files(self, protocol: ProtocolName) -> tuple[str, ...]:
        """Its lists under a protocol."""
        return self.legacy_lists if protocol == "legacy" and self.legacy_lists else self.lists

    def labels(self) -> LabelScheme:
        """The label scheme of its lists."""
        return load_scheme(self.scheme)


def load_suite(name_or_path: str) -> Suite:
    """A shipped suite by name, or a user's own YAML file by path.

    Raises:
        UserError: no such suite (the line lists those there are), or a wrong one.
    """
    return parse_yaml(resource("configs/suites", name_or_path), Suite)


@dataclass(frozen=True)
class TestItems:
    """The rows of a test set, in order; `photographs_N` name the photograph behind each row.

    `lists_N` is the list that each row stands in, `dropped` what the protocol left out and why.
    """

    scheme: LabelScheme
    items: list[Item]
    lists_N: list[str]
    photographs_N: list[str]
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    __test__ = False  # no test class, whatever its name

    def only(self, kept_N: Sequence[bool], why: str) -> "TestItems":
        """The rows that are kept; the others are counted under `why`."""
        rows = [at for at, kept in enumerate(kept_N) if kept]
        gone = len(self.items) - len(rows)
        return replace(
            self,
            items=[self.items[at] for at in rows],
            lists_N=[self.lists_N[at] for at in rows],
            photographs_N=[self.photographs_N[at] for at in rows],
            dropped={**self.dropped, why: gone} if gone else self.dropped,
        )


def read_items(
    suite: Suite, uris: Sequence[str], lists: Store | None, protocol: ProtocolName
) -> TestItems:
    """The rows of a suite under a protocol.

    Args:
        suite: with lists by file name, or none (`folder`).
        uris: the lists themselves, in the suite's order.
        lists: folder that may hold the lists named by `made_from`.
        protocol: `clean` keeps each photograph once, at its first row.

    Raises:
        UserError: a list is missing or wrong, or a row carries other labels in another list.
    """
    scheme = suite.labels()
    read = [read_list(uri, scheme) for uri in uris]
    check_labels(read)
    items, names, sources = [], [], []
    unknown = []
    for one in read:
        name = one.list_uri.rpartition("/")[2]
        photographs = _photographs(one, suite.made_from.get(name), lists, protocol)
        if photographs is None:
            unknown.append(name)
        items += one.items
        names += [name] * len(one.items)
        sources += photographs or [item_id(item.path) for item in one.items]
    notes: tuple[str, ...] = ()
    if unknown:
        notes = (
            f"photographs that stand twice can't be told in {', '.join(unknown)}: "
            "the list it was made from is not beside it",
        )
    found = TestItems(scheme, items, names, sources, notes=notes)
    if suite.task == "identification":
        found = replace(found.only([i.labels[0] == 1 for i in items], "real"), dropped={})
    return _each_once(found) if protocol == "clean" else found


def _photographs(
    one: AnnotationList, list_name: str | None, lists: Store | None, protocol: ProtocolName
) -> list[str] | None:
    """The photograph behind each row; None where the list that would tell is not there."""
    if list_name is None:
        return [item_id(item.path) for item in one.items]
    if lists is None or lists.stat(list_name) is None:
        return None
    photographs = read_list(lists.uri(list_name), one.scheme)
    if [i.labels for i in photographs.items] != [i.labels for i in one.items]:
        if protocol == "clean":  # a set that was made without repeats has fewer rows
            return None
        raise UserError(
            f"{one.list_uri} and {photographs.list_uri} do not go line by line: "
            "other labels or another number of lines"
        )
    return [item_id(item.path) for item in photographs.items]


def _each_once(items: TestItems) -> TestItems:
    seen: set[str] = set()
    kept = []
    for item, photograph in zip(items.items, items.photographs_N, strict=True):
        names = {photograph, item_id(item.path)}
        kept.append(not names & seen)
        seen |= names
    return items.only(kept, "repeats of a photograph")


def strength(variant: str) -> float:
    """The number in a variant's name: `q040` → 40, `x1.71` → 1.71; 0 where there is none."""
    found = re.search(r"[0-9]+(\.[0-9]+)?", variant)
    return float(found[0]) if found else 0.0
