"""A detector as a Hugging Face folder that transformers loads, and timm as well.

The network is timm's with a classifier of two classes: a logit z of synthetic is the logits 0 and
z, whose softmax is its sigmoid. What stands between features and logit goes into that one layer.

Shapes: C features · K classes.
"""

import json
import math
from typing import Any, cast

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from rayapp.config.defaults import RESNET50_NODOWN
from rayapp.config.errors import UserError
from rayapp.export.exported import Exported, calibration_note, last_layer
from rayapp.export.model_card import model_card
from rayapp.models.backbones import HIGHPASS_SMALL
from rayapp.models.detector import Detector
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.encoder import ClassificationHead, Network

CLASSES = ("real", "synthetic")
_BYTES = 1 / 255


def export_folder(detector: Detector, digest: str) -> Exported:
    """The folder's files: config, weights, card; the processor's where its view is not timm's.

    Raises:
        UserError: what transformers has no place for; the message says what, and what else to do.
    """
    spec = detector.spec
    network = detector.network
    if not isinstance(network, Network):
        raise _unfit("a detector of others, or the mean of several networks")
    if network.pool is not None:
        raise _unfit("a head on pooled tokens")
    backbone = spec.architecture.backbone
    if backbone in (HIGHPASS_SMALL, RESNET50_NODOWN):
        raise _unfit(f"the backbone {backbone}, which is none of timm's")
    weight_KC, bias_K = _folded(network.head, *last_layer(spec.calibration))
    options = dict(spec.architecture.options)
    model = timm.create_model(backbone, pretrained=False, num_classes=len(CLASSES), **options)
    classifier = cast(Any, model).get_classifier()
    if not isinstance(classifier, nn.Linear) or classifier.in_features != weight_KC.shape[1]:
        raise _unfit(f"the classifier of {backbone}, which is no linear layer on its features")
    found = model.load_state_dict(network.backbones[0].model.state_dict(), strict=False)
    prefix = next(name for name, module in model.named_modules() if module is classifier)
    if set(found.missing_keys) != {f"{prefix}.weight", f"{prefix}.bias"} or found.unexpected_keys:
        raise _unfit(f"the layers of {backbone} beside its features")
    with torch.no_grad():
        classifier.weight.copy_(weight_KC)
        classifier.bias.copy_(bias_K)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    seen, processor = _view(spec.preprocessing)
    config = _config(backbone, options, model.num_features, seen)
    files = {"model.safetensors": safetensors.torch.save(tensors, {"format": "pt"})}
    if processor is not None:
        files["preprocessor_config.json"] = _json(processor)
        # Else transformers takes timm's transform, whatever lies beside.
        config["image_processor_type"] = processor["image_processor_type"]
    files["config.json"] = _json(config)
    notes = calibration_note(spec.calibration)
    if spec.preprocessing.view == "centre":
        notes.append("images smaller than the view are filled with black, not by reflection")
    files["README.md"] = model_card(spec, digest, notes).encode()
    return Exported(files, notes)


def _folded(head: ClassificationHead, slope: float, offset: float) -> tuple[Tensor, Tensor]:
    """Weight [K, C] and bias [K] of the one layer that the head and a linear calibration are.

    Raises:
        UserError: a head that is no linear map.
    """
    if not isinstance(head.hidden, nn.Identity):
        raise _unfit("a head with a hidden layer")
    weight = slope * head.output.weight.detach().double()
    bias = slope * head.output.bias.detach().double() + offset
    if isinstance(head.norm, nn.BatchNorm1d):
        norm = head.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = bias + weight @ (norm.bias.double() - norm.running_mean.double() * scale)
        weight = weight * scale
    elif not isinstance(head.norm, nn.Identity):
        raise _unfit("a head that brings features to unit length")
    if isinstance(head.projection, nn.Linear):
        bias = bias + weight @ head.projection.bias.double()
        weight = weight @ head.projection.weight.double()
    zero = torch.zeros_like(weight)
    both = torch.cat([zero, weight]), torch.cat([torch.zeros_like(bias), bias])
    return both[0].detach().float(), both[1].detach().float()


def _view(seen: Preprocessing) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The view as timm's evaluation transform; and the processor's file where that is none."""
    if not math.isclose(seen.input_scale, _BYTES):
        raise _unfit("an input that is not scaled to 0 to 1")
    known: dict[str, Any] = {
        "input_size": [3, seen.size, seen.size],
        "fixed_input_size": True,
        "mean": list(seen.mean),
        "std": list(seen.std),
        "interpolation": seen.filter or "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    if seen.view == "resize" and seen.filter:
        side = max(seen.resize_to or seen.size, seen.size)
        # timm rounds the quotient down: the middle of those that give this side is safe.
        return known | {"crop_pct": seen.size / (side + 0.5) if side > seen.size else 1.0}, None
    if seen.view != "centre":
        how = "by area, which Pillow has not" if seen.view == "resize" else "in several parts"
        raise _unfit(f"a view that sees an image {how}")
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": seen.size, "width": seen.size},
        "do_rescale": True,
        "rescale_factor": _BYTES,
        "do_normalize": True,
        "image_mean": list(seen.mean),
        "image_std": list(seen.std),
        "do_convert_rgb": True,
    }
    return known, processor


def _config(
    backbone: str, options: dict[str, Any], num_features: int, seen: dict[str, Any]
) -> dict[str, Any]:
    return {
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "architecture": backbone,
        "model_args": options or None,
        "num_classes": len(CLASSES),
        "num_features": num_features,
        "label_names": list(CLASSES),
        "problem_type": "single_label_classification",
        "pretrained_cfg": seen,
    }


def _json(found: dict[str, Any]) -> bytes:
    return (json.dumps(found, indent=2) + "\n").encode()


def _unfit(what: str) -> UserError:
    return UserError(f"a Hugging Face folder has no place for {what}; --to onnx has")
