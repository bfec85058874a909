"""A network that transformers builds: from its config and weights, and from nothing else.

Shapes: N images · K classes.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rayapp.config.errors import UserError
from rayapp.models.adopted.checks import check_keys, entries
from rayapp.models.adopted.outputs import AdoptedNetwork, trial_outputs
from rayapp.models.adopted.quiet import quiet
from rayapp.models.adopted.spec import Adopted
from rayapp.models.backbones import check_options

_MOST_OF_WEIGHTS = 4  # the network's values against the file's: equal, but for what is shared
_HARMLESS = 64_000_000
_MOST_LAYERS = 1000
_DEPTHS = ("layers", "depths", "depth", "blocks", "stages")
_WANTED = "pip install 'imaginet-ray[transformers]'"
TIMM = "timm_wrapper"


class TransformersNetwork(AdoptedNetwork):
    """An image classifier of transformers; in float32 whatever its file holds."""

    def __init__(self, model: nn.Module, adopted: Adopted) -> None:
        super().__init__(adopted)
        self.model = model

    def outputs(self, images_NCHW: Tensor) -> Tensor:
        """A logit of each class [N, K]."""
        return cast(Tensor, cast(Any, self.model)(pixel_values=images_NCHW).logits)


def check_takes(network: TransformersNetwork, shape_HW: tuple[int, int], where: str) -> None:
    """Nothing where the network takes images of this size; found out on no device, at no cost.

    Raises:
        UserError: it does not, or gives other outputs than are named.
    """
    model = network.model
    weights = {
        name: tensor.to("meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    given = {"pixel_values": torch.zeros(1, 3, *shape_HW, device="meta")}
    try:
        with torch.no_grad():
            outputs_NK = functional_call(model, weights, (), given).logits.flatten(1)
        fits = outputs_NK.shape[1] == len(network.adopted.classes)
    except Exception:  # noqa: BLE001 - some networks need values, and others do not fit
        fits = False
    if not fits:  # in earnest, which says why
        trial_outputs(network, shape_HW, where)


def require() -> None:
    """Nothing where transformers is installed.

    Raises:
        UserError: it is not; the message says how to get it.
    """
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError(
            f"a Hugging Face folder is run by transformers, which is not installed: {_WANTED}"
        ) from None


def build(adopted: Adopted, tensors: Mapping[str, Tensor], where: str) -> TransformersNetwork:
    """The network of a config with these weights, by the names of whichever version wrote them.

    Raises:
        UserError: an unknown or hostile config, or weights that are not its own.
    """
    require()
    check_keys(adopted.config, where)
    with quiet():
        config = _config(adopted.config, where)
        kind = _kind(config, tensors, where)
        try:
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to be told of them: they are refused below
            )
        except (RuntimeError, ValueError, KeyError) as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: weights of another network: {why}") from None
    for fault in ("missing_keys", "mismatched_keys"):
        if info[fault]:
            first = sorted(map(str, info[fault]))[0]
            raise UserError(
                f"{where}: the weights are not those of config.json: {fault.replace('_', ' ')}, "
                f"{len(info[fault])} of them, such as {first}"
            )
    return TransformersNetwork(model.eval(), adopted)


def _config(given: Mapping[str, Any], where: str) -> Any:
    """The config as transformers understands it."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    kind = given.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        raise UserError(f"{where}: transformers has no image classifier of model_type {kind!r}")
    if kind == TIMM:
        _check_timm(given, where)
    _check_depth(given, where)
    try:
        found = AutoConfig.for_model(kind)
        return type(found).from_dict(dict(given))
    except Exception as error:  # noqa: BLE001 - a config may be wrong in any way
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: config.json: {why}") from None


def _check_timm(given: Mapping[str, Any], where: str) -> None:
    """Refuse names that make timm look elsewhere, and options that make it open files."""
    import timm

    name = str(given.get("architecture"))
    if ":" in name or not timm.is_model(name):
        raise UserError(f"{where}: timm has no model {name[:80]!r}")
    options = given.get("model_args") or {}
    if not isinstance(options, Mapping):
        raise UserError(f"{where}: config.json: model_args: a JSON object is wanted")
    check_options(options)


def _check_depth(given: Mapping[str, Any], where: str) -> None:
    """Refuse so many layers that to build them takes for ever, however small each is."""
    for key, value in entries(given):
        depths = [one for one in (value if isinstance(value, list) else [value]) if _is_int(one)]
        if key.endswith(_DEPTHS) and sum(depths) > _MOST_LAYERS:
            raise UserError(f"{where}: config.json: {key!r}: more than {_MOST_LAYERS} layers")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _kind(config: Any, tensors: Mapping[str, Tensor], where: str) -> Any:
    """The class of the network; built on no device, so that its size is known before it is made."""
    from transformers import AutoModelForImageClassification

    try:
        with torch.device("meta"):
            bare = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - a config may be wrong in any way
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: config.json: the network can't be built: {why}") from None
    asked = sum(tensor.numel() for tensor in (*bare.parameters(), *bare.buffers()))
    given = sum(tensor.numel() for tensor in tensors.values())
    if asked > max(_MOST_OF_WEIGHTS * given, _HARMLESS):
        raise UserError(
            f"{where}: config.json asks for {asked / 1e6:,.0f} million weights, the file holds "
            f"{given / 1e6:,.0f}"
        )
    return type(bare)


def labels_of(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Names of the classes, in the order of the outputs.

    Raises:
        UserError: a config that is not known, or that names other outputs than it has.
    """
    check_keys(config, where)
    with quiet():
        named = _config(config, where).id2label
    if sorted(named) != list(range(len(named))) or not named:
        raise UserError(f"{where}: config.json: id2label does not name outputs 0 to {len(named)}")
    return tuple(str(named[index]) for index in range(len(named)))
