"""Pretrained weights of timm's backbones: from the hub, its cache, or a file that is at hand."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from rayapp.config.errors import UserError

HUB_TIMEOUT_S = 5
_WEIGHTS_FILE = "model.safetensors"
_SHOWN_KEYS = 3
_POSITIONS = "pos_embed"  # resampled by timm for images of another size


@dataclass(frozen=True)
class Weights:
    """Tensors by timm's names, and where they come from."""

    where: str
    tensors: Mapping[str, Tensor]


def read_weights(data: bytes, where: str) -> Weights:
    """The tensors of a safetensors file.

    Raises:
        UserError: a file of another kind.
    """
    try:
        return Weights(where, safetensors.torch.load(data))
    except (safetensors.SafetensorError, ValueError):
        raise UserError(
            f"{where}: not a safetensors file; backbone weights come as one, in timm's names"
        ) from None


def check_names(weights: Weights, name: str, bare: nn.Module) -> None:
    """Nothing where the weights are the backbone's, with or without its classifier.

    timm itself leaves what is missing at random where it drops a classifier.

    Raises:
        UserError: a tensor too few, or one that is no part of the backbone.
    """
    import timm

    classifier = timm.get_pretrained_cfg(name).classifier or ()
    prefixes = [classifier] if isinstance(classifier, str) else list(classifier)
    kept = {k for k in weights.tensors if not any(k.startswith(f"{p}.") for p in prefixes)}
    theirs = bare.state_dict()
    wanted = set(theirs)
    # A counter of batches, which older versions of torch did not keep.
    lacking = {k for k in wanted - kept if not k.endswith(".num_batches_tracked")}
    for fault, keys in (("lacks", lacking), ("has surplus", kept - wanted)):
        if keys:
            more = ", …" if len(keys) > _SHOWN_KEYS else ""
            shown = ", ".join(sorted(keys)[:_SHOWN_KEYS]) + more
            raise UserError(
                f"{weights.where}: {fault} {len(keys)} tensors of backbone {name!r} as timm names "
                f"them: {shown}"
            )
    for key in sorted(kept & wanted - {_POSITIONS}):  # timm would resample a patch embedding too
        ours, asked = list(weights.tensors[key].shape), list(theirs[key].shape)
        if ours != asked:
            raise UserError(f"{weights.where}: {key} is {ours}, backbone {name!r} takes {asked}")


def check_activation(name: str, bare: nn.Module) -> None:
    """Nothing where the model computes the activation that its weights were trained with.

    timm builds OpenAI's CLIP, and what follows it, with GELU unless asked; the weights fit, but
    were trained with QuickGELU, and the features come out wrong (pooled cosine 0.84).

    Raises:
        UserError: it computes GELU; the message names the model that does not.
    """
    import timm

    notes = " ".join(timm.get_pretrained_cfg(name).notes or ())
    computes = {type(module).__name__ for module in bare.modules()}
    if "QuickGELU" not in notes or "QuickGELU" in computes:
        return
    quick = name.replace("_clip_", "_clip_quickgelu_")
    advice = f"take {quick}" if timm.is_model(quick) else "set options: {act_layer: quick_gelu}"
    raise UserError(
        f"backbone {name!r}: its weights were trained with QuickGELU, and this model computes "
        f"GELU: {advice}"
    )


def overlay_from_hub(name: str) -> dict[str, Any] | None:
    """What `create_model` is told of where its weights lie; None: it fetches them itself.

    Raises:
        UserError: the hub can't be reached, and its cache does not have them.
    """
    return {"file": _cached_weights(name)} if _is_offline(name) else None


def unfetched(name: str) -> str:
    """What timm would fetch for a backbone and where, and how to do without."""
    import huggingface_hub
    import timm

    config = timm.get_pretrained_cfg(name)
    if config.hf_hub_id:
        file = config.hf_hub_filename or _WEIGHTS_FILE
        at = f"{huggingface_hub.constants.ENDPOINT}/{config.hf_hub_id}/resolve/main/{file}"
    else:
        at = config.url or "nowhere: it has no pretrained weights"
    return (
        f"timm fetches them from {at}: connect, or fetch that file elsewhere and give it as "
        "--backbone-weights FILE, or set pretrained to false"
    )


def _is_offline(name: str) -> bool:
    """Whether the weights are on the hub and that cannot be reached."""
    import timm

    return bool(timm.get_pretrained_cfg(name).hf_hub_id) and not hub_answers()


def hub_answers() -> bool:
    """Whether the hub can be reached, and may be.

    Asked first, because the hub's client would try each of its files for half a minute.
    """
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method="HEAD")  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _cached_weights(name: str) -> str:
    import huggingface_hub
    import timm

    config = timm.get_pretrained_cfg(name)
    file = config.hf_hub_filename or _WEIGHTS_FILE
    path = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file)
    if isinstance(path, str):
        return path
    raise UserError(
        f"backbone {name!r}: its pretrained weights are not in the local cache and "
        f"{huggingface_hub.constants.ENDPOINT} does not answer; {unfetched(name)}"
    )
