"""Weights of others opened safely: data only, never code.

A `.pt` or `.pth` file is a pickle, and a pickle may carry code. torch's restricted unpickler
(`weights_only`) builds tensors and plain containers and refuses all else; what published files
need beyond that stands in a list here.
"""

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rayapp.config.errors import UserError

# Plain holders of settings that published checkpoints store beside their weights.
ADMITTED = (argparse.Namespace,)
# What people's training loops put around weights: containers in the file, or parts of the names
# (DataParallel, torch.compile, Lightning). No published layout has such a part of its own.
WRAPPERS = frozenset({"state_dict", "model_state_dict", "model", "net", "module", "_orig_mod"})
_SHOWN_KEYS = 3
_GLOBAL = re.compile(r"(?:GLOBAL |Unsupported global: |Unsupported class |type )([\w.]+\.\w+)")


def open_checkpoint(data: bytes, where: str) -> dict[str, Any]:
    """What a `.safetensors`, `.pt` or `.pth` file holds; nothing in it is executed.

    Raises:
        UserError: not such a file, a damaged one, or one that needs a class that is not admitted;
            `where` names the file, the message the class.
    """
    if not data.startswith(b"PK") and not _is_pickle(data):
        try:
            return dict(safetensors.torch.load(data))
        except (safetensors.SafetensorError, ValueError):
            raise UserError(f"{where}: holds no weights: neither safetensors nor torch's") from None
    try:
        with torch.serialization.safe_globals(list(ADMITTED)):
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{where}: refused: {_format_error(error)}; nothing of it was executed"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: holds no weights of torch, or is damaged: {why}") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: holds a {type(found).__name__}, a mapping of weights is wanted")
    return dict(found)


def _is_pickle(data: bytes) -> bool:
    return data[:1] == b"\x80" and data[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}


def _format_error(error: pickle.UnpicklingError) -> str:
    """Which class or function it asked for, where torch tells."""
    text = " ".join(str(error).split())
    named = _GLOBAL.search(text)
    return f"it asks for {named[1]}, which no weights need" if named else text[:200]


def weights_of(
    found: Mapping[str, Any], where: str, parts: Collection[str] = ()
) -> dict[str, Tensor]:
    """Tensors by name, out of whatever WRAPPERS stand around them, in the file and in the names.

    `{"state_dict": {"model": {"module.fc._orig_mod.weight": …}}, "epoch": 3}` gives `fc.weight`.

    Args:
        found: what the file holds.
        where: names the file.
        parts: containers that belong to the layout: their tensors keep the container's name.

    Raises:
        UserError: no tensor by name, none of one of `parts`, or two of the same name.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in _named_tensors(found, frozenset(parts)):
        if name in weights:
            raise UserError(f"{where}: holds {name} twice; which network of it is meant?")
        weights[name] = tensor
    keys = ", ".join(sorted(map(str, found))[:8])
    if not weights:
        raise UserError(f"{where}: holds no weights by name, but {keys}: wrong file?")
    for part in parts:
        if not any(name.startswith(f"{part}.") for name in weights):
            raise UserError(f"{where}: has no {part!r}, but {keys}: wrong file?")
    return weights


def _named_tensors(found: Mapping[str, Any], parts: frozenset[str]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the containers that are weights; of `found` itself where it has none."""
    inner = {k: v for k, v in found.items() if k in WRAPPERS | parts and isinstance(v, Mapping)}
    for key, value in inner.items():
        before = (key,) if key in parts else ()
        for name, tensor in _named_tensors(value, parts):
            yield ".".join((*before, name)), tensor
    if inner.keys() - parts:
        return  # a tensor beside them is no weight, but the best accuracy so far
    for key, value in found.items():
        if isinstance(value, Tensor) and isinstance(key, str):
            yield ".".join(part for part in key.split(".") if part not in WRAPPERS), value


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start so, without that."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_strictly(network: nn.Module, given: Mapping[str, Tensor], where: str) -> None:
    """Load tensors that are exactly the network's, by name and shape.

    Raises:
        UserError: a tensor too few, too many or of another shape.
    """
    wanted: dict[str, Tensor] = network.state_dict()
    for fault, keys in (("lacks", wanted.keys() - given), ("has surplus", given.keys() - wanted)):
        if keys:
            raise UserError(
                f"{where}: {fault} {len(keys)} tensors of the network: {_shown(sorted(keys))}"
            )
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{where}: {name} is {list(tensor.shape)}, the network takes "
                f"{list(wanted[name].shape)}"
            )
    network.load_state_dict(dict(given))


def _shown(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (", …" if len(keys) > _SHOWN_KEYS else "")
