"""What is refused of a stranger's folder before anything of it is loaded."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from rayapp.config.errors import UserError
from rayapp.storage.store import LocalStore, Store

_MOST_JSON_BYTES = 16 << 20
# Each would make a library import code of the folder, or fetch something else from somewhere.
_REFUSED = {
    "auto_map": "asks for code of its own",
    "custom_code": "asks for code of its own",
    "custom_pipelines": "asks for code of its own",
    "trust_remote_code": "asks for code of its own",
    "quantization_config": "is quantised, which takes other libraries",
    "compression_config": "is compressed, which takes other libraries",
    "use_pretrained_backbone": "asks for weights from elsewhere",
    "use_timm_backbone": "asks for weights from elsewhere",
}
# Of no effect on what is computed here: in float32, by torch's own attention.
_DROPPED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash")


def read_json(store: Store, name: str) -> dict[str, Any]:
    """A JSON object of the folder, without what would run or fetch something.

    Raises:
        UserError: no such file, no JSON object, or a key that is refused.
    """
    where = store.uri(name)
    stat = store.stat(name)
    if stat is None:
        raise UserError(f"{where}: no such file")
    check_inside(store, name)
    if stat.size > _MOST_JSON_BYTES:
        raise UserError(f"{where}: {stat.size / 1e6:.0f} MB are no settings")
    try:
        found = json.loads(store.get(name))
    except (ValueError, RecursionError):
        raise UserError(f"{where}: not JSON") from None
    if not isinstance(found, dict):
        raise UserError(f"{where}: a JSON object is wanted")
    check_keys(found, where)
    return found


def check_keys(found: Mapping[str, Any], where: str) -> None:
    """Nothing where no key asks for code or for files from elsewhere.

    Raises:
        UserError: one does; nothing of the folder was loaded.
    """
    for key, value in entries(found):
        if key in _REFUSED and value not in (None, False):
            raise UserError(
                f"{where}: refused: {key!r} {_REFUSED[key]}; nothing of it was executed"
            )
        asks = key.lstrip("_").startswith(("attn_implementation", "experts_implementation"))
        if asks and isinstance(value, str) and "/" in value:
            raise UserError(f"{where}: refused: {key!r} asks for code of {value!r}")
        if key == "backbone" and isinstance(value, str):
            raise UserError(f"{where}: refused: 'backbone' asks for weights from elsewhere")


def without_placement(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what says where it came from, or how it is run."""
    return {
        key: value
        for key, value in config.items()
        if key not in _DROPPED and not key.lstrip("_").startswith("attn_implementation")
    }


def check_inside(store: Store, name: str) -> None:
    """Nothing where a file of a local folder lies in it.

    The hub's own cache holds links from `snapshots/REVISION` to `blobs` beside it.

    Raises:
        UserError: its name leads out of the folder, or a link does.
    """
    if os.path.basename(name) != name or name in {"", ".", ".."}:
        raise UserError(f"{store.uri()}: refused: {name!r} leads out of the folder")
    if not isinstance(store, LocalStore):
        return
    folder = os.path.realpath(store.root)
    target = os.path.realpath(os.path.join(store.root, name))
    snapshots, cache = os.path.split(os.path.dirname(folder))[1], os.path.dirname(folder)
    blobs = os.path.join(os.path.dirname(cache), "blobs")
    allowed = [folder, blobs] if snapshots == "snapshots" else [folder]
    if not any(target.startswith(place + os.sep) for place in allowed):
        raise UserError(f"{store.uri(name)}: refused: it is a link that leads out of the folder")


def entries(found: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth."""
    waiting = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from ((str(key), value) for key, value in one.items())
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
