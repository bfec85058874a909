import pytest

from rayapp.audit import lists as of_lists
from rayapp.audit.findings import list_facts, of_the_lists
from rayapp.audit.lists import (
    Listed,
    balance,
    contradictions,
    names_of,
    off_balance,
    overlaps,
    role_of,
)
from rayapp.dataset.labels import load_scheme, parse_list, read_list

MAKER = {8: 4, 0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 3}  # model → generator


def listed(name, text, scheme="imaginet", role=None):
    return Listed.of(parse_list(text, load_scheme(scheme), name), name, role or role_of(name))


def test_roles_are_read_off_the_names():
    assert role_of("annotations/test_calibration.txt") == "calibration"
    assert role_of("annotations_calib_corvi.txt") == "calibration"
    assert role_of("lasted_anchor.txt") == "anchor"
    assert role_of("train_annotations.txt") == "train"
    assert role_of("head.txt") == "head"
    assert role_of("Test_DreamBooth_num1052.txt") == "test"


def test_names_are_as_long_as_it_takes_to_tell_them_apart():
    assert names_of(["x/a.txt", "x/b.txt"]) == ["a.txt", "b.txt"]
    assert names_of(["x/a.txt", "y/a.txt"]) == ["x/a.txt", "y/a.txt"]


def test_overlaps_contradictions_and_leaks_are_named():
    train = listed("train.txt", "a.png,0,0,4,8\nb.png,1,0,0,0\nb.png,1,0,0,0\nx\n")
    test = listed("test.txt", "./a.png,0,0,4,8\nb.png,1,0,1,3\nc.png,0,0,4,8\n")
    (shared,) = overlaps([train, test])
    assert (shared["shared"], shared["real"], shared["synthetic"]) == (2, 1, 1)
    assert len(contradictions([train, test])) == 1
    found = {one.kind: one for one in of_the_lists([train, test], list_facts([train, test]))}
    assert found["leak"].text == "2 of 2 images of train.txt (train) are in the test lists"
    assert "train.txt:4" in found["list"].text
    assert not found["repeats"].wrong
    assert found["labels"].count == 1


def test_disjoint_lists_have_no_findings():
    lists = [
        listed("train.txt", "a.png,0,0,4,8\nb.png,1,0,0,0\n"),
        listed("calibration.txt", "d.png,0,0,4,8\ne.png,1,0,0,0\n"),
        listed("test.txt", "f.png,0,0,4,8\ng.png,1,0,0,0\n"),
    ]
    assert of_the_lists(lists, list_facts(lists)) == []


def test_the_published_composition_adds_up():
    known = of_lists.published()
    assert sum(part.images for part in known.parts) == known.images


def test_a_list_out_of_balance_is_named():
    scale = of_lists.published().images // 200
    lines = [
        f"{part.content}-{model}-{at}.png,{int(model != 8)},{part.content},{MAKER[model]},{model}"
        for part in of_lists.published().parts
        for model in part.models[:1]
        for at in range(part.images // scale)
    ]
    whole = listed("test.txt", "\n".join([*lines, "sdxl.png,1,0,1,4", "an.png,1,1,1,4"]))
    assert off_balance(balance(whole)) == []
    cut = listed("test.txt", "\n".join([*lines[20:], "sdxl.png,1,0,1,4", "an.png,1,1,1,4"]))
    assert "photos real: 5.6% of test.txt, published 15.0%" in off_balance(balance(cut))


# --- the published lists ------------------------------------------------------------------------


def read(folder, patterns, scheme):
    paths = sorted(path for one in patterns for path in folder.glob(one))
    rows = [read_list(path, load_scheme(scheme), on_defect="collect") for path in paths]
    return [
        Listed.of(one, path.name, role_of(path.name)) for one, path in zip(rows, paths, strict=True)
    ]


def test_the_leaks_of_the_published_lists_are_found(published):
    lists = read(published / "annotations", ["*.txt"], "imaginet")
    facts = list_facts(lists)
    families = {one["whole"]: one for one in facts["families"]}
    original = families["test_annotations.txt"]
    assert (original["real_rows"], original["real_different"]) == (20_000, 18_322)
    assert original["real_never_used"] == 1678
    assert original["real_shared_by_parts"] == 1137  # research: reals shared between splits
    assert original["synthetic_never_used"] == 0
    assert families["test_all.txt"]["real_never_used"] == 0
    (leak,) = [one for one in facts["leaks"] if one["role"] == "calibration"]
    assert (leak["shared"], leak["items"]) == (80, 80)
    assert facts["calibration_sources"] == [
        {"list": "test_calibration.txt", "real": 40, "parts": 8, "real_from": {"test_gan.txt": 40}}
    ]
    assert [one for part in lists for one in off_balance(balance(part))] == []
    compared = {row["list"] for row in facts["balance"] if row["published"] is not None}
    assert compared == {"test_all.txt", "test_annotations.txt"}
    texts = [one.text for one in of_the_lists(lists, facts) if one.wrong]
    assert "all 40 real images of test_calibration.txt come from test_gan.txt alone" in texts


@pytest.mark.parametrize(
    ("scheme", "pattern", "items"),
    [("corvi", ["*corvi*.txt"], 48), ("practical", ["Test_*.txt", "*practical*.txt"], 24)],
)
def test_the_leaks_of_the_suites_are_found(published, scheme, pattern, items):
    (leak,) = [
        one
        for one in list_facts(read(published / "suites", pattern, scheme))["leaks"]
        if one["role"] == "calibration"
    ]
    assert (leak["shared"], leak["items"], leak["with"]) == (items, items, "test")
