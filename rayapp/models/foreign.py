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
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rayapp.config.errors import UserError

# Plain holders of settings that published checkpoints store beside their weights.
ADMITTED = (argparse.Namespace,)
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


def state_dict(found: Mapping[str, Any], key: str, where: str) -> dict[str, Tensor]:
    """The tensors under `key` of a checkpoint.

    Raises:
        UserError: there is no such key, or it holds other things than tensors by name.
    """
    if key not in found:
        raise UserError(f"{where}: has no {key!r}, but {', '.join(sorted(found)[:8])}: wrong file?")
    value = found[key]
    if not isinstance(value, Mapping) or not all(isinstance(v, Tensor) for v in value.values()):
        raise UserError(f"{where}: {key!r} holds no tensors by name")
    return dict(value)


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
