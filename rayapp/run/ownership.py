"""Whose a pipeline's output is: no pipeline replaces another one's results unasked."""

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rayapp.config.errors import UserError
from rayapp.config.renamed import with_new_names
from rayapp.config.settings import JobSettings
from rayapp.run.fingerprint import Parts, differing_settings, fingerprint, read_record, write_record
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

PIPELINE_FILE = "pipeline.json"


@contextlib.contextmanager
def own_output(
    job: str,
    settings: JobSettings,
    *,
    placement: Collection[str] = (),
    beside: Collection[str] = (),
    parts: Parts | None = None,
) -> Iterator[None]:
    """The block runs a pipeline's steps into an output that is empty, or this pipeline's own.

    A pipeline is known by its settings. With the same ones it goes on: what is done stays, what was
    cut off resumes, and what newer code or a changed input touches is done again, with all that
    follows from it. With other settings it is refused, whether or not the first one came to its
    end. With `overwrite` it goes on under the new settings, and replaces only what follows from
    the change.

    Args:
        job: the pipeline's name.
        settings: the pipeline's.
        placement: fields that change no result.
        beside: names at the top of the output that need not be the pipeline's.
        parts: models of the settings' free mappings.

    Raises:
        UserError: the output holds another pipeline's results, or what is not ours.
    """
    store = open_store(settings.output)
    wanted = {"job": job, **fingerprint(settings, {}, placement)}
    wanted["settings"] = with_new_names(type(settings), wanted["settings"], parts)
    found = read_record(store, PIPELINE_FILE, type(settings), parts)
    if not settings.overwrite:
        _check(store, found, wanted, beside)
    if found != wanted:
        write_record(store, PIPELINE_FILE, wanted)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            written = [stat.key for stat in itertools.islice(store.list(), 2)]
            if found is None and written == [PIPELINE_FILE]:
                store.delete(written)
        raise


def _check(
    store: Store,
    found: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
    beside: Collection[str],
) -> None:
    if found is None:
        if any(name not in beside for name in _at_the_top(store)):
            raise UserError(
                f"{store.root}: is not empty and holds no {wanted['job']} of ours; "
                "give an empty --output, or --overwrite to write beside what is there"
            )
        return
    # A field that one of two versions lacks was not set by the user.
    shared = found["settings"].keys() & wanted["settings"].keys()
    before, now = ({key: one["settings"][key] for key in shared} for one in (found, wanted))
    differences = differing_settings(before, now)
    if found["job"] != wanted["job"]:
        differences = [f"a {found['job']}, now {wanted['job']}"]
    if differences:
        raise UserError(
            f"{store.root}: holds the output of another run ({'; '.join(differences)}); give "
            "another --output, or --overwrite to replace what follows from that"
        )


def _at_the_top(store: Store) -> Iterator[str]:
    """Names of files, and of folders with a file in them, at the top of a store."""
    folders, files = store.level("")
    yield from (stat.key for stat in files)
    yield from (name for name in folders if next(iter(store.list(f"{name}/")), None) is not None)
