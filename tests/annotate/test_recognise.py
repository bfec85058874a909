"""Trees as people have them: which images are real, by whom the others, and what can't be told."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.annotate.folder_layout import by_layout, parse_layout
from rayapp.annotate.propose import propose
from rayapp.annotate.recognise import recognise
from rayapp.annotate.words import like_a_generator, origin_of, subset_of


def read(folders, name="images"):
    """The layout, and (origin, generator, content) by folder."""
    paths = [f"{folder}/{number}.png".lstrip("/") for folder in folders for number in range(2)]
    layout = recognise(paths, name)
    if layout is None:
        return None, propose(paths)
    found, _ = by_layout(paths, parse_layout(layout))
    labels = {one.path.rpartition("/")[0]: (one.origin, one.generator, one.content)
              for one in found}  # fmt: skip
    return layout, labels


def real(content=""):
    return ("real", "real", content)


def made(generator="synthetic", content=""):
    return ("synthetic", generator, content)


@pytest.mark.parametrize(
    ("layout", "labels"),
    [
        # GenImage: generator / split / nature or ai, here and there with the archive's own folder.
        ("*/*/nature,GENERATOR/*/ai",
         {f"{maker}/{part}/{word}": made(maker) if word == "ai" else real()
          for maker in ("ADM", "BigGAN") for part in ("train", "val")
          for word in ("nature", "ai")}),
        ("*/*/*/nature,GENERATOR/*/*/ai",
         {f"{maker}/{inner}/{part}/{word}": made(maker) if word == "ai" else real()
          for maker, inner in [("ADM", "imagenet_ai_0508_adm"), ("glide", "imagenet_glide")]
          for part in ("train", "val") for word in ("nature", "ai")}),
        ("*/nature,GENERATOR/ai", {"sdv5/nature": real(), "sdv5/ai": made("sdv5")}),
        # ForenSynths: generator / class / 0_real or 1_fake; some without classes, one class train.
        ("*/CONTENT/0_real,GENERATOR/CONTENT/1_fake,*/0_real,GENERATOR/1_fake",
         {"progan/car/0_real": real("car"), "progan/car/1_fake": made("progan", "car"),
          "progan/train/0_real": real("train"), "progan/train/1_fake": made("progan", "train"),
          "biggan/0_real": real(), "biggan/1_fake": made("biggan"),
          "deepfake/0_real": real(), "deepfake/1_fake": made("deepfake")}),
        ("CONTENT/0_real,CONTENT/1_fake",
         {f"{name}/{word}": (made if word == "1_fake" else real)(content=name)
          for name in ("airplane", "train") for word in ("0_real", "1_fake")}),
        # CNNDetection: classes in train and val, generators in test.
        ("test/*/0_real,test/GENERATOR/1_fake,train/CONTENT/0_real,train/CONTENT/1_fake,"
         "val/CONTENT/0_real,val/CONTENT/1_fake",
         {"train/car/0_real": real("car"), "train/car/1_fake": made(content="car"),
          "train/cat/0_real": real("cat"), "train/cat/1_fake": made(content="cat"),
          "val/car/0_real": real("car"), "val/car/1_fake": made(content="car"),
          "val/cat/0_real": real("cat"), "val/cat/1_fake": made(content="cat"),
          "test/crn/0_real": real(), "test/crn/1_fake": made("crn"),
          "test/stylegan2/0_real": real(), "test/stylegan2/1_fake": made("stylegan2")}),
        # CIFAKE, and the split below the origin.
        ("*/fake,*/real", {"train/REAL": real(), "train/FAKE": made(), "test/REAL": real(),
                           "test/FAKE": made()}),
        ("fake,real", {"REAL/train": real(), "FAKE/train": made(), "REAL/test": real(),
                       "FAKE/test": made()}),
        # Plain ones, in other words, and with what is shown above or below.
        ("synthetic/GENERATOR,real,synthetic",
         {"Real": real(), "synthetic/sd/7": made("sd"), "synthetic/mj": made("mj"),
          "synthetic": made()}),
        ("ai-generated images/GENERATOR,authentic photos",
         {"Authentic photos": real(), "AI-generated images/one": made("one"),
          "AI-generated images/two": made("two")}),
        ("fake/CONTENT,real/CONTENT",
         {"real/cats": real("cats"), "real/dogs": real("dogs"), "fake/cats": made(content="cats"),
          "fake/dogs": made(content="dogs")}),
        ("fake/GENERATOR/CONTENT,real/CONTENT",
         {"real/cats": real("cats"), "real/dogs": real("dogs"), "fake/x/cats": made("x", "cats"),
          "fake/y/dogs": made("y", "dogs")}),
        ("CONTENT/fake/GENERATOR,CONTENT/real",
         {"faces/real": real("faces"), "art/real": real("art"),
          "faces/fake/x": made("x", "faces"), "art/fake/y": made("y", "art")}),
        ("testing_fake,testing_real,training_fake,training_real",
         {"training_real": real(), "training_fake": made(), "testing_real": real(),
          "testing_fake": made()}),
        ("fake,real", {"real/000": real(), "real/001": real(), "fake/000": made(),
                       "fake/001": made()}),
        # Words of an origin that are something else where others stand beside them.
        ("*/fake,*/real", {"ai/real": real(), "ai/fake": made()}),
        ("fake/CONTENT,real/CONTENT",
         {"real/human": real("human"), "fake/human": made(content="human"),
          "fake/nature": made(content="nature")}),
        ("*/fake", {"human/fake": made(), "nature/fake": made()}),
        # Sets of one origin alone.
        ("real", {"real": real(), "real/flickr": real()}),
        ("generated/GENERATOR", {"generated/flux": made("flux"), "generated/sdxl": made("sdxl")}),
    ],
)  # fmt: skip
def test_a_layout_is_recognised_and_read_back(layout, labels):
    found, read_back = read(labels)
    assert sorted(found.split(",")) == sorted(layout.split(","))
    assert read_back == labels


def test_the_folder_itself_may_say_the_origin():
    assert read([""], "Real")[0] == ".=real"
    assert read(["cats", "dogs"], "fake_images")[0] == ".=synthetic"


@pytest.mark.parametrize(
    ("folders", "proposal"),
    [
        (["real", "sdxl", "midjourney"], "real,GENERATOR"),
        (["coco", "sdxl"], "coco=real,GENERATOR"),
        (["my photos", "fakes", "more"], "'fakes,my photos=real,GENERATOR'"),
        (["train/coco", "test/coco", "train/sd", "test/sd"], "'*/coco=real,*/GENERATOR'"),
        (["0", "1"], "0=real,1=synthetic"),
        (["sdxl", "flux"], "GENERATOR"),
    ],
)
def test_a_proposal_works_when_it_is_pasted(folders, proposal):
    layout, said = read(folders)
    assert layout is None
    assert said.startswith(f"--layout {proposal}")
    given = shlex.split(said)[1]
    found, other = by_layout([f"{folder}/a.png" for folder in folders], parse_layout(given))
    assert not other
    for one in found:
        folder = one.path.split("/")[-2]
        is_real = folder in {"real", "coco", "my photos", "0"}
        assert one.origin == ("real" if is_real else "synthetic")
        assert one.generator == ("real" if is_real else folder if like_a_generator(folder)
                                 or folder == "more" else "synthetic")  # fmt: skip


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([""], "--layout .=real, or --layout .=synthetic"),
        (["cats", "dogs"],
         "--layout cats=real,GENERATOR (it takes cats for real), or --layout '*=real'"),
        (["real", "a", "b"], "--layout real,GENERATOR (it takes a, b for generated)"),
        # A folder that says both is no sure thing.
        (["stuff/real/deepfakes", "fakes/x"], "stuff=real (it takes stuff for real)"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_not_guessed_in_silence(folders, said):
    layout, proposal = read(folders)
    assert layout is None
    assert said in proposal


def test_a_stray_file_is_left_over_and_a_stray_folder_beside_one_origin_is_not():
    paths = ["real/a.png", "fake/b.png", "cover.png"]
    layout = recognise(paths, "x")
    assert by_layout(paths, parse_layout(layout))[1] == ["cover.png"]
    assert recognise(["real/a.png", "sdxl/b.png"], "x") is None


WORDS = ["real", "REAL", "0_real", "nature", "fake", "ai", "1_fake", "train", "test", "val", "sd",
         "progan", "cats", "human", "1", "a,b", "real=x", "GENERATOR", "*", "."]  # fmt: skip


@given(st.sets(st.lists(st.sampled_from(WORDS), max_size=4).map("/".join), min_size=1, max_size=12))
def test_a_recognised_layout_never_contradicts_a_folders_word(folders):
    paths = [f"{folder}/x.png".lstrip("/") for folder in sorted(folders)]
    layout = recognise(paths, "x")
    if layout is None:
        assert propose(paths).startswith("--layout ")
        return
    found, other = by_layout(paths, parse_layout(layout))
    assert found
    for one in found:
        assert one.origin in {origin_of(name) for name in one.path.split("/")[:-1]}
    if len({one.origin for one in found}) == 1:
        assert not other
    assert recognise(sorted(paths, reverse=True), "x") == layout


def test_words_are_of_any_form():
    for name in ("REAL", "0_real", "real_images", "Nature", "Training_Real", "authentic-photos"):
        assert origin_of(name) == "real", name
    for name in ("1_fake", "AI", "AI-generated", "ai_generated_images", "Synthetic", "fakes"):
        assert origin_of(name) == "synthetic", name
    for name in ("realistic", "fairy", "0", "real_vs_fake", "unreal", "deeprealness", ""):
        assert origin_of(name) is None, name
    assert [subset_of(name) for name in ("Training", "train2017", "progan_val", "validation",
                                       "Test-set", "testing", "retrain", "dev")] == [
        "train", "train", "val", "val", "test", "test", None, None]  # fmt: skip
