import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme, parse_list
from rayapp.train.data.items import describe, train_items

TEXT = "a.png,0,0,4,4\nb.png,1,0,0,0\n./a.png,0,0,4,4\nc.png,1,1,3,3\n"


def test_repeats_are_taken_once_under_the_plain_id() -> None:
    items = train_items([parse_list(TEXT, load_scheme("demo"))], "origin")
    assert [(item.id, item.path, item.target) for item in items] == [
        ("a.png", "a.png", 0),
        ("b.png", "b.png", 1),
        ("c.png", "c.png", 1),
    ]
    assert items[2].labels == (1, 1, 3, 3)


def test_real_images_have_no_class_of_another_target() -> None:
    scheme = load_scheme("demo")
    assert [i.target for i in train_items([parse_list(TEXT, scheme)], "model")] == [-1, 0, 3]
    assert "real" not in describe(scheme, "model").classes
    assert describe(scheme, "origin").classes == ("real", "synthetic")


def test_a_scheme_without_generators_gives_zeros() -> None:
    items = train_items([parse_list("a.png,1\n", load_scheme("corvi"))], "origin")
    assert items[0].labels[0] == 1


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(UserError, match="target 'colour': demo has origin, content"):
        describe(load_scheme("demo"), "colour")
