import pytest

from rayapp.config.errors import UserError
from rayapp.models.adopted.class_names import means_synthetic, synthetic_classes


@pytest.mark.parametrize(
    ("labels", "synthetic"),
    [
        (["artificial", "human"], (0,)),
        (["Fake", "Real"], (0,)),
        (["hum", "ai"], (1,)),
        (["REAL", "AI-Generated"], (1,)),
        (["Realism_photo_real", "DeepFake"], (1,)),
        (["not ai", "ai"], (1,)),
        (["fake", "non-fake"], (0,)),
        (["human-made", "machine-made"], (1,)),
        (["AIGenerated", "NotAIGenerated"], (0,)),
        (["not ai generated", "ai generated"], (1,)),
        (["ai-free", "ai"], (1,)),
        (["nature", "ai"], (1,)),
        (["photo", "synthetic photo"], (1,)),
        (["real photo", "StableDiffusion", "midjourney v6", "DALL-E 3"], (1, 2, 3)),
        (["authentic", "inauthentic"], (1,)),
        (["unreal", "real"], (0,)),
        (["real (not fake)", "fake (not real)"], (1,)),
        (["nonfake", "deepfake"], (1,)),
        (["no ai", "contains ai"], (1,)),
    ],
)
def test_words_tell_which_classes_are_synthetic(labels: list[str], synthetic) -> None:
    assert synthetic_classes(labels, "x") == synthetic


@pytest.mark.parametrize(
    "labels",
    [
        ["LABEL_0", "LABEL_1"],
        ["0", "1"],
        ["ai", "other"],
        ["positive", "negative"],
        ["fake human", "real human"],
        ["ai", "deepfake"],
        ["real", "human"],
        ["photo", "no photo"],
        ["art", "ai art"],
        ["cat", "dog", "main"],
    ],
)
def test_what_words_do_not_tell_is_asked_for(labels: list[str]) -> None:
    with pytest.raises(UserError, match="--synthetic-labels NAME") as refusal:
        synthetic_classes(labels, "x")
    assert "\n" not in str(refusal.value)


def test_words_are_whole_words() -> None:
    assert means_synthetic("main") is None
    assert means_synthetic("surreal landscape") is None
    assert means_synthetic("humane") is None


@pytest.mark.parametrize(
    "label", ["photo-realistic render", "photo realism", "photo-like", "photoStyle"]
)
def test_what_looks_like_a_photo_is_not_said_to_be_one(label: str) -> None:
    assert means_synthetic(label) is None
    assert means_synthetic("aircraft") is None


def test_what_is_given_decides() -> None:
    labels = ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert synthetic_classes(labels, "x", ["label_2", "0"]) == (0, 2)
    assert synthetic_classes(["fake", "real"], "x", ["real"]) == (1,)
    with pytest.raises(UserError, match=r"no class 'ai' \(its classes: 'LABEL_0'"):
        synthetic_classes(labels, "x", ["ai"])
    with pytest.raises(UserError, match="none is left as real"):
        synthetic_classes(labels, "x", labels)


def test_a_sole_output_may_mean_either() -> None:
    assert synthetic_classes(["fake"], "x") == (0,)
    assert synthetic_classes(["real"], "x") == ()
    with pytest.raises(UserError, match="not clear"):
        synthetic_classes(["LABEL_0"], "x")
