"""A detector as a folder: `model.safetensors` and `detector.json`, local or on S3."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor, nn

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.models.adopted.hub_uris import HUB, split_labels
from rayapp.models.adopted.outputs import AdoptedNetwork
from rayapp.models.adopted.spec import Adopted
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import LAYOUTS, Architecture
from rayapp.models.encoder import Network
from rayapp.models.foreign import load_strictly, without_prefix
from rayapp.models.fused_network import FusedNetwork
from rayapp.models.networks import build_scorer
from rayapp.models.scope import Scope
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

SPEC_FILE = "detector.json"
WEIGHTS_FILE = "model.safetensors"
_HUB_CONFIG, _ONNX_FILE, _ONNX = "config.json", "model.onnx", ".onnx"
_MOST_OF_WEIGHTS = 2  # the network's bytes against the file's: equal but for 16-bit files
_HARMLESS_BYTES = 256 << 20  # below it, what is wrong with the weights is the better word


class _SavedSpec(DetectorSpec):
    """`detector.json`: the spec, and what proves that the weights beside it are its own."""

    format: Literal[1] = Field(1, description="version of this file's layout")
    detector_hash: str = Field(description="SHA-256 of weights, architecture, preprocessing")


def save_detector(detector: Detector, store: Store) -> str:
    """Writes the weights, then `detector.json`, which makes the folder whole; gives the hash."""
    digest = detector.hash()
    tensors = {
        # A copy in plain order: safetensors takes neither shared nor channels-last memory.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in detector.network.state_dict().items()
    }
    store.put(WEIGHTS_FILE, safetensors.torch.save(tensors))
    saved = _SavedSpec(**dict(detector.spec), detector_hash=digest)
    store.put(SPEC_FILE, saved.model_dump_json(indent=2).encode())
    return digest


def read_spec(uri: str | os.PathLike[str]) -> tuple[DetectorSpec, str]:
    """What a detector's folder says of it, and its hash, without reading the weights.

    A detector of others says neither: it is loaded.

    Raises:
        UserError: no such detector, or a file of another kind.
    """
    plain, _ = split_labels(os.fspath(uri))
    if is_adopted(plain):
        detector = load_detector(uri)
        return detector.spec, detector.hash()
    saved = _read_spec(open_store(plain))
    return DetectorSpec(**_spec_fields(saved)), saved.detector_hash


def write_scope(store: Store, scope: Scope, detector_hash: str) -> None:
    """Replace the scope of the detector in a folder, and nothing else.

    Raises:
        UserError: no such detector, or by now another one.
        OSError: the folder can't be written.
    """
    saved = _read_spec(store)
    if saved.detector_hash != detector_hash:
        raise UserError(f"{store.uri()}: holds another detector by now")
    if saved.scope != scope:
        changed = saved.model_copy(update={"scope": scope})
        store.put(SPEC_FILE, changed.model_dump_json(indent=2).encode())


def load_detector(
    uri: str | os.PathLike[str], *, device: str = "cpu", synthetic_labels: Sequence[str] = ()
) -> Detector:
    """The detector in a folder (local path or `s3://…`), in evaluation mode.

    Args:
        uri: a folder of ours, a Hugging Face folder, `hf://OWNER/NAME[@REVISION]`, an ONNX file.
        device: where it computes.
        synthetic_labels: of a Hugging Face folder, classes that mean synthetic.

    Raises:
        UserError: no such detector; files of another kind; weights, strides or calibration that
            belong to another detector.
    """
    plain, labels = split_labels(os.fspath(uri))
    if is_adopted(plain):
        return _adopted(plain, tuple(synthetic_labels) or labels).to(device)
    store = open_store(plain)
    saved = _read_spec(store)
    if saved.fusion:
        detector = _fused(store, saved)
    elif saved.adopted:
        network = _load_adopted(saved.adopted, _tensors(store), store.uri())
        detector = Detector(network, DetectorSpec(**_spec_fields(saved)))
    else:
        detector = _built(store, saved)
    digest = detector.hash()
    if digest != saved.detector_hash:
        raise UserError(
            f"{store.uri()}: {WEIGHTS_FILE} or {SPEC_FILE} was changed after saving "
            f"(hash {digest[:12]}, recorded {saved.detector_hash[:12]}); fetch the folder again"
        )
    calibration = saved.calibration
    if calibration and calibration.detector_hash != digest:
        raise UserError(
            f"{store.uri(SPEC_FILE)}: the calibration was made for other weights or another view "
            f"(detector {calibration.detector_hash[:12]}, this is {digest[:12]}); calibrate again"
        )
    detector.network.eval()
    return detector.to(device)


def own_store(uri: str) -> Store | None:
    """Where a detector's folder may be read and written; None: it is one of others."""
    plain, _ = split_labels(uri)
    return None if is_adopted(plain) else open_store(plain)


def is_adopted(uri: str) -> bool:
    """Whether a name is that of a detector of others: on the hub, an ONNX file, or its folder."""
    if uri.startswith(HUB) or uri.endswith(_ONNX):
        return True
    store = open_store(uri)
    try:
        theirs = (_HUB_CONFIG, _ONNX_FILE)
        return store.stat(SPEC_FILE) is None and any(store.stat(name) for name in theirs)
    except NotADirectoryError:
        return False


def _adopted(uri: str, labels: Sequence[str]) -> Detector:
    # On demand: few need it, and it brings what most do without.
    if uri.endswith(_ONNX) or (not uri.startswith(HUB) and not open_store(uri).stat(_HUB_CONFIG)):
        from rayapp.models.adopted import onnx_file

        return onnx_file.load(uri, labels)
    from rayapp.models.adopted import transformers_folder

    return transformers_folder.load(uri, labels)


def _load_adopted(adopted: Adopted, tensors: Mapping[str, Tensor], where: str) -> AdoptedNetwork:
    if adopted.kind == "onnx":
        from rayapp.models.adopted import onnx_network

        return onnx_network.build(adopted, tensors, where)
    from rayapp.models.adopted import transformers_network

    return transformers_network.build(adopted, without_prefix(tensors, "model."), where)


def _fused(store: Store, saved: _SavedSpec) -> Detector:
    """The parts, each with its own weights of the one file, and each the one that was fused.

    Raises:
        UserError: a part is not what it was.
    """
    assert saved.fusion is not None
    tensors, networks = _tensors(store), []
    for number, part in enumerate(saved.fusion.parts):
        prefix, where = f"parts.{number}.", f"{store.uri(WEIGHTS_FILE)}, part {part.name}"
        mine = without_prefix(tensors, prefix)
        spec = _part_spec(part.spec, where)
        if spec.fusion:
            raise UserError(f"{where}: is a fusion itself")
        if spec.adopted:
            network: nn.Module = _load_adopted(spec.adopted, mine, where)
        else:
            _check_bytes(spec.architecture, sum(t.nbytes for t in mine.values()))
            network = build_scorer(spec.architecture)
            load_strictly(network, mine, where)
        digest = Detector(cast(Network, network), spec).hash()
        if digest != part.detector_hash:
            raise UserError(
                f"{where}: is another detector (hash {digest[:12]}, fused was "
                f"{part.detector_hash[:12]}); fuse again"
            )
        networks.append(network)
    return Detector(FusedNetwork(networks, saved.fusion), DetectorSpec(**_spec_fields(saved)))


def _part_spec(given: dict[str, Any], where: str) -> DetectorSpec:
    return validated(DetectorSpec, given, lambda _: where)


def _built(store: Store, saved: _SavedSpec) -> Detector:
    try:
        _check_size(store, saved)
        network = build_scorer(saved.architecture)
        detector = Detector(network, DetectorSpec(**_spec_fields(saved)))
    except UserError as error:
        raise UserError(f"{store.uri(SPEC_FILE)}: {error}") from None
    load_strictly(network, _tensors(store), store.uri(WEIGHTS_FILE))
    return detector


def _read_spec(store: Store) -> _SavedSpec:
    try:
        data = json.loads(store.get(SPEC_FILE))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{store.uri()}: no such detector{_advice(store)}") from None
    except ValueError as error:
        raise UserError(f"{store.uri(SPEC_FILE)}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{store.uri(SPEC_FILE)}: not a detector, a JSON object is wanted")
    return validated(_SavedSpec, data, lambda _: store.uri(SPEC_FILE))


def _advice(store: Store) -> str:
    """How to get it, where the folder has the name of a published detector."""
    name = store.uri().rstrip("/").rpartition("/")[2]
    if name not in LAYOUTS:
        return f" (it has no {SPEC_FILE})"
    return (
        f"; `imaginet weights {name}` fetches the published one of that name and says in "
        "which folder it then is"
    )


def _check_size(store: Store, saved: _SavedSpec) -> None:
    there = store.stat(WEIGHTS_FILE)
    if there is not None:  # else that is said later
        _check_bytes(saved.architecture, there.size)


def _check_bytes(architecture: Architecture, num_bytes: int) -> None:
    """Refuse a network much larger than its weights before it takes any memory."""
    with torch.device("meta"):
        try:
            network = build_scorer(architecture)
        except (RuntimeError, OverflowError, MemoryError) as error:
            why = " ".join(str(error).split())
            raise UserError(f"the network can't be built: {why}") from None
    asked = sum(p.numel() * p.element_size() for p in network.parameters())
    if asked > max(_MOST_OF_WEIGHTS * num_bytes, _HARMLESS_BYTES):
        raise UserError(
            f"asks for weights of {asked / 1e9:.3g} GB, {WEIGHTS_FILE} holds {num_bytes / 1e9:.3g}"
        )


def _spec_fields(saved: _SavedSpec) -> dict[str, Any]:
    return {name: getattr(saved, name) for name in DetectorSpec.model_fields}


def _tensors(store: Store) -> dict[str, Tensor]:
    where = store.uri(WEIGHTS_FILE)
    try:
        return dict(safetensors.torch.load(store.get(WEIGHTS_FILE)))
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; the detector is not whole") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"{where}: not a safetensors file: {error}") from None
