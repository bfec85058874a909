"""Annotation lists: each defect by file, line and reason; the published lists; round trips."""

import contextlib
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.config.errors import UserError
from rayapp.config.packaged import shipped_names
from rayapp.dataset import labels
from rayapp.dataset.labels import (
    AnnotationList,
    Item,
    LabelScheme,
    format_list,
    item_id,
    load_scheme,
    parse_list,
    path_fault,
    read_list,
    read_lists,
    write_list,
)
from rayapp.storage.store import LocalStore

IMAGINET, CORVI, PRACTICAL = (load_scheme(name) for name in ("imaginet", "corvi", "practical"))
GOOD = "imagenet/a.JPEG,0,0,4,8"


def defect(line: str, scheme: LabelScheme = IMAGINET) -> str:
    """The reason given for the second of three lines, of which only it is wrong."""
    first, last = ("a/first.png", "a/last.png")
    tail = format_list([Item(first, first, tuple(min(c) for c in _real(scheme)))], scheme)
    text = f"{tail}{line}\n{tail.replace(first, last)}"
    parsed = parse_list(text, scheme, "my.txt")
    assert [item.path for item in parsed.items] == [first, last]
    assert [(found.list_uri, found.line) for found in parsed.defects] == [("my.txt", 2)]
    return parsed.defects[0].reason


def _real(scheme: LabelScheme) -> list[list[int]]:
    forced = {name: codes for rule in scheme.rules[:1] for name, codes in rule.then.items()}
    return [forced.get(name, sorted(codes)) for name, codes in scheme.columns.items()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.png", "1 columns, 5 wanted (path,origin,content,generator,model)"),
        ("a.png,0,0,4", "4 columns, 5 wanted"),
        ("a.png,1,1,1,0,0", "6 columns, 5 wanted"),
        ("a.png;0;0;4;8", "1 columns, 5 wanted"),
        ("a.png,0,0,4,x", "codes must be whole numbers"),
        ("a.png,0,0,4,", "codes must be whole numbers"),
        ("a.png,0,0,4,-1", "codes must be whole numbers"),
        ("a.png,0,0,4,8.0", "codes must be whole numbers"),
        ("a.png,0,0,4, 8", "codes must be whole numbers"),
        ("a.png,0,0,4,٨", "codes must be whole numbers"),
        ("a.png,0,0,4," + "9" * 5000, "codes must be whole numbers"),
        ("a.png,2,0,4,8", "origin 2 is not a code of imaginet (known: 0 real, 1 synthetic)"),
        ("a.png,1,4,0,0", "content 4 is not a code"),
        ("a.png,1,0,5,0", "generator 5 is not a code"),
        ("a.png,1,0,0,9", "model 9 is not a code"),
        ("a.png,0,0,1,8", "origin 0 contradicts generator 1"),
        ("a.png,0,0,4,3", "origin 0 contradicts model 3"),
        ("a.png,1,0,4,8", "origin 1 contradicts generator 4"),
        ("a.png,1,0,0,8", "origin 1 contradicts model 8"),
        ("a.png,1,0,0,3", "generator 0 contradicts model 3"),
        ("a.png,1,0,1,6", "generator 1 contradicts model 6"),
        ("/data/a.png,0,0,4,8", "absolute path '/data/a.png'"),
        ("~/a.png,0,0,4,8", "absolute path"),
        ("C:/a.png,0,0,4,8", "absolute path"),
        ("C:\\a.png,0,0,4,8", "absolute path"),
        ("../a.png,0,0,4,8", "leaves the root by '..'"),
        ("a/../../b.png,0,0,4,8", "leaves the root by '..'"),
        ("./../b.png,0,0,4,8", "leaves the root by '..'"),
        ("a/..,0,0,4,8", "leaves the root by '..'"),
        ("a\\b.png,0,0,4,8", "backslash"),
        ("a//b.png,0,0,4,8", "empty or '.' folder"),
        ("a/./b.png,0,0,4,8", "empty or '.' folder"),
        ("a/,0,0,4,8", "no file name"),
        ("./,0,0,4,8", "no file name"),
        (",0,0,4,8", "no file name"),
        ("a\0.png,0,0,4,8", "control character"),
        ("a\t.png,0,0,4,8", "control character"),
        ("a\x7f.png,0,0,4,8", "control character"),
        ("\ufeffa.png,0,0,4,8", "control character"),
        ("a/first.png,0,1,4,8", "a/first.png stands before with other labels (0, 0, 4, 8)"),
    ],
)
def test_each_defect_is_named(line: str, reason: str) -> None:
    assert reason in defect(line)


@pytest.mark.parametrize(
    ("line", "scheme", "reason"),
    [
        ("a.png,1,0,0", CORVI, "4 columns, 3 wanted (path,origin,generator)"),
        ("a.png", CORVI, "1 columns, 3 wanted"),
        ("a.png,1,12", CORVI, "generator 12 is not a code of corvi"),
        ("a.png,2", CORVI, "origin 2 is not a code"),
        ("a.png,1", PRACTICAL, "1 columns, 2 wanted (path origin)"),
        ("a b.png 1 1", PRACTICAL, "4 columns, 2 wanted"),
        ("a.png 3", PRACTICAL, "origin 3 is not a code"),
        ("a.png fake", PRACTICAL, "codes must be whole numbers"),
    ],
)
def test_defects_of_the_other_formats(line: str, scheme: LabelScheme, reason: str) -> None:
    assert reason in defect(line, scheme)


def test_raise_names_file_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "my.txt"
    path.write_text(f"{GOOD}\n\nb.png,0\n" + "c.png,9,0,4,8\n" * 6)
    with pytest.raises(UserError) as caught:
        read_list(path, IMAGINET)
    said = str(caught.value)
    assert said.startswith(f"{path}:3: 2 columns, 5 wanted")
    assert f"; {path}:4: origin 9 is not a code" in said
    assert said.endswith("; and 2 more defects")
    assert "\n" not in said
    collected = read_list(path, IMAGINET, on_defect="collect")
    assert len(collected.defects) == 7
    assert str(collected.defects[0]).startswith(f"{path}:3: ")


@pytest.mark.parametrize("text", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"empty\.txt: holds no item"):
        read_list(path, IMAGINET)


def test_wrong_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("wikiart/Réalisme/a.png,0,1,4,8\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.txt: not UTF-8 text \(byte 9\)"):
        read_list(path, IMAGINET)
    path.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_list(path, IMAGINET)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.txt: no such file"):
        read_list(tmp_path / "absent.txt", IMAGINET)
    with pytest.raises(UserError, match="is a folder"):
        read_list(tmp_path, IMAGINET)


def test_byte_order_mark_crlf_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "dos.txt"
    path.write_bytes(f"\ufeff{GOOD}\r\n\r\n./b.png,1,0,0,0".encode())
    read = read_list(path, IMAGINET)
    assert [(item.id, item.labels) for item in read.items] == [
        ("imagenet/a.JPEG", (0, 0, 4, 8)),
        ("b.png", (1, 0, 0, 0)),
    ]


def test_ids() -> None:
    decomposed = unicodedata.normalize("NFD", "wikiart/Éluard.png")
    assert item_id(f"./{decomposed}") == "wikiart/Éluard.png" != decomposed
    assert item_id(".//././a/b.png") == "a/b.png"
    assert item_id("..a/.b") == "..a/.b"


def test_repeats_are_kept_with_ids_of_their_own() -> None:
    text = "./a.png,0,0,4,8\nb.png,0,0,4,8\na.png,0,0,4,8\n./a.png,0,0,4,8\n"
    items = parse_list(text, IMAGINET).items
    assert [item.id for item in items] == ["a.png", "b.png", "a.png#1", "a.png#2"]
    assert [item.path for item in items] == ["a.png", "b.png", "a.png", "a.png"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_ids_are_unique_even_where_a_path_looks_like_a_repeat(order: tuple[int, ...]) -> None:
    lines = ["a.png,0,0,4,8", "a.png,0,0,4,8", "a.png#1,0,0,4,8"]
    parsed = parse_list("\n".join(lines[at] for at in order), IMAGINET)
    assert len({item.id for item in parsed.items}) == len(parsed.items) == 2
    assert "the id 'a.png#1' is taken" in parsed.defects[0].reason


def test_unicode_forms_of_one_path_are_one_id() -> None:
    path = "Éluard.png"
    text = f"{path},0,0,4,8\n{unicodedata.normalize('NFD', path)},0,1,4,8\n"
    assert "other labels" in parse_list(text, IMAGINET).defects[0].reason


def test_corvi_names_with_commas_and_lists_without_generator() -> None:
    text = "dalle_2/a man, a plan, 3.png,1,7\nreal/b.jpg,0\n"
    assert [(item.path, item.labels) for item in parse_list(text, CORVI).items] == [
        ("dalle_2/a man, a plan, 3.png", (1, 7)),
        ("real/b.jpg", (0,)),
    ]


def test_names_without_suffix_are_names() -> None:
    assert parse_list("2007,1,7\n", CORVI).items[0].path == "2007"


def test_practical_names_with_spaces() -> None:
    assert parse_list("Real/Bryndon Díaz/0.jpg 0\n", PRACTICAL).items[0].labels == (0,)


def test_lists_must_agree(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text(f"{GOOD}\nb.png,1,0,0,0\n")
    two.write_text("./b.png,1,0,0,0\n")
    assert [len(read.items) for read in read_lists([str(one), str(two)], IMAGINET)] == [2, 1]
    two.write_text("./b.png,1,0,0,1\n")
    with pytest.raises(UserError, match=r"b\.png: labels \(1, 0, 0, 1\) in .*two\.txt"):
        read_lists([str(one), str(two)], IMAGINET)


# --- the published lists ------------------------------------------------------------------------


def _published(folder: Path, pattern: str, scheme: LabelScheme) -> dict[str, AnnotationList]:
    found = {p.name: read_list(p, scheme) for p in sorted(folder.glob(pattern))}
    assert found
    assert not any(read.defects for read in found.values())
    return found


def test_published_test_list(published: Path) -> None:
    whole = _published(published / "annotations", "test_annotations.txt", IMAGINET)
    (read,) = whole.values()
    assert len(read.items) == 40_000
    assert sum(read.column("origin")) == 20_000
    assert {path_fault(item.path) for item in read.items[:100]} == {None}


@pytest.mark.slow
def test_all_published_imaginet_lists(published: Path) -> None:
    lists = _published(published / "annotations", "*.txt", IMAGINET)
    assert len(lists) == 12
    reals = [
        item
        for name in ("gan", "sd", "midjourney", "dalle3")
        for item in lists[f"test_annotations_{name}.txt"].items
        if item.labels[0] == 0
    ]
    assert len(reals) == 20_000
    assert len({item_id(item.path) for item in reals}) == 18_322


def test_published_corvi_lists(published: Path) -> None:
    lists = _published(published / "suites", "*corvi.txt", CORVI)
    whole = lists["annotations_corvi.txt"]
    assert len(whole.items) == 21_000
    assert sum("," in item.path for item in whole.items) == 6
    assert {len(item.labels) for item in whole.items} == {2}
    assert {len(i.labels) for i in lists["annotations_calib_corvi.txt"].items} == {1}


def test_published_practical_lists(published: Path) -> None:
    lists = _published(published / "suites", "Test_*.txt", PRACTICAL)
    for name, read in lists.items():
        assert f"_num{len(read.items)}." in name
    _published(published / "suites", "*practical.txt", PRACTICAL)


def test_published_lists_rewritten_are_the_same(published: Path) -> None:
    path = published / "annotations" / "test_calibration.txt"
    text = format_list(read_list(path, IMAGINET).items, IMAGINET)
    assert text == path.read_text().replace("./", "")


# --- writing ------------------------------------------------------------------------------------


@st.composite
def items(draw: st.DrawFn, scheme: LabelScheme) -> Item:
    """Any item that is allowed, and many that are not."""
    path = draw(st.text(st.sampled_from("ab, ./#\\1é\u0301\u2028\x85\ufeff\n\ud800"), max_size=8))
    count = len(scheme.columns) - draw(st.integers(0, scheme.optional))
    codes = [draw(st.sampled_from(sorted(c))) for c in list(scheme.columns.values())[:count]]
    return Item(path, path, tuple(codes))


@pytest.mark.parametrize("scheme", [IMAGINET, CORVI, PRACTICAL], ids=lambda scheme: scheme.name)
@given(st.data())
def test_what_is_written_is_read_back(scheme: LabelScheme, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(items(scheme), max_size=4))
    kept = []
    for item in wanted:
        with contextlib.suppress(UserError):
            format_list([item], scheme)
            kept.append(item)
    text = format_list(kept, scheme)
    parsed = parse_list(text.encode().decode("utf-8-sig"), scheme)
    clashing = [found for found in parsed.defects if not _clash(found.reason)]
    assert not clashing
    if not parsed.defects:
        assert [(i.path, i.labels) for i in parsed.items] == [(i.path, i.labels) for i in kept]


def _clash(reason: str) -> bool:
    """Defects that no single line has: they come from the lines before."""
    return "stands before with other labels" in reason or "is taken" in reason


@given(st.text(st.sampled_from("ab./\\~: \0\n"), max_size=8))
def test_paths_without_fault_stay_under_any_root(path: str) -> None:
    if path_fault(path) is None:
        store = LocalStore("/root")
        assert store.uri(path) == f"/root/{path}"  # the store takes it too
        assert not path.startswith("~")


def test_write_refuses_what_could_not_be_read(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    for item in (
        Item("x", "../x", (0, 0, 4, 8)),
        Item("x", "x", (0, 0, 4)),
        Item("x", "x", (0, 0, 1, 8)),
        Item("x", "x,1", (0, 0, 4, 8)),
        Item("x", "./x", (0, 0, 4, 8)),
        Item("x", "x\udc80.png", (0, 0, 4, 8)),
    ):
        with pytest.raises(UserError, match="x"):
            write_list(store, "list.txt", [item], IMAGINET)
    assert list(tmp_path.iterdir()) == []
    write_list(store, "list.txt", [Item("x", "x, y.png", (0, 0, 4, 8))], IMAGINET)
    assert (tmp_path / "list.txt").read_text() == "x, y.png,0,0,4,8\n"
    assert read_list(store.uri("list.txt"), IMAGINET).items[0].path == "x, y.png"


# --- schemes ------------------------------------------------------------------------------------


def test_every_shipped_scheme_is_a_scheme() -> None:
    shipped = set(shipped_names("annotations")) & {"imaginet", "corvi", "practical"}
    assert shipped == {load_scheme(name).name for name in shipped}
    assert len(shipped) == 3


def test_codes_have_names() -> None:
    assert IMAGINET.names("generator")[4] == "real"
    assert list(IMAGINET.columns) == ["origin", "content", "generator", "model"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("columns: {o: {0: r}}\noptional: 2\n", "optional is 2, there are 1 columns"),
        ("columns: {o: {0: r}}\nrules: [{when: {p: 0}, then: {o: [0]}}]\n", "a rule names p 0"),
        ("columns: {o: {0: r}}\nrules: [{when: {o: 0}, then: {o: [7]}}]\n", "a rule names o 7"),
        ("columns: {o: {40000: r}}\n", "less than or equal to 32767"),
        ("columns: {o: {0: r}}\nseparator: ', '\n", ":3: separator: "),
        ("colums: {}\n", ":2: unknown key 'colums'"),
    ],
)
def test_wrong_schemes_are_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\n{text}")
    with pytest.raises(UserError) as caught:
        load_scheme(str(path))
    assert str(caught.value).startswith(str(path))
    assert reason in str(caught.value)


def test_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"nope: no such file.*known: .*imaginet"):
        load_scheme("nope")


@given(
    st.lists(
        st.sampled_from(
            [
                "./a.png,0,0,4,8",
                "a.png,0,0,4,8",
                "a,b.png,0,0,4,8",
                "a.png,0,0,4,8,8",
                "../a,0,0,4,8",
                "./.hidden,0,0,4,8",
                "a/../b,0,0,4,8",
                "a//b,0,0,4,8",
                "././a.png,1,0,0,0",
                "b.png,0,0,0,8",
                "cafe\u0301.png,1,0,0,0",
                "a.png,1,0,0,0",
                "x y.png,0,0,4,8",
                "a.png,0,0,4",
                "a.png#1,0,0,4,8",
                "C:/a,0,0,4,8",
                "~/a,0,0,4,8",
                "a/,0,0,4,8",
                ",0,0,4,8",
                "a.png,0,0,4,9",
                "a.png,00,0,4,8",
            ]
        )
    )
)
def test_plain_lines_are_read_as_all_others_are(lines):
    """The short way for plain lines and the long way give the same items and defects."""
    scheme = load_scheme("imaginet")
    short = parse_list("\n".join(lines), scheme)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "_PLAIN", r"(\Z.)")  # matches nothing
        long = parse_list("\n".join(lines), scheme)
    assert (short.items, short.defects) == (long.items, long.defects)
