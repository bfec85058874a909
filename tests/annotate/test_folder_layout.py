import pytest

from rayapp.annotate.folder_layout import Labelled, Pattern, by_layout, parse_layout
from rayapp.annotate.table import from_table
from rayapp.annotate.written_lists import labels_of, name_fault, scheme_of
from rayapp.config.errors import UserError
from rayapp.dataset.labels import Item, format_list, parse_list


def test_folders_say_origin_generator_and_content():
    patterns = parse_layout("real/CONTENT, synthetic/GENERATOR/CONTENT")
    paths = ["real/faces/a.png", "synthetic/sd/x/deep/er/b.png", "synthetic/c.png", "d.png"]
    found, other = by_layout(paths, patterns)
    assert found == [
        Labelled("real/faces/a.png", "real", "real", "faces"),
        Labelled("synthetic/sd/x/deep/er/b.png", "synthetic", "sd", "x"),
    ]
    assert other == ["synthetic/c.png", "d.png"]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("nature=real", "real"),
        ("ai/GENERATOR", "synthetic"),
        ("set/*/GENERATOR", "synthetic"),
        ("Fake", "synthetic"),
        ("0_real", "real"),
        (".=real", "real"),
        ("*/AI images", "synthetic"),
        ("cameras", None),
        ("a//real", None),
        ("x=perhaps", None),
    ],
)
def test_each_pattern_must_say_its_origin(text, origin):
    if origin is None:
        with pytest.raises(UserError, match="=real or =synthetic"):
            Pattern.parse(text)
    else:
        assert Pattern.parse(text).origin == origin


def test_a_table_is_read_and_its_faults_are_named_by_line(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,origin,generator,group\n./a.png,real,,s1\nb/c.png,FAKE,sd,\n")
    assert from_table(str(table)) == [
        Labelled("a.png", "real", "real", "", "s1"),
        Labelled("b/c.png", "synthetic", "sd"),
    ]
    for text, said in [
        ("path,kind\na.png,1\n", ":2: no origin"),
        ("path,label\na.png,1\n", ":2: label 1 may mean either"),
        ("path,origin,split\na.png,1,later\n", ":2: split 'later' is none of train, val, test"),
        ("path,origin\na.png,maybe\n", ":2: origin 'maybe'"),
        ("path,origin\na.png,real\na.png,fake\n", ":3: a.png stands before"),
        ("path,origin\n", "holds no row"),
    ]:
        table.write_text(text)
        with pytest.raises(UserError, match=said):
            from_table(str(table))


def test_a_table_may_call_its_columns_as_others_do_and_keep_a_split(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Filename,Label,Split\na.png,Nature,Training\nb.png,AI,test\n")
    assert from_table(str(table)) == [
        Labelled("a.png", "real", "real", subset="Training"),
        Labelled("b.png", "synthetic", "synthetic", subset="test"),
    ]


def test_names_in_a_layout_are_of_any_case():
    found, other = by_layout(["REAL/a.png", "Fake/SD/b.png"], parse_layout("real,fake/GENERATOR"))
    assert [(one.origin, one.generator) for one in found] == [("real", "real"), ("synthetic", "SD")]
    assert not other


def test_the_scheme_reads_back_what_is_written_under_it():
    images = [
        Labelled("r.png", "real", "real", "faces"),
        Labelled("s,t.png", "synthetic", "SD 1.5", "faces"),
        Labelled("u.png", "synthetic", "GAN"),
    ]
    scheme = scheme_of(images, "own")
    assert list(scheme.columns) == ["origin", "content", "generator"]
    assert list(scheme.names("generator").values()) == ["GAN", "SD 1.5", "real"]
    items = [Item(one.path, one.path, labels_of(one, scheme)) for one in images]
    read = parse_list(format_list(items, scheme), scheme)
    assert not read.defects
    assert [(item.path, item.labels) for item in read.items] == [
        (item.path, item.labels) for item in items
    ]
    assert parse_list("x.png,0,0,1\n", scheme).defects  # real, yet by a generator


def test_no_generator_may_be_called_real():
    with pytest.raises(UserError, match="that name is for real"):
        scheme_of([Labelled("a", "synthetic", "real")], "own")


def test_names_that_a_list_cannot_hold_are_named():
    assert name_fault("a/b.png") is None
    assert "NFC" in (name_fault("cafe\u0301.png") or "")
    assert "backslash" in (name_fault("a\\b.png") or "")
