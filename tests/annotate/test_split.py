import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.annotate.split import SPLITS, check, deal, deal_subsets, open_to, parse_shares
from rayapp.config.errors import UserError
from rayapp.dataset.grouping import joined

SHARES = parse_shares("60/15/10/15")


def test_shares_are_of_any_sum_and_faults_are_named():
    assert parse_shares("6/1.5/1/1.5") == SHARES
    assert parse_shares("8/0/0/2")["head"] == 0
    assert parse_shares("0/0/0/7") == {name: float(name == "test") for name in SPLITS}
    for text in ("1/2/3", "a/b/c/d", "0/1/1/1", "0/0/1/9", "1/1/1/0", "0/0/0/0", "1/-1/1/1"):
        with pytest.raises(UserError, match="60/15/10/15"):
            parse_shares(text)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), max_size=20))
def test_images_that_share_any_key_are_one_group(keys):
    groups = joined(keys)
    for at, names in enumerate(keys):
        assert groups[at] <= at
        for before in range(at):
            if set(names) & set(keys[before]):
                assert groups[at] == groups[before]
    assert len(set(groups)) >= len(keys) - sum(max(0, len(set(names))) for names in keys)


@given(st.data())
def test_a_deal_keeps_groups_whole_and_does_not_depend_on_order(data):
    count = data.draw(st.integers(1, 60))
    makers = data.draw(
        st.lists(st.sampled_from(["real", "a", "b"]), min_size=count, max_size=count)
    )
    groups = data.draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
    names = [f"{at}.png" for at in range(count)]
    held = frozenset(data.draw(st.sets(st.sampled_from(["a", "b"]))))
    split = deal(names, [[one] for one in makers], groups, SHARES, seed=1, test_only=held)
    of_group = {}
    for group, where in zip(groups, split, strict=True):
        assert of_group.setdefault(group, where) == where
    for maker, where in zip(makers, split, strict=True):
        assert maker not in held or where == "test"
    order = list(range(count))
    random.Random(data.draw(st.integers())).shuffle(order)
    again = deal(
        [names[k] for k in order],
        [[makers[k]] for k in order],
        [groups[k] for k in order],
        SHARES,
        seed=1,
        test_only=held,
    )
    assert [split[k] for k in order] == again


def test_every_generator_is_dealt_in_proportion():
    makers = ["real"] * 500 + ["a"] * 300 + ["b"] * 200
    names = [f"{at}.png" for at in range(1000)]
    groups = [at // 3 if at < 500 else at for at in range(1000)]
    classes = [[maker] for maker in makers]
    split = deal(names, classes, groups, SHARES, seed=0)
    counts = Counter(zip(split, makers, strict=True))
    for maker, total in Counter(makers).items():
        for name in SPLITS:
            assert abs(counts[name, maker] - total * SHARES[name]) <= 3
    assert deal(names, classes, groups, SHARES, seed=1) != split
    check(split, ["real" if maker == "real" else "synthetic" for maker in makers], SHARES)


def test_a_split_without_an_origin_is_named():
    with pytest.raises(UserError, match="head is left without real images"):
        check(
            ["train", "train", "head", "test", "test"],
            ["real", "synthetic", "synthetic", "real", "synthetic"],
            SHARES,
        )


def test_many_small_classes_are_dealt_in_proportion_as_a_whole():
    """ForenSynths has twenty classes: each alone has too few images for four lists."""
    names = [f"{at}.png" for at in range(60)]
    classes = [(["real", "synthetic"][at % 2], f"class {at % 20}") for at in range(60)]
    split = deal(names, classes, range(60), SHARES, seed=0)
    counts = Counter((where, both[0]) for where, both in zip(split, classes, strict=True))
    for origin in ("real", "synthetic"):
        for name in SPLITS:
            assert abs(counts[name, origin] - 30 * SHARES[name]) <= 1


def test_what_a_published_split_may_become():
    assert open_to("test", {"train", "val", "test"}) == ("test",)
    assert open_to("val", {"train", "val", "test"}) == ("calibration",)
    assert open_to("train", {"train", "val", "test"}) == ("train", "head")
    # CIFAKE: no val. GenImage: no test, its val is what published figures are of.
    assert open_to("train", {"train", "test"}) == ("train", "head", "calibration")
    assert open_to("val", {"train", "val"}) == ("test",)
    assert open_to("train", {"train", "val"}) == ("train", "head", "calibration")


@given(st.data())
def test_a_published_split_is_kept_whatever_looks_alike(data):
    count = data.draw(st.integers(1, 50))
    subsets = data.draw(
        st.lists(st.sampled_from(["train", "val", "test"]), min_size=count, max_size=count)
    )
    groups = data.draw(st.lists(st.integers(0, 25), min_size=count, max_size=count))
    makers = data.draw(
        st.lists(st.sampled_from(["real", "a", "b"]), min_size=count, max_size=count)
    )
    held = frozenset(data.draw(st.sets(st.sampled_from(["a", "b"]))))
    names = [f"{at}.png" for at in range(count)]
    split, leaks = deal_subsets(
        subsets, names, [[one] for one in makers], groups, SHARES, seed=1, test_only=held
    )
    pools = {subset: open_to(subset, set(subsets)) for subset in set(subsets)}
    by_group = {}
    for subset, where, group, maker in zip(subsets, split, groups, makers, strict=True):
        assert where is None or where in pools[subset]
        assert maker not in held or where in {"test", None}
        if pools[subset] == ("test",):
            assert where == "test"
        if where == "calibration":
            assert group not in leaks
        by_group.setdefault(group, set()).add(pools[subset])
    assert leaks == sorted(group for group, found in by_group.items() if len(found) > 1)
    # Apart from those, what is alike is in one list.
    for group in set(groups) - set(leaks):
        assert len({split[k] for k in range(count) if groups[k] == group}) == 1
