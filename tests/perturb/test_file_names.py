import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import Item, format_list, load_scheme, parse_list, read_lists
from rayapp.perturb.file_names import list_name, slug, targets

SCHEME = load_scheme("imaginet")


def listed(text, source="a.txt"):
    return parse_list(text, SCHEME, source)


def test_names_are_numbered_through_all_lists():
    lists = [listed("a.png,1,0,0,1\nb.png,0,2,4,8\n"), listed("c.png,1,3,3,7\n", "b.txt")]
    assert [[t.name for t in named] for named in targets(lists, "clean")] == [
        ["testset/photos/synthetic/gan/00000.webp", "testset/faces/real/00001.webp"],
        ["testset/uncategorized/synthetic/dalle3/00002.webp"],
    ]


def test_repeats_are_kept_only_where_the_plan_keeps_them():
    lists = [
        listed("./a.png,0,0,4,8\na.png,0,0,4,8\n"),
        listed("a.png,0,0,4,8\nb.png,0,0,4,8\n", "b.txt"),
    ]
    clean = [[(t.item.id, t.source_path) for t in named] for named in targets(lists, "clean")]
    assert clean == [[("a.png", "a.png")], [("b.png", "b.png")]]
    for plan in ("legacy", "published"):
        kept = [[t.item.id for t in named] for named in targets(lists, plan)]
        assert kept == [["a.png", "a.png#1"], ["a.png#2", "b.png"]]


def test_what_no_column_says_is_left_out_of_the_name():
    corvi = load_scheme("corvi")
    (named,) = targets([parse_list("a.png,0\nb.png,1,0\n", corvi, "c.txt")], "clean")
    assert [t.name for t in named] == [
        "testset/real/00000.webp",
        "testset/synthetic/progan/00001.webp",
    ]


def test_letters_of_any_script_name_a_folder():
    assert [slug(name) for name in ("DALL-E 3", "图片", "«»")] == ["dalle3", "图片", "unnamed"]


def test_lists_that_would_overwrite_each_other_are_refused():
    text = "a.png,0,0,4,8\n"
    with pytest.raises(UserError, match=r"2 annotation lists would be written as lists/t\.txt"):
        targets([listed(text, "x/t.txt"), listed(text, "y/t.txt")], "clean")


def test_the_published_lists_are_reproduced_to_the_line(published):
    names = ("gan", "sd", "midjourney", "dalle3")
    folder = published / "annotations"
    lists = read_lists([str(folder / f"test_annotations_{n}.txt") for n in names], SCHEME)
    for one, named in zip(lists, targets(lists, "legacy"), strict=True):
        items = [Item(t.name, t.name, t.item.labels) for t in named]
        expected = (folder / list_name(one.list_uri)).read_text().replace("./testset/", "testset/")
        assert format_list(items, SCHEME).rstrip("\n") == expected.rstrip("\n")
