from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.storage.uris import open_store
from rayapp.tune.folds import HEAD_LIST, JUDGE_LIST, TRAIN_LIST, Fold, make_folds
from tests.tune.conftest import Made

SCHEME = load_scheme("demo")


def paths(fold: Fold, name: str) -> dict[str, tuple[int, ...]]:
    return {i.path: i.labels for i in read_list(fold.list_uri(name), SCHEME).items}


def paths_of(images: Path) -> dict[str, tuple[int, ...]]:
    return {i.path: i.labels for i in read_list(str(images / "all.txt"), SCHEME).items}


def test_neither_generator_nor_photograph_is_on_both_sides(
    training: Made, images: Path, tmp_path: Path
) -> None:
    table = pq.read_table(images / "manifest.parquet")
    group = dict(zip(table["path"].to_pylist(), table["group"].to_pylist(), strict=True))
    folds = make_folds(training(folds=()), SCHEME, open_store(tmp_path / "f"))
    assert len(folds) == 3
    seen_photos: list[str] = []
    for fold in folds:
        train, judged = paths(fold, TRAIN_LIST), paths(fold, JUDGE_LIST)
        code = next(c for c, n in SCHEME.names("generator").items() if n == fold.left_out)
        assert code not in {labels[2] for labels in train.values()}
        assert {labels[2] for labels in judged.values()} == {0, 1, 2, 4}
        assert not {group[p] for p in train} & {group[p] for p in judged}
        assert fold.groups == {path: group[path] for path in judged}
        seen_photos += sorted({group[p] for p in judged})
    assert sorted(seen_photos) == sorted(set(group.values()))  # each photograph judges once


def with_sources(images: Path, tmp_path: Path, sources: list[str]) -> str:
    table = pq.read_table(images / "manifest.parquet")
    named = [sources[at % len(sources)] for at in range(table.num_rows)]
    pq.write_table(table.append_column("source", pa.array(named)), tmp_path / "m.parquet")
    return str(tmp_path / "m.parquet")


def test_a_source_of_reals_is_left_out_whole_with_all_that_was_made_of_its_photographs(
    training: Made, images: Path, tmp_path: Path
) -> None:
    # Kinds alternate by six, reals first: two sources of six photographs each.
    table = pq.read_table(images / "manifest.parquet")
    group = dict(zip(table["path"].to_pylist(), table["group"].to_pylist(), strict=True))
    photo = {path: int(name.split("-")[1]) for path, name in group.items()}
    source = [f"camera-{photo[path] % 2}" for path in table["path"].to_pylist()]
    pq.write_table(table.append_column("source", pa.array(source)), tmp_path / "m.parquet")
    changes = {"manifest": str(tmp_path / "m.parquet"), "leave_out": "source", "folds": ()}
    folds = make_folds(training(**changes), SCHEME, open_store(tmp_path / "f"))
    assert [fold.left_out for fold in folds] == ["camera-0", "camera-1"]
    for number, fold in enumerate(folds):
        train, judged = paths(fold, TRAIN_LIST), paths(fold, JUDGE_LIST)
        held = {p for p, labels in paths_of(images).items() if photo[p] % 2 == number}
        assert fold.held == {p for p in held if not paths_of(images)[p][0]}
        assert fold.held <= judged.keys()
        assert not {group[p] for p in train} & {group[p] for p in judged}
        assert {labels[0] for labels in train.values()} == {0, 1}
        assert fold.held_out == ()


def test_one_model_may_be_left_out_of_its_family(training: Made, tmp_path: Path) -> None:
    folds = make_folds(training(folds=(), leave_out="model"), SCHEME, open_store(tmp_path / "f"))
    names = SCHEME.names("model")
    for fold in folds:
        kinds = {names[labels[3]] for labels in paths(fold, TRAIN_LIST).values() if labels[0]}
        assert fold.left_out not in kinds
        assert len(kinds) == 2
        assert fold.held_out == (fold.left_out,)


def test_reals_without_a_source_are_named(training: Made, images: Path, tmp_path: Path) -> None:
    manifest = with_sources(images, tmp_path, ["a", "b", ""])
    with pytest.raises(UserError, match=r"names no source of \d+ real images; first: \d+\.png"):
        make_folds(
            training(leave_out="source", manifest=manifest, folds=()),
            SCHEME,
            open_store(tmp_path / "f"),
        )


def test_the_heads_list_loses_the_same(training: Made, images: Path, tmp_path: Path) -> None:
    settings = training(head_annotations=[str(images / "all.txt")])
    (fold,) = make_folds(settings, SCHEME, open_store(tmp_path / "f"))
    assert paths(fold, HEAD_LIST) == paths(fold, TRAIN_LIST)


def test_a_part_of_a_large_list_keeps_its_shares(training: Made, tmp_path: Path) -> None:
    (whole,) = make_folds(training(), SCHEME, open_store(tmp_path / "a"))
    (part,) = make_folds(training(fold_images=24), SCHEME, open_store(tmp_path / "b"))
    judged = paths(part, JUDGE_LIST)
    assert judged.items() <= paths(whole, JUDGE_LIST).items()
    origins = [labels[0] for labels in judged.values()]
    assert len(judged) < len(paths(whole, JUDGE_LIST))
    assert abs(origins.count(0) - 12) <= 3
    assert paths(part, TRAIN_LIST) == paths(whole, TRAIN_LIST)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": ["dall-e"]}, r"folds: 'dall-e' is not in the list \(it has bilinear"),
        ({"manifest": "nogroup"}, "has no column group"),
    ],
)
def test_a_wrong_fold_is_named(training: Made, tmp_path: Path, changes: dict, said: str) -> None:
    if "manifest" in changes:
        changes = {"manifest": str(tmp_path / "m.parquet")}
        pq.write_table(pa.table({"path": ["a"]}), tmp_path / "m.parquet")
    with pytest.raises(UserError, match=said):
        make_folds(training(**changes), SCHEME, open_store(tmp_path / "f"))


def test_too_few_images_are_named(training: Made, images: Path, tmp_path: Path) -> None:
    lines = (images / "all.txt").read_text().splitlines(keepends=True)
    (tmp_path / "few.txt").write_text("".join(lines[:24]))
    settings = training(annotations=[str(tmp_path / "few.txt")])
    with pytest.raises(UserError, match=r"fold without bilinear .*: \d images of it to judge by"):
        make_folds(settings, SCHEME, open_store(tmp_path / "f"))
