import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.config.packaged import shipped_names
from rayapp.transforms.perturbations import PLAIN, load_perturbation
from rayapp.transforms.plans import apply, apply_each
from tests.transforms.conftest import picture

NAMES = shipped_names("configs/perturbations")
GRIDS = {
    "jpeg-grid": 13,
    "jpeg-grid-published": 13,
    "webp-grid": 13,
    "resize-grid": 11,
    "resize-grid-published": 11,
    "blur-grid": 5,
    "noise-grid": 5,
    "deliveries": 4,
}

WHOLE_IMAGES = {"web", "hard", "chain", "web-train", "deliveries"}  # sizes differ, as images do
OTHER_SIZES = {"social", "demo-train", "imaginet-train", "practical-448", "equalise", *WHOLE_IMAGES}


def test_all_shipped_perturbations_load_and_bear_their_file_s_name():
    assert set(GRIDS) | {
        "imaginet-test",
        "imaginet-train",
        "imaginet-head",
        "demo-train",
        "corvi-256",
        "practical-448",
        "equalise",
        "social",
        *WHOLE_IMAGES,
    } == set(NAMES)
    for name in NAMES:
        assert load_perturbation(name).name == name
        assert len(load_perturbation(name).variant_names) == GRIDS.get(name, 1)
    assert len({load_perturbation(name).hash for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_perturbation_takes_images_of_any_shape(name):
    for size in [(1, 1), (3, 900), (256, 256), (300, 410)]:
        plans = load_perturbation(name).draw(size, "x", seed=1)
        for _, made in apply_each(plans, picture(*size)):
            assert made.dtype == np.uint8
            if name not in OTHER_SIZES:
                assert made.shape == (256, 256, 3)


def test_golden_plan():
    perturbation = load_perturbation("imaginet-test")
    assert perturbation.draw((700, 900), "photos/real/coco/00001.jpg", 42)[PLAIN].to_json() == (
        '[{"op":"crop","top":1,"left":104,"height":694,"width":694},'
        '{"op":"resize","height":256,"width":256,"filter":"lanczos4"}]'
    )
    assert perturbation.draw((100, 900), "paintings/é.png#2", 7)[PLAIN].to_json() == (
        '[{"op":"crop","top":0,"left":329,"height":100,"width":256},'
        '{"op":"pad","height":256,"width":256}]'
    )


def test_draws_hang_on_seed_item_and_epoch_alone():
    perturbation = load_perturbation("imaginet-train")
    first = perturbation.draw((300, 400), "a", seed=1)
    perturbation.draw((300, 400), "b", seed=1)
    assert perturbation.draw((300, 400), "a", seed=1) == first
    others = [perturbation.draw((300, 400), *rest) for rest in [("b", 1), ("a", 2), ("a", 1, 1)]]
    assert all(other != first for other in others)


def test_variants_draw_apart_and_share_the_common_draws(tmp_path):
    text = (
        "name: mine\nsteps: [{crop: {side: 32}}]\n"
        "variants:\n  a: [{noise: {variance: 9}}]\n  b: [{noise: {variance: 9}}]\n"
    )
    both, one = tmp_path / "both.yaml", tmp_path / "one.yaml"
    both.write_text(text)
    one.write_text(text.replace("  a: [{noise: {variance: 9}}]\n", ""))
    plans = load_perturbation(str(both)).draw((99, 99), "x", seed=1)
    assert plans["a"].steps[0] == plans["b"].steps[0]
    assert plans["a"].steps[1] != plans["b"].steps[1]
    assert load_perturbation(str(one)).draw((99, 99), "x", seed=1) == {"b": plans["b"]}


def test_resize_grid_leaves_out_what_is_too_small():
    grid, published = load_perturbation("resize-grid"), load_perturbation("resize-grid-published")
    assert list(grid.draw((700, 600), "x", seed=1)) == list(grid.variant_names)[4:]
    assert len(published.draw((700, 600), "x", seed=1)) == 11
    assert grid.draw((255, 3000), "x", seed=1) == {}
    sides = [dict(rules[0].crop)["side"][0] for rules in grid.variants.values()]
    assert sides == [int(256 * 12 / i) for i in range(2, 13)]


def test_social_chain_is_its_four_steps():
    plan = load_perturbation("social").draw((600, 800), "x", seed=1)[PLAIN]
    chain = [(step.op, dict(step.params).get("quality")) for step in plan.steps]
    wanted = [("crop", None), ("resize", None), ("jpeg", 55), ("webp", 75), ("jpeg", 80)]
    assert chain == wanted
    assert apply(plan, picture(600, 800)).shape == (256, 256, 3)


@pytest.mark.parametrize(("name", "longest", "quality"), [("web", 768, 60), ("hard", 512, 40)])
def test_web_and_hard_shrink_what_is_larger_and_compress(name, longest, quality):
    for size, made in [
        ((1500, 1000), (longest, round(longest * 2 / 3))),
        ((100, 3000), (round(longest / 30), longest)),
        ((longest, 20), (longest, 20)),
        ((30, 40), (30, 40)),
    ]:
        plan = load_perturbation(name).draw(size, "x", seed=1)[PLAIN]
        ops = [step.op for step in plan.steps]
        assert ops == (["resize", "jpeg"] if size != made else ["jpeg"])
        assert dict(plan.steps[-1].params)["quality"] == quality
        assert apply(plan, picture(*size)).shape == (*made, 3)


def test_chain_is_two_to_five_of_its_list_in_any_order():
    kinds = {"crop": "crop", "letterbox": "bars", "resize": "screenshot", "blur": "blur"}
    seen, lengths, first = set(), set(), set()
    for i in range(300):
        plan = load_perturbation("chain").draw((640, 480), f"{i}", seed=1)[PLAIN]
        done = [kinds.get(step.op, "codec") for step in plan.steps]
        assert len(set(done)) == len(done) <= 5
        assert len(done) >= 1  # bars may find the image's own shape
        seen |= set(done)
        lengths.add(len(done))
        first.add(done[0])
    assert lengths >= {2, 3, 4, 5}
    assert seen == first == {*kinds.values(), "codec"}


def test_golden_chain():
    assert load_perturbation("chain").draw((1200, 1600), "a.jpg", 42)[PLAIN].to_json() == (
        '[{"op":"resize","height":979,"width":1305,"filter":"area"},'
        '{"op":"letterbox","height":979,"width":1563,"level":0},'
        '{"op":"crop","top":8,"left":8,"height":882,"width":1550},'
        '{"op":"blur","kernel":5}]'
    )


def test_a_perturbation_made_to_end_in_a_crop_draws_the_rest_as_before():
    perturbation = load_perturbation("chain")
    cut = perturbation.ending_in_crop(64)
    assert cut.hash != perturbation.hash
    for size in [(20, 700), (640, 480)]:
        before, after = (p.draw(size, "x", seed=1)[PLAIN] for p in (perturbation, cut))
        assert after.steps[: len(before.steps)] == before.steps
        assert apply(after, picture(*size)).shape == (64, 64, 3)


def test_hash_is_of_the_content(tmp_path):
    def hashed(text):
        path = tmp_path / "p.yaml"
        path.write_text(text)
        return load_perturbation(str(path)).hash

    plain = hashed("name: a\nsteps:\n  - jpeg: {quality: 60}\n")
    assert hashed("# note\nsteps: [{jpeg: {quality: [60, 60], channels: rgb}}]\nname: a\n") == plain
    assert hashed("name: a\nsteps:\n  - jpeg: {quality: 61}\n") != plain
    assert hashed("name: b\nsteps:\n  - jpeg: {quality: 60}\n") != plain
    assert len(plain) == 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("- jpg: {quality: 60}", "unknown operation 'jpg' (known: crop, "),
        ("- jpeg: {qualty: 60}", "steps.1.jpeg."),
        ("- jpeg: {quality: 0}", "greater than or equal to 1"),
        ("- jpeg: {quality: [90, 50]}", "must not be larger than the second"),
        ("- jpeg: {quality: [60, 70, 80]}", "quality"),
        ("- jpeg: {quality: high}", "quality"),
        ("- blur: {kernel: 4}", "odd number"),
        ("- blur: {kernel: [3, 6]}", "odd number"),
        ("- resize: {side: 256, scale: 2}", "either side or scale or longest"),
        ("- resize: {scale: [2, 1]}", "must not be larger than the second"),
        ("- crop: {}", "either side or share"),
        ("- crop: {share: 0.5, at: centre}", "leave at and small out"),
        ("- several_of: {count: 2, choices: [{steps: []}]}", "count 2 is more than 1 choices"),
        ("- letterbox: {ratio: 1, level: 256}", "less than or equal to 255"),
        ("- resize: {side: 256, filter: bicubic}", "'lanczos4' or 'area'"),
        ("- one_of: {p: 1.5, choices: []}", "p: "),
        ("- one_of: {choices: [{steps: [{sharpen: {}}]}]}", "unknown operation 'sharpen'"),
        ("- {jpeg: {quality: 60}, flip: {}}", "a step is one `operation"),
        ("- flip", "a step is one `operation"),
    ],
)
def test_a_wrong_perturbation_is_named_by_file_line_and_key(tmp_path, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nsteps:\n  - flip: {{p: 0.5}}\n  {line}\n")
    with pytest.raises(UserError) as refusal:
        load_perturbation(str(path))
    text = str(refusal.value)
    assert text.startswith(f"{path}:4: "), text
    assert "steps.1" in text
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("steps: []\n", "", "name: is missing"),
        ("name: a b\nsteps: []\n", ":1", "name"),
        (
            "name: a\nsteps: []\nstep: []\n",
            ":3",
            "unknown key 'step', did you mean 'steps'? (known: name, steps",
        ),
        ("name: a\nsteps: []\nvariants:\n  ../x: []\n", "", "variants"),
    ],
)
def test_a_wrong_frame_is_named_too(tmp_path, text, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refusal:
        load_perturbation(str(path))
    assert str(refusal.value).startswith(f"{path}{line}")
    assert message in str(refusal.value)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UserError, match=r"imaginet-tset: .*imaginet-test"):
        load_perturbation("imaginet-tset")
