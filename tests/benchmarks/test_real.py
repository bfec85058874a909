"""benchmarks/real.py: who is judged by whom, and that its arithmetic is the plain one."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real import detector_results, figures_of
from benchmarks.real_features import CONDITIONS, FrozenFeatures, squares
from benchmarks.real_folds import half_against_half, judge, leave_family_out, leave_source_out
from benchmarks.real_judge import Pairs, measure
from benchmarks.real_page import LEAVE_FAMILY_OUT, LEAVE_SOURCE_OUT, Result, lines, page
from benchmarks.real_partners import Photographs
from benchmarks.real_probe import _inner_folds, balanced, fit_probe, ridge
from benchmarks.real_set import Picture, RealSet, deal, read_real_set
from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.dataset.images import decode
from rayapp.metrics.ranking import roc_auc
from tests.detectors import saved_detector


def pictures(per_kind: int = 12) -> RealSet:
    found = []
    for origin, kinds in ((0, ("phone", "press", "shop")), (1, ("SD", "GAN", "Flux", "Sana"))):
        for kind in kinds:
            found += [
                Picture(f"{kind}/{at}.png", origin, kind, f"{kind}/scene-{at // 2}")
                for at in range(per_kind)
            ]
    return RealSet(Path("nowhere"), found)


@pytest.mark.parametrize("ways", [leave_family_out, leave_source_out, half_against_half])
def test_no_fold_trains_on_what_it_judges(ways) -> None:
    one = pictures()
    kinds, groups, origins = one.kinds_N, one.groups_N, one.origins_N
    judged = set()
    for fold in ways(one):
        assert set(origins[fold.train]) == {0, 1}
        assert (origins[fold.synthetic] == 1).all()
        assert (origins[fold.real] == 0).all()
        tested = np.concatenate([fold.synthetic, fold.real])
        assert not set(groups[fold.train]) & set(groups[tested])
        if ways is not leave_source_out:
            assert not set(kinds[fold.train]) & set(kinds[fold.synthetic])
        else:
            assert not set(kinds[fold.train]) & set(kinds[fold.real])
        judged |= {(s, r) for s in fold.synthetic for r in fold.real}
    if ways is not half_against_half:
        assert len(judged) == origins.sum() * (1 - origins).sum()


@pytest.mark.parametrize("per_kind", [1, 2])
def test_the_smallest_sets_are_judged(per_kind: int) -> None:
    every = pictures(per_kind).pictures
    one = RealSet(Path("nowhere"), [p for p in every if p.kind in ("phone", "press", "SD", "GAN")])
    features = np.random.default_rng(0).normal(size=(len(one.pictures), 9)).astype(np.float32)
    for ways in (leave_family_out, leave_source_out, half_against_half):
        pairs = judge(one, list(ways(one)), features, {"clean": features})["clean"]
        assert ((pairs.higher_SR >= 0) & (pairs.higher_SR <= 1))[~np.isnan(pairs.higher_SR)].all()
        assert not np.isnan(pairs.higher_SR).all()


def test_groups_are_dealt_whole_and_evenly() -> None:
    one = pictures()
    parts = deal(one.groups_N, one.origins_N == 0, 4)
    assert (parts[one.origins_N == 1] == -1).all()
    for group in set(one.groups_N[one.origins_N == 0]):
        assert len(set(parts[one.groups_N == group])) == 1
    sizes = [(parts == part).sum() for part in range(4)]
    assert max(sizes) - min(sizes) <= 2


def test_ridge_is_that_of_the_normal_equations() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 7)) + 3
    y = (rng.random(40) < 0.4).astype(np.int64)
    kinds = np.array([f"{label}-{at % 3}" for at, label in enumerate(y)])
    weights, strength = balanced(y, kinds), 0.05
    coefficients, bias = ridge(x @ x.T, y, weights, strength)
    centred = x - weights @ x
    root = np.sqrt(weights)[:, None] * centred
    targets = 2.0 * y - 1
    penalty = strength * np.trace(root @ root.T) * np.eye(7)
    slope = np.linalg.solve(
        root.T @ root + penalty, centred.T @ (weights * (targets - weights @ targets))
    )
    np.testing.assert_allclose(x.T @ coefficients, slope, atol=1e-9)
    assert bias == pytest.approx(weights @ targets - (weights @ x) @ slope)


def test_every_kind_weighs_the_same_within_its_class() -> None:
    y = np.array([0] * 10 + [1] * 4)
    kinds = np.array(["a"] * 8 + ["b"] * 2 + ["c"] * 1 + ["d"] * 3)
    weights = balanced(y, kinds)
    assert [weights[kinds == k].sum() for k in "abcd"] == pytest.approx([0.25] * 4)


def test_a_source_that_only_looks_different_is_not_learnt_as_a_class() -> None:
    one = pictures(40)
    rng = np.random.default_rng(2)
    features = rng.normal(size=(len(one.pictures), 30)).astype(np.float32)
    features[:, 0] += 3.5 * one.origins_N  # what generators leave
    features[one.kinds_N == "r:shop", 1] += 5  # what tells a source of real images
    found = judge(one, list(leave_source_out(one)), features, {"clean": features})["clean"]
    auc = measure(
        found.higher_SR, one.groups_N[one.origins_N == 1], one.groups_N[one.origins_N == 0]
    )
    assert auc.value is not None
    assert auc.value > 0.9
    assert auc.low < auc.value < auc.high
    accuracy = np.nanmean(found.right_SR)
    assert accuracy > 0.8


def test_pairs_of_one_model_are_the_plain_figures() -> None:
    rng = np.random.default_rng(3)
    synthetic, real = rng.normal(1, 1, 30).round(1), rng.normal(0, 1, 20).round(1)
    pairs = Pairs.empty(30, 20)
    pairs.judge(np.arange(30), np.arange(20), synthetic, real, 0.5)
    labels = np.array([1] * 30 + [0] * 20)
    scores = np.concatenate([synthetic, real])
    assert pairs.higher_SR.mean() == pytest.approx(roc_auc(labels, scores).value)
    plain = ((synthetic >= 0.5).mean() + (real < 0.5).mean()) / 2
    assert pairs.right_SR.mean() == pytest.approx(plain)
    assert np.isnan(Pairs.empty(2, 2).higher_SR).all()


def test_pairs_that_no_fold_judges_do_not_count() -> None:
    values = np.array([[1.0, np.nan], [0.0, 1.0]])
    names = np.array(["a", "b"])
    assert measure(values, names, names).value == pytest.approx(2 / 3)
    assert measure(values, names, names, np.array([1.0, 3.0])).value == pytest.approx(4 / 5)


def test_the_probe_scores_as_it_says() -> None:
    one = pictures(20)
    features = np.random.default_rng(4).normal(size=(len(one.pictures), 12)).astype(np.float32)
    features[:, 3] += 3 * one.origins_N
    probe = fit_probe(features, one.origins_N, one.kinds_N, one.groups_N)
    plain = (features - probe.mean_C) / probe.scale_C @ probe.weights_C + probe.bias
    np.testing.assert_allclose(probe.scores(features), plain, atol=1e-4)
    right = (probe.scores(features) >= probe.threshold) == (one.origins_N == 1)
    assert right.mean() > 0.85


def lay_out(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    return folder


def test_a_folder_is_read_with_groups_by_name(tmp_path: Path) -> None:
    names = [
        "real/phone/dog-1.png",
        "real/phone/dog-2.png",
        "real/press/0a74a2515561.png",
        "synthetic/SD/sheet_c11__x0y256.png",
        "synthetic/SD/sheet_c11__x256y0.png",
        "synthetic/GAN/deep/7.png",
    ]
    lay_out(tmp_path, names)
    (tmp_path / "real/phone/notes.txt").write_text("no image")
    one = read_real_set(tmp_path)
    assert [p.path for p in one.pictures] == sorted(names[:3]) + sorted(names[3:])
    assert one.kinds(0) == ["phone", "press"]
    assert one.kinds(1) == ["GAN", "SD"]
    groups = {p.path: p.group for p in one.pictures}
    assert groups[names[0]] == groups[names[1]] == "real/phone/dog"
    assert groups[names[3]] == groups[names[4]]
    assert groups[names[2]].endswith("0a74a2515561")


def test_a_manifest_names_families_and_prompts(tmp_path: Path) -> None:
    names = ["real/a/1.png", "real/b/2.png", "synthetic/x/3.png", "synthetic/y/4.png"]
    lay_out(tmp_path, names)
    (tmp_path / "m.csv").write_text(
        "path,family,prompt\nsynthetic/x/3.png,Flux,a cat\nsynthetic/y/4.png,SD,a cat\n"
    )
    one = read_real_set(tmp_path, tmp_path / "m.csv")
    assert one.kinds(1) == ["Flux", "SD"]
    assert [p.group for p in one.pictures if p.origin] == ["a cat", "a cat"]


def test_what_cannot_be_decoded_is_left_out_and_named(tmp_path: Path) -> None:
    lay_out(tmp_path, ["real/a/1.png", "real/b/2.png", "synthetic/x/3.png", "synthetic/y/4.png"])
    (tmp_path / "real/a/broken.jpg").write_bytes(b"no image")
    (tmp_path / "synthetic/x/empty.webp").write_bytes(b"")
    one = read_real_set(tmp_path)
    assert len(one.pictures) == 4
    assert [line.split(":")[0] for line in one.left_out] == [
        "real/a/broken.jpg",
        "synthetic/x/empty.webp",
    ]


def test_a_camera_s_counter_makes_no_group(tmp_path: Path) -> None:
    counted = [f"real/phone/IMG_{at:04d}.png" for at in range(20)]
    lay_out(tmp_path, [*counted, "real/press/dog-1.png", "real/press/dog-2.png"])
    lay_out(tmp_path, ["synthetic/x/3.png", "synthetic/y/4.png"])
    groups = {p.path: p.group for p in read_real_set(tmp_path).pictures}
    assert len({groups[path] for path in counted}) == len(counted)
    assert groups["real/press/dog-1.png"] == groups["real/press/dog-2.png"]


def test_a_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, ["real/a/1.png", "real/b/2.png"])
    with pytest.raises(UserError, match="no images in synthetic/FAMILY/"):
        read_real_set(tmp_path)
    lay_out(tmp_path, ["synthetic/x/1.png"])
    with pytest.raises(UserError, match="1 families of generators; at least 2"):
        read_real_set(tmp_path)


def test_both_of_a_pair_are_left_out_together() -> None:
    kinds = np.repeat(["phone", "press", "shop", "phone"], 10)
    groups = np.repeat([f"photo {at}" for at in range(20)], 2)
    origins = np.tile([0, 1], 20)
    for names in (kinds, np.array(["one"] * 40)):
        for train, left in _inner_folds(origins, names, groups):
            assert not set(groups[train]) & set(groups[left])
            assert set(origins[train]) == set(origins[left]) == {0, 1}


def test_the_backbone_sees_the_whole_and_the_centre() -> None:
    image = np.zeros((448, 448, 3), np.uint8)
    image[112:336, 112:336] = 200
    whole, centre = squares(image)
    assert whole.shape == centre.shape == (224, 224, 3)
    assert (centre == 200).all()
    assert (whole[60:164, 60:164] == 200).all()
    assert (whole[:50] == 0).all()
    small, padded = squares(np.full((100, 300, 3), 9, np.uint8))
    assert small.shape == padded.shape == (224, 224, 3)


def test_levels_are_told_apart_by_what_is_done_to_the_pixels() -> None:
    assert len({one.key for one in CONDITIONS}) == len(CONDITIONS) == 6
    image = np.random.default_rng(0).integers(0, 256, (900, 700, 3), dtype=np.uint8)
    for one in CONDITIONS:
        shape = one.apply(image, "x").shape
        if one.equalised:
            assert shape == (448, 448, 3)
        else:
            assert shape[0] == {"clean": 900, "web": 768, "hard": 512}[one.level]


def test_the_page_and_the_last_line_hold_every_figure() -> None:
    one = pictures(8)
    rng = np.random.default_rng(5)
    pairs = Pairs.empty(int(one.origins_N.sum()), int((1 - one.origins_N).sum()))
    scores = rng.normal(1, 1, len(pairs.higher_SR)), rng.normal(0, 1, pairs.higher_SR.shape[1])
    pairs.judge(*map(np.arange, pairs.higher_SR.shape), *scores, 0.5)
    results = [
        Result(way, condition, pairs)
        for way in (LEAVE_FAMILY_OUT, LEAVE_SOURCE_OUT, "runs/mine/detector")
        for condition in CONDITIONS
    ]
    found = figures_of(one, results)
    assert found["aligned_roc_auc"] is None  # nothing was aligned
    auc = float(pairs.higher_SR.mean())
    assert found["leave_family_out_roc_auc"] == pytest.approx(auc, abs=1e-4)
    assert found["leave_family_out_roc_auc_hard_as_stored"] == pytest.approx(auc, abs=1e-4)
    assert found["leave_real_source_out_worst_roc_auc"] < auc
    html = page(one, results, "python benchmarks/real.py REALSET").html()
    for text in ("equalised", "as the files are", "hard", "Flux", "press", "runs/mine/detector"):
        assert text in html
    assert len(list(lines(one, results))) == 1 + len(results)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, ["real/a/1.png", "real/b/2.png", "synthetic/x/3.png", "synthetic/y/4.png"])
    with pytest.raises(UserError, match=r"m\.csv: no such file"):
        read_real_set(tmp_path, tmp_path / "m.csv")
    with pytest.raises(UserError, match="weights: no such file; --backbone-weights takes"):
        FrozenFeatures(tmp_path / "weights", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--photographs holds no image"):
        Photographs.of_folder(tmp_path / "empty")


def test_a_detector_is_judged_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    folder = tmp_path / "set"
    for origin, kind in (("real", "a"), ("real", "b"), ("synthetic", "x"), ("synthetic", "y")):
        (folder / origin / kind).mkdir(parents=True)
        for at in range(3):
            image = rng.integers(0, 256, (40 + at, 50, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / origin / kind / f"{kind}{at}.png"), image)
    one = read_real_set(folder)
    uri = saved_detector(tmp_path / "detector")
    condition = CONDITIONS[1]
    assert condition.perturbations == ()
    (found,) = detector_results(one, [uri], [condition])
    assert (found.way, found.condition) == (uri, condition)
    logits = load_detector(uri).logits([decode(f.read_bytes()).pixels_HWC for f in one.files])
    origins = one.origins_N
    assert found.pairs.higher_SR.mean() == pytest.approx(roc_auc(origins, logits).value)
    called = logits >= 0  # not calibrated: probability one half
    plain = (called[origins == 1].mean() + (~called[origins == 0]).mean()) / 2
    assert found.pairs.right_SR.mean() == pytest.approx(plain)
