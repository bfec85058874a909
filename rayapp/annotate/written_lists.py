"""What annotate writes: scheme, lists and manifest, and what is to be said of them."""

import io
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

import pyarrow as pa
import yaml

from rayapp.annotate.folder_layout import Labelled
from rayapp.annotate.found_images import Found
from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.split import SPLITS, Split, check, deal, deal_subsets, open_to, parse_shares
from rayapp.annotate.words import REAL, SYNTHETIC, Origin, Subset, subset_of
from rayapp.config.errors import UserError
from rayapp.dataset import manifest, near_duplicates
from rayapp.dataset.grouping import joined
from rayapp.dataset.labels import Item, LabelScheme, item_id, path_fault, write_list
from rayapp.run import record
from rayapp.storage.store import Store

SCHEME, MANIFEST = "scheme.yaml", "manifest.parquet"
USUAL_SHARES = "60/15/10/15"
_SHOWN = 10
_EXTRA = {"perceptual_hash": pa.string(), "group": pa.string(), "split": pa.string()}
Row = dict[str, Any]


def write(run: record.Run, found: Found, table: pa.Table, settings: AnnotateSettings) -> None:
    """Deal the images that were read, write scheme, lists and manifest, then run.json.

    Raises:
        UserError: no image is left, or a split is.
    """
    by_path = {one.path: one for one in found.images}
    every = _without_contradictions(table.to_pylist(), by_path)
    sound = [row for row in every if row["status"] == manifest.STATUS_OK]
    if not sound:
        raise UserError(
            f"none of {len(every)} images can be listed; first: {every[0]['path']}: "
            f"{every[0]['error']}"
        )
    listed = [by_path[row["path"]] for row in sound]
    groups = joined(_keys(sound, listed, settings.group_by))
    split, leaks = _dealt(listed, groups, {one.origin for one in found.images}, settings)
    scheme = scheme_of(listed, "own")
    items = [Item(one.path, one.path, labels_of(one, scheme)) for one in listed]
    run.store.put(SCHEME, _as_yaml(scheme))
    lists: list[str] = []
    for name in SPLITS:
        part = [item for item, where in zip(items, split, strict=True) if where == name]
        lists += _write_lists(run.store, name, part, scheme) if part else []
    for row, group, where, item in zip(sound, groups, split, items, strict=True):
        codes = dict(zip(scheme.columns, item.labels, strict=True))
        row |= {"group": sound[group]["path"], "split": where, **codes}
    # Without the scheme's name: it is found by its file, which only the lists' readers are given.
    wanted = manifest.schema(scheme, _EXTRA).remove_metadata()
    manifest.write_table(run.store, MANIFEST, manifest.from_rows(every, wanted))
    misses = [f"{row['path']}: {row['error']}" for row in every if row["error"]]
    misses += [f"{path}: of no pattern of the layout" for path in found.other]
    counts: Row = {name: split.count(name) for name in SPLITS}
    counts |= {"left out": split.count(None)} if None in split else {}
    counts |= {"failed": len(misses), "groups": len(set(groups))}
    results: Row = {"lists": lists, "misses": misses[:_SHOWN], "layout": found.layout}
    results |= {"no_images": dict(found.left_out.most_common())} if found.left_out else {}
    results |= {"root": found.root.root, "by_generator": _by_generator(listed, split)}
    if any(one.subset for one in listed):
        counts["leaks"] = len(leaks)
        results["by_folder"] = _by_folder(listed, split)
        results["leaks"] = [_leak(group, groups, listed, sound) for group in leaks[:_SHOWN]]
    run.finish(
        {"in": len(every) + len(found.other), **counts}, results, made=(*lists, SCHEME, MANIFEST)
    )


def _without_contradictions(every: list[Row], images: Mapping[str, Labelled]) -> list[Row]:
    """The rows; those whose bytes are labelled real and synthetic, too, are failed ones."""
    first: dict[tuple[str, str], str] = {}
    sound = [row for row in every if row["status"] == manifest.STATUS_OK]
    for row in sound:
        first.setdefault((row["sha256"], images[row["path"]].origin), row["path"])
    for row in sound:
        other = SYNTHETIC if images[row["path"]].origin == REAL else REAL
        if twin := first.get((row["sha256"], other)):
            row["status"] = manifest.STATUS_FAILED
            row["error"] = f"has the bytes of {twin}, which is labelled {other}: one label is wrong"
    return every


def _dealt(
    listed: Sequence[Labelled],
    groups: Sequence[int],
    origins: Collection[Origin],
    settings: AnnotateSettings,
) -> tuple[list[Split | None], list[int]]:
    """The split of each image, and the groups that lie across subsets of a published split."""
    if len(origins) == 1 and not settings.split and not settings.split_by_folder:
        return ["test"] * len(listed), []
    shares = parse_shares(settings.split or USUAL_SHARES)
    held = frozenset(_class(one) for one in listed if one.generator in settings.hold_out)
    names, classes = [one.path for one in listed], [(one.origin, _class(one)) for one in listed]
    is_of = [one.origin for one in listed]
    if not any(one.subset for one in listed):
        split = deal(names, classes, groups, shares, seed=settings.seed, test_only=held)
        check(split, is_of, shares, origins)
        return split, []
    subsets = [_subset(one) for one in listed]
    split, leaks = deal_subsets(
        subsets, names, classes, groups, shares, seed=settings.seed, test_only=held
    )
    dealt = {name for one in set(subsets) for name in open_to(one, set(subsets))} - {"test"}
    check(split, is_of, {name: shares[name] for name in dealt}, origins)
    return split, leaks


def _class(one: Labelled) -> str:
    return f"{one.generator}\0{one.content}"


def _keys(
    sound: Sequence[Row], listed: Sequence[Labelled], group_by: Sequence[str]
) -> list[list[str]]:
    """What each image is held together by."""
    looks = None
    if "look" in group_by:
        looks = near_duplicates.clusters([row["perceptual_hash"] for row in sound])
    keys = []
    for at, (row, one) in enumerate(zip(sound, listed, strict=True)):
        found = [f"bytes {row['sha256']}"]
        found += [f"group {one.group}"] if one.group else []
        found += [f"look {looks[at]}"] if looks is not None else []
        found += [f"folder {one.path.rpartition('/')[0]}"] if "folder" in group_by else []
        keys.append(found)
    return keys


def _as_yaml(scheme: LabelScheme) -> bytes:
    text = io.StringIO("# Written by `imaginet annotate`: --scheme takes this file.\n")
    text.seek(0, io.SEEK_END)
    yaml.safe_dump(
        scheme.model_dump(exclude_defaults=True), text, sort_keys=False, allow_unicode=True
    )
    return text.getvalue().encode()


def _write_lists(store: Store, name: str, part: Sequence[Item], scheme: LabelScheme) -> list[str]:
    """A split's list; for test also one a generator, with all real images."""
    chosen = {f"lists/{name}.txt": list(part)}
    at = list(scheme.columns).index("generator")
    if name == "test":
        for code, maker in scheme.names("generator").items():
            own = [item for item in part if item.labels[at] == code and item.labels[0] == 1]
            if own:
                real = [item for item in part if item.labels[0] == 0]
                chosen[list_name(maker)] = [*real, *own]
    for key, items in chosen.items():
        write_list(store, key, items, scheme)
    return list(chosen)


def list_name(generator: str) -> str:
    """The test list of a generator."""
    safe = re.sub(r"[^\w.-]+", "-", generator)
    return f"lists/test-{safe}.txt"


def _by_generator(
    listed: Sequence[Labelled], split: Sequence[Split | None]
) -> list[dict[str, Any]]:
    """Images of each generator (and real) in each split."""
    counts = Counter((one.generator, where) for one, where in zip(listed, split, strict=True))
    names = sorted({one.generator for one in listed})
    return [
        {"generator": name, **{where: counts[name, where] for where in SPLITS}} for name in names
    ]


def _by_folder(
    listed: Sequence[Labelled], split: Sequence[Split | None]
) -> dict[str, dict[str, int]]:
    """Folder of a published split → images in each list, and left out."""
    counts = Counter((one.subset, where) for one, where in zip(listed, split, strict=True))
    return {
        folder: {
            where or "left out": counts[folder, where]
            for where in (*SPLITS, None)
            if counts[folder, where]
        }
        for folder in sorted({folder for folder, _ in counts})
    }


def _leak(group: int, groups: Sequence[int], listed: Sequence[Labelled], sound: list[Row]) -> str:
    """Two images of a group and of different subsets; of equal bytes, if any are."""
    members = [at for at, one in enumerate(groups) if one == group]
    first: dict[str, int] = {}
    same = [(first.setdefault(sound[at]["sha256"], at), at) for at in members]
    alike = [(members[0], at) for at in members]
    for how, pairs in (("bytes", same), ("look", alike)):
        for one, other in ((listed[a], listed[b]) for a, b in pairs):
            if _subset(one) != _subset(other):
                return f"{one.path} has the {how} of {other.path}"
    raise AssertionError("a group of one subset is no leak")


def _subset(one: Labelled) -> Subset:
    """What lies in no folder of the published split may be trained on, and not tested on."""
    return subset_of(one.subset) or "train"


def name_fault(path: str) -> str | None:
    """Why a file's name can't stand in a list, or None."""
    if item_id(path) != path:
        return "its name is not in the usual Unicode form (NFC): rename it"
    return path_fault(path)


def scheme_of(images: Sequence[Labelled], name: str) -> LabelScheme:
    """The label scheme of the images: origin, content where it is known, generator; real last."""
    makers = sorted({one.generator for one in images if one.origin == SYNTHETIC})
    if REAL in makers:
        raise UserError(f"a generator is called {REAL!r}; that name is for real images")
    contents = sorted({one.content for one in images})
    columns = {"origin": dict(enumerate(get_args(Origin)))}
    if contents != [""]:
        columns["content"] = {code: word or "unknown" for code, word in enumerate(contents)}
    columns["generator"] = dict(enumerate([*makers, REAL]))
    real = len(makers)
    rules: list[dict[str, Any]] = [{"when": {"origin": 0}, "then": {"generator": [real]}}]
    if makers:
        rules.append({"when": {"origin": 1}, "then": {"generator": list(range(real))}})
    return LabelScheme.model_validate({"name": name, "columns": columns, "rules": rules})


def labels_of(one: Labelled, scheme: LabelScheme) -> tuple[int, ...]:
    """The codes of an image."""
    words = {"origin": one.origin, "content": one.content or "unknown", "generator": one.generator}
    codes = {
        column: {w: code for code, w in names.items()} for column, names in scheme.columns.items()
    }
    return tuple(codes[column][words[column]] for column in scheme.columns)
