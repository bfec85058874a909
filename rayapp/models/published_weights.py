"""Published detectors as detectors of ours: which architecture they are, and their keys renamed.

Sources: ImagiNet (Boychev and Cholakov, arXiv 2407.20020); Grag2021 (Gragnaniello et al., arXiv
2104.02617); Corvi2022 (Corvi et al., arXiv 2211.00680); Wu2023 (LASTED, arXiv 2305.13800);
Community Forensics (Park and Owens, arXiv 2411.04125).

Shapes: N images · D embedding.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayapp.config.errors import UserError
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import LAYOUTS, LINEAR_HEAD, Architecture, Preprocessing
from rayapp.models.encoder import Ensemble, Network
from rayapp.models.foreign import load_strictly, open_checkpoint, weights_of, without_prefix
from rayapp.models.image_inputs import ImageInput
from rayapp.models.networks import build_scorer

Files = Mapping[str, bytes]  # by name
_BACKBONE = "encoder.backbone.model."
# Training's projections, which no score uses.
_IMAGINET_UNUSED = ("head.", "sub_heads.")
_TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt")
_LASTED_UNUSED = ("output_layer.", "fc.")


def convert(name: str, files: Files, anchors: Sequence[ImageInput] = ()) -> Detector:
    """The published detector `name` from its files.

    Args:
        name: one of PUBLISHED.
        files: content by file name.
        anchors: real images to which `lasted` compares; it has no score without.

    Raises:
        UserError: unknown name; a file that is missing, not safe, or of another network.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published detector {name!r}; there are {', '.join(PUBLISHED)}")
    if name == "lasted":
        return _lasted(files, anchors)
    if anchors:
        raise UserError(f"{name}: takes no anchors, only lasted does")
    return PUBLISHED[name](files)


def _imaginet(files: Files) -> Detector:
    """SelfCon encoder and its classifier, one file."""
    where, data = _only(files)
    tensors = weights_of(open_checkpoint(data, where), where, parts=("classifier",))
    renamed = {}
    for key, tensor in tensors.items():
        if key.startswith((*_IMAGINET_UNUSED, "classifier.")):
            continue
        key = key.replace(".shortcut.", ".downsample.")
        key = re.sub(r"^encoder\.selfcon_layer\.\d+\.", "encoder.subnetworks.0.", key)
        renamed[re.sub(r"^encoder\.(?!subnetworks)", _BACKBONE, key)] = tensor
    places = {"0.": "head.norm.", "1.": "head.hidden.0.", "4.": "head.output."}
    for key, tensor in without_prefix(tensors, "classifier.").items():
        renamed[places.get(key[:2], "classifier.") + key[2:]] = tensor
    return _detector(*LAYOUTS["imaginet"], renamed, where)


def _nodown(files: Files) -> Detector:
    """GRIP's ResNet-50 with a single logit: of one file, or the mean logit of several."""
    networks = [_nodown_keys(where, data) for where, data in sorted(files.items())]
    name, renamed = "grag2021", networks[0]
    if len(networks) > 1:
        name = "corvi2022"
        renamed = {
            f"networks.{at}.{k}": v for at, one in enumerate(networks) for k, v in one.items()
        }
    return _detector(*LAYOUTS[name], renamed, ", ".join(sorted(files)))


def _nodown_keys(where: str, data: bytes) -> dict[str, Tensor]:
    tensors = weights_of(open_checkpoint(data, where), where)
    renamed = {_BACKBONE + k: v for k, v in tensors.items() if not k.startswith("fc.")}
    for key, tensor in without_prefix(tensors, "fc.").items():
        # It may be kept as a 1×1 convolution; after the mean over positions that is the same.
        renamed[f"head.output.{key}"] = tensor.flatten(1) if tensor.ndim > 2 else tensor
    return renamed


def _corvi2022(files: Files) -> Detector:
    if len(files) != 2:
        raise UserError(f"Corvi2022 is the mean of two networks, {len(files)} files were given")
    return _nodown(files)


def _one_nodown(files: Files) -> Detector:
    _only(files)
    return _nodown(files)


def _lasted(files: Files, anchors: Sequence[ImageInput]) -> Detector:
    """CLIP's image tower; the score is the similarity to the mean of real images, turned round."""
    from timm.models.byobnet import checkpoint_filter_fn

    if not anchors:
        raise UserError(
            "lasted scores by similarity to real images: give some, such as the hundred of a "
            "published anchor list (--anchors LIST --root FOLDER)"
        )
    where, data = _only(files)
    tensors = weights_of(open_checkpoint(data, where), where)
    visual = {
        k: v.float()
        for k, v in without_prefix(tensors, "clip_model.").items()
        if k.startswith("visual.")
    }
    others = [k for k in tensors if not k.startswith(("clip_model.", *_LASTED_UNUSED))]
    if others or not visual:
        raise UserError(
            f"{where}: is no LASTED checkpoint: {(others or ['it has no visual tower'])[0]}"
        )
    architecture, seen = LAYOUTS["lasted"]
    backbone = build_scorer(Architecture(backbone=architecture.backbone, head=LINEAR_HEAD))
    timm_model = cast(Network, backbone).encoder.backbone.model
    renamed = {}
    for key, tensor in checkpoint_filter_fn(visual, timm_model).items():
        is_projection = key.startswith("head.proj.")
        renamed[
            key.replace("head.proj.", "head.projection.") if is_projection else _BACKBONE + key
        ] = tensor
    size = cast(int, architecture.head.projection)
    if "head.projection.bias" in renamed:
        size = renamed["head.projection.bias"].shape[0]
    renamed |= {"head.output.weight": torch.zeros(1, size), "head.output.bias": torch.zeros(1)}
    head = architecture.head.model_copy(update={"projection": size})
    architecture = architecture.model_copy(update={"head": head})
    detector = _detector(architecture, seen, renamed, where)
    _turn_from(detector, anchors)
    return detector


def _turn_from(detector: Detector, anchors: Sequence[ImageInput]) -> None:
    """Sets the logit to minus the similarity to the mean embedding of the anchors (real images)."""
    network = cast(Network, detector.network)
    features = torch.from_numpy(detector.features(anchors, batch_size=4))
    with torch.inference_mode():
        embeddings_ND = F.normalize(cast(nn.Linear, network.head.projection)(features), dim=-1)
    with torch.no_grad():
        network.head.output.weight.copy_(-embeddings_ND.mean(0, keepdim=True))


def _commfor(files: Files) -> Detector:
    """ViT-S/16 at 384 px, one logit; the shorter side is brought to 440 px and the centre cut."""
    weights = {name: data for name, data in files.items() if name.endswith(".safetensors")}
    others = {name: data for name, data in files.items() if name.endswith(_TORCH_FILES)}
    where, data = _only(weights or others)
    tensors = without_prefix(weights_of(open_checkpoint(data, where), where), "vit.")
    renamed = {_BACKBONE + k: v for k, v in tensors.items() if not k.startswith("head.")}
    renamed |= {f"head.output.{k}": v for k, v in without_prefix(tensors, "head.").items()}
    return _detector(*LAYOUTS["commfor"], renamed, where)


def _detector(
    architecture: Architecture, seen: Preprocessing, given: Mapping[str, Tensor], where: str
) -> Detector:
    network: Network | Ensemble = build_scorer(architecture)
    # A counter of batches, which older versions of torch did not keep.
    for key, tensor in network.state_dict().items():
        if key.endswith(".num_batches_tracked") and key not in given:
            given = {**given, key: torch.zeros_like(tensor)}
    load_strictly(network, given, where)
    strides = network.backbones[0].strides()
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    return Detector(network.eval(), spec)


def _only(files: Files) -> tuple[str, bytes]:
    if len(files) != 1:
        raise UserError(f"one file of weights is wanted, {len(files)} were given")
    return next(iter(files.items()))


PUBLISHED: dict[str, Callable[[Files], Detector]] = {
    "imaginet": _imaginet,
    "imaginet_corvi": _one_nodown,
    "corvi2022": _corvi2022,
    "grag2021": _one_nodown,
    "lasted": lambda files: _lasted(files, ()),
    "commfor": _commfor,
}
