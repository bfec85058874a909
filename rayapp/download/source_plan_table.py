"""The table that download shows before anything is fetched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rayapp.download.origins.access import Access, scheme_of
from rayapp.download.origins.catalogue import Catalogue, Source
from rayapp.download.source_plan import SourcePlan
from rayapp.run.record import duration
from rayapp.storage.store import LocalStore, Store

_WHOLE = re.compile(r"\.(tgz|tar|tar\.gz|7z)(\.[\d*]+)?$")  # no directory that ranges could use


def print_source_plans(
    catalogue: Catalogue,
    sources: Mapping[str, Source],
    store: Store,
    plans: Sequence[SourcePlan],
    outside: int,
) -> None:
    """Per source: wanted, present, to fetch, bytes, requests, quota time, what is lacking."""
    access = Access(catalogue)
    head = f"{'source':<22}{'wanted':>10}{'present':>10}{'to fetch':>10}{'MB':>12}{'requests':>10}"
    print(f"{head}{'quota time':>12}  lacks")
    for plan in plans:
        source = sources[plan.source]
        origin = catalogue.origin(scheme_of(source.at[0]))
        quota_s = plan.num_requests * origin.request_units / (origin.units_per_s or float("inf"))
        to_fetch = plan.num_wanted - plan.num_present
        lacks = ", ".join(filter(None, [access.lacks(source), *_not_there(source)]))
        print(
            f"{plan.source:<22}{plan.num_wanted:>10,}{plan.num_present:>10,}{to_fetch:>10,}"
            f"{plan.num_bytes / 1e6:>12,.1f}{plan.num_requests:>10,}"
            f"{duration(quota_s) if quota_s else '–':>12}  {lacks or '–'}"
        )
        if source.accept and to_fetch:
            print(f"  {plan.source}: {source.accept}: {source.page}")
        if to_fetch and (source.password_variable or _WHOLE.search(source.at[0])):
            print(f"  {plan.source}: its archive is read as a whole, so more bytes will come")
    needed = sum(plan.num_bytes for plan in plans)
    if isinstance(store, LocalStore):
        free = shutil.disk_usage(store.root).free
        note = "" if free > needed else " – NOT ENOUGH"
        print(f"free disk {_size(free)}, to fetch about {_size(needed)}{note}")
    else:
        print(f"to fetch about {_size(needed)}")
    unverified = sum(plan.num_unverified for plan in plans)
    if unverified:
        print(
            f"{unverified:,} of the files to fetch are there, from elsewhere: those that their "
            "source vouches for by a checksum are kept"
        )
    if outside:
        print(f"{outside:,} annotated images are not from the chosen sources")


def _not_there(source: Source) -> list[str]:
    """Local archives that this machine does not have."""
    paths = [uri for uri in source.at if scheme_of(uri) == "file" and "{" not in uri]
    return [f"{path} (no such file here)" for path in paths if not Path(path).exists()]


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
