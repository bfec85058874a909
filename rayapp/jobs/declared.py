"""What image files declare of their origin: read one after the other, in this process, at once."""

from collections.abc import Iterator

from rayapp.config.errors import UserError
from rayapp.config.paths import nearby
from rayapp.dataset.declared import Declared, TrustList, read_declared, read_trust_list
from rayapp.dataset.formats import named_as, starts_as, why_not
from rayapp.declared.lines import FileDeclared, Totals, encoded
from rayapp.declared.settings import DeclaredSettings
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, read_uri, split_uri


def declared(settings: DeclaredSettings) -> Totals:
    """Print each file as it is read, then the counts; write the table where one is asked for.

    Raises:
        UserError: an input that is not there, a trust list without certificates.
    """
    trust, totals = read_trust_list(settings.trust_list, read_uri), Totals()
    kept: list[FileDeclared] = []
    for store, key in _files(settings.input):
        one = _read(store, key, trust, settings.hidden)
        print("\n".join(one.lines()), flush=True)
        totals.add(one)
        if settings.output:
            kept.append(one)
    print("\n".join(totals.lines()))
    if settings.output:
        store, name = split_uri(settings.output)
        store.put(name, encoded(kept, f".{name.rpartition('.')[2]}"))
        print(f"written: {nearby(settings.output)}")
    return totals


def _files(uris: tuple[str, ...]) -> Iterator[tuple[Store, str]]:
    """Each file that was named, and each image in the folders that were."""
    for uri in uris:
        store, key = split_uri(uri)
        if store.stat(key) is not None:
            yield store, key
            continue
        folder = open_store(uri)
        found = False
        for stat in folder.list():
            if named_as(stat.key) != "other":
                found = True
                yield folder, stat.key
        if not found:
            raise UserError(f"{nearby(uri)}: no such file, nor a folder that holds images")


def _read(store: Store, key: str, trust: TrustList, hidden: bool) -> FileDeclared:
    path = nearby(store.uri(key))
    try:
        data = store.get(key)
    except OSError as error:
        return FileDeclared(path, Declared(), error.strerror or str(error))
    found = read_declared(data, trust, hidden=hidden)
    why = "" if found.declarations or starts_as(data) else why_not(data)
    return FileDeclared(path, found, why if data else "empty file (0 bytes)")
