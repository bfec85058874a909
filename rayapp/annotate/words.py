"""What names mean by which people sort images: real or synthetic, train or test, a generator."""

import re
from typing import Literal

Origin = Literal["real", "synthetic"]
REAL: Origin = "real"
SYNTHETIC: Origin = "synthetic"
CODES: dict[str, Origin] = {"0": REAL, "1": SYNTHETIC}  # of a column origin, and in --layout
Subset = Literal["train", "val", "test"]

# Words of real images that other images show, too: beside a plain one they say nothing.
WEAK = frozenset({"human", "nature", "natural", "original"})
_ORIGINS: dict[str, Origin] = dict.fromkeys(
    ("real", "reals", "nature", "natural", "authentic", "human", "genuine", "original",
     "originals", "pristine"), REAL
) | dict.fromkeys(
    ("synthetic", "synthetics", "synth", "fake", "fakes", "ai", "generated", "aigenerated",
     "aigen", "gen", "artificial", "deepfake", "deepfakes"), SYNTHETIC
)  # fmt: skip
_SUBSETS: dict[str, Subset] = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "valset": "val",
    "test": "test", "testing": "test", "tests": "test", "testset": "test",
}  # fmt: skip
# Beside such a word they say nothing: real_images, 0_real, test-set, train2017.
_FILLERS = frozenset(
    ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pics", "set",
     "data", "dataset", "split", "samples")
)  # fmt: skip
_TOKEN = re.compile(r"[^\W\d_]+")
_GENERATOR = re.compile(
    ".*gan|.*diffusion|sd|sdv|sdxl|midjourney|mj|dall|dalle|glide|adm|vqdm|vqvae|wukong|ldm|ddpm"
    "|ddim|iddpm|pndm|dit|sit|var|flux|firefly|imagen|gpt|imle|crn|san|deepfake|seeingdark"
    "|whichfaceisreal|kandinsky|pixart|ideogram|grok|gemini|playground|animagine"
)
_CONTENT = frozenset(
    # The classes of ForenSynths and CIFAR-10, and what else sets are sorted by.
    ("airplane", "apple", "automobile", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
     "chair", "cow", "deer", "diningtable", "dog", "frog", "horse", "motorbike", "orange",
     "person", "pottedplant", "sheep", "ship", "sofa", "summer", "train", "truck", "tvmonitor",
     "winter", "zebra", "animals", "anime", "art", "buildings", "faces", "food", "indoor",
     "landscapes", "nature", "objects", "outdoor", "paintings", "people", "portraits", "scenes")
)  # fmt: skip
_CAMERA = re.compile(
    "photos?|photographs?|cameras?|coco|imagenet|lsun|ffhq|celeba|celebahq|flickr|raise|laion"
    "|openimages|unsplash|wikiart|cifar|dresden"
)


def origin_of(name: str) -> Origin | None:
    """Real or synthetic, where a folder's name says it: `REAL`, `0_real`, `AI-generated images`."""
    return _ORIGINS.get("".join(one for one in _telling(name) if one not in _SUBSETS))


def subset_of(name: str) -> Subset | None:
    """Train, val or test, where a name starts or ends so: `Testing`, `train2017`, `sd_val`."""
    tokens = _telling(name)
    return next((_SUBSETS[one] for one in (*tokens[:1], *tokens[-1:]) if one in _SUBSETS), None)


def is_subset(name: str) -> bool:
    """Whether a name says nothing but train, val or test."""
    return len(_telling(name)) == 1 and subset_of(name) is not None


def _telling(name: str) -> list[str]:
    return [token for token in _TOKEN.findall(name.lower()) if token not in _FILLERS]


def like_a_generator(name: str) -> bool:
    """Whether a name is that of a generator: `stylegan2`, `stable_diffusion_v_1_4`."""
    return any(_GENERATOR.fullmatch(token) for token in _TOKEN.findall(name.lower()))


def like_a_content(name: str) -> bool:
    """Whether a name is that of what images show: `faces`, or a class of ForenSynths."""
    return name.lower() in _CONTENT


def like_a_camera(name: str) -> bool:
    """Whether a name is that of a source of photographs: a proposal takes it for real."""
    return any(_CAMERA.fullmatch(token) for token in _TOKEN.findall(name.lower()))
