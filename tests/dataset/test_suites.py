from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.config.packaged import shipped_names
from rayapp.dataset.suites import load_suite, read_items, strength
from rayapp.storage.uris import open_store
from rayapp.transforms import load_perturbation
from tests.evaluate.published_set import cut


@pytest.fixture(scope="module")
def lists(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut(published, tmp_path_factory.mktemp("lists"), 400)


@pytest.mark.parametrize("name", shipped_names("configs/suites"))
def test_every_suite_says_what_it_is(name: str):
    suite = load_suite(name)
    assert suite.name == name
    if suite.sweep is not None:
        for name in (suite.sweep.clean, suite.sweep.legacy or suite.sweep.clean):
            strengths = [strength(v) for v in load_perturbation(name).variant_names]
            assert len(set(strengths)) == len(strengths)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "legacy", "clean"),
    [
        ("imaginet", "annotations", (40_000, 20_000), (38_322, 18_322)),
        ("imaginet-content", "annotations", (40_000, 20_000), (38_322, 18_322)),
        ("imaginet-model", "annotations", (40_000, 20_000), (38_322, 18_322)),
        ("imaginet-model-id", "annotations", (20_000, 0), (20_000, 0)),
        ("corvi", "suites", (21_000, 5_000), (21_000, 5_000)),
        ("practical", "suites", (7_792, 3_896), (5_854, 1_958)),
    ],
)
def test_rows_of_the_published_lists(
    published: Path, name: str, folder: str, legacy: tuple[int, int], clean: tuple[int, int]
):
    """Rows and reals; clean has each photograph once: 18,322 of ImagiNet's 20,000 real rows."""
    store = open_store(published / folder)
    suite = load_suite(name)
    for protocol, expected in (("legacy", legacy), ("clean", clean)):
        found = read_items(suite, [store.uri(n) for n in suite.lists], store, protocol)  # type: ignore[arg-type]
        reals = sum(item.labels[0] == 0 for item in found.items)
        assert (len(found.items), reals) == expected
        assert sum(found.dropped.values()) == legacy[0] - expected[0]


def test_a_missing_list_is_named(lists: Path):
    store, suite = open_store(lists), load_suite("imaginet")
    uris = [store.uri(name) for name in suite.lists]
    (lists / "test_sd.txt").rename(lists / "away")
    try:
        with pytest.raises(UserError, match=r"test_sd\.txt: no such file"):
            read_items(suite, uris, store, "legacy")
    finally:
        (lists / "away").rename(lists / "test_sd.txt")


def test_repeats_that_cannot_be_told_are_said(lists: Path, tmp_path: Path):
    suite, store = load_suite("imaginet"), open_store(lists)
    found = read_items(suite, [store.uri(n) for n in suite.lists], open_store(tmp_path), "clean")
    assert "can't be told in test_gan.txt" in found.notes[0]


def test_lists_that_do_not_go_line_by_line_are_refused_under_legacy(lists: Path, tmp_path: Path):
    for file in lists.glob("test_*.txt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    short = tmp_path / "test_annotations_gan.txt"
    short.write_text("\n".join(short.read_text().splitlines()[1:]))
    suite, store = load_suite("imaginet"), open_store(tmp_path)
    with pytest.raises(UserError, match="do not go line by line"):
        read_items(suite, [store.uri(n) for n in suite.lists], store, "legacy")


WRONG = {
    "slices: {GAN: 9}\ncolumn: generator": "9 is none of",
    "column: colour": "no column 'colour'",
    "task: identification": "identification is by a label column",
    "nonsense: 1": "unknown key 'nonsense'",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_suite_is_named(tmp_path: Path, text: str):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\ntitle: Mine\n{text}\n")
    with pytest.raises(UserError, match=WRONG[text]):
        load_suite(str(file))


def test_an_unknown_suite_lists_those_there_are():
    with pytest.raises(UserError, match=r"known: corvi, folder, imaginet"):
        load_suite("none")
