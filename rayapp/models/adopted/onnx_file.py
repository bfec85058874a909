"""An ONNX file and the JSON beside it as a detector: `model.onnx`, `model.json`."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.dataset.images import sha256
from rayapp.models.adopted.checks import check_inside, read_json
from rayapp.models.adopted.class_names import synthetic_classes
from rayapp.models.adopted.onnx_network import FLOATS, WHOLE_BYTES, OnnxNetwork, open_session
from rayapp.models.adopted.onnx_weights import as_one_file
from rayapp.models.adopted.outputs import trial_outputs
from rayapp.models.adopted.spec import Adopted
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing, View
from rayapp.models.scope import Scope
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, split_uri

SUFFIX, MODEL_FILE = ".onnx", "model.onnx"
_INPUTS = (*FLOATS, WHOLE_BYTES)
_ROUNDING = 1e-3  # of probabilities, in 16 bits
_NOT_ONE = 1e-2  # by which probabilities of classes that exclude each other miss 1 at most


class OnnxSettings(Preprocessing):
    """What an ONNX file does not say of itself: how it sees an image, what its output means."""

    view: View = Field("resize", description="how an image becomes its input; see Preprocessing")
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="order of the input's axes")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order of the colours")
    output: str | None = Field(None, description="which output, where the file has several")
    kind: Literal["logit", "probability", "softmax"] = Field(
        description="of the output: a logit, a probability, or a logit a class"
    )
    classes: tuple[str, ...] = Field(
        ("synthetic",), min_length=1, description="names of its values, in order"
    )
    synthetic: tuple[str, ...] = Field(
        (), description="those that mean synthetic, where their names do not tell"
    )
    scope: Scope = Field(Scope(), description="what its verdicts rest on")
    provenance: dict[str, Any] = Field({}, description="where it comes from")


def load(uri: str, labels: Sequence[str] = ()) -> Detector:
    """The detector of an ONNX file, or of a folder's `model.onnx`, in evaluation mode.

    Raises:
        UserError: a file that lacks, that can't be run, or that the JSON does not fit.
    """
    store, name = split_uri(uri) if uri.endswith(SUFFIX) else (open_store(uri), MODEL_FILE)
    described = name.removesuffix(SUFFIX) + ".json"
    if store.stat(described) is None:
        raise UserError(
            f"{store.uri(described)}: no such file; it has to say how {name} sees an image and "
            'what its output means: {"size": 224, "mean": […], "std": […], "kind": "logit"}'
        )
    settings = validated(OnnxSettings, read_json(store, described), lambda _: store.uri(described))
    where = store.uri(name)
    model = as_one_file(_read(store, name), where, store)
    config = _checked(model, settings, where)
    if config.pop("input") == WHOLE_BYTES:
        settings = _of_bytes(settings, store.uri(described))
    given = tuple(labels) or settings.synthetic
    synthetic = synthetic_classes(settings.classes, uri, given, several=settings.kind == "softmax")
    adopted = _adopted(settings, synthetic, config, store.uri(described))
    network = OnnxNetwork(adopted, model)
    _check_meaning(trial_outputs(network, settings.shape_HW, where), adopted, where)
    fields = {field: getattr(settings, field) for field in Preprocessing.model_fields}
    spec = DetectorSpec(
        architecture=Architecture(backbone="onnx", head=HeadSettings(norm="none", hidden=0)),
        strides={},
        preprocessing=Preprocessing(**fields),
        adopted=adopted,
        provenance={"from": uri, "sha256": {name: sha256(model)}} | settings.provenance,
        scope=settings.scope,
    )
    return Detector(network, spec)


def _adopted(
    settings: OnnxSettings, synthetic: tuple[int, ...], config: dict[str, Any], where: str
) -> Adopted:
    if settings.kind == "logit" and len(synthetic) > 1:
        raise UserError(f"{where}: logits that stand alone do not add up; name one")
    fields = {"classes": settings.classes, "synthetic": synthetic, "gives": settings.kind}
    return validated(Adopted, {"kind": "onnx", "config": config, **fields}, lambda _: where)


def _read(store: Store, name: str) -> bytes:
    check_inside(store, name)
    try:
        return store.get(name)
    except FileNotFoundError:
        raise UserError(f"{store.uri(name)}: no such file") from None


def _checked(model: bytes, settings: OnnxSettings, where: str) -> dict[str, Any]:
    """How it is run; the file's own word on its input and outputs was asked."""
    session = open_session(model, where)
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _INPUTS:
        raise UserError(f"{where}: one input of images [N, 3, H, W] in floats or bytes is wanted")
    shape = inputs[0].shape
    axes = shape[1:] if settings.layout == "NCHW" else [shape[3], *shape[1:3]]
    for axis, own, told in zip("CHW", axes, (3, *settings.shape_HW), strict=True):
        if isinstance(own, int) and own != told:
            raise UserError(
                f"{where}: its input is {shape}, the JSON says {settings.layout} with "
                f"{told} in {axis}"
            )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise UserError(f"{where}: takes {shape[0]} images at once; export it for any number")
    return {
        "input": inputs[0].type,
        "output": _output(session.get_outputs(), settings.output, where),
        "layout": settings.layout,
        "channels": settings.channels,
    }


def _output(outputs: Sequence[Any], wanted: str | None, where: str) -> str:
    """The name of the output that is meant, which holds floats."""
    names = [one.name for one in outputs]
    if wanted is None and len(names) > 1:
        raise UserError(
            f"{where}: has {len(names)} outputs ({', '.join(names)}): say in the JSON which, "
            f'"output": "{names[0]}"'
        )
    name = wanted or names[0]
    if name not in names:
        raise UserError(f"{where}: no output {name!r} (it has {', '.join(names)})")
    kind = outputs[names.index(name)].type
    if kind not in FLOATS:
        raise UserError(f"{where}: its output {name!r} is of {kind}; floats are wanted")
    return str(name)


def _of_bytes(settings: OnnxSettings, where: str) -> OnnxSettings:
    """The settings of a file that takes whole bytes, and normalises them itself."""
    if "input_scale" not in settings.model_fields_set:
        settings = settings.model_copy(update={"input_scale": 1.0})
    plain = (settings.input_scale, settings.mean, settings.std) == (1.0, (0.0,) * 3, (1.0,) * 3)
    if not plain or (settings.processor and not settings.processor.rounded):
        raise UserError(
            f"{where}: the file takes whole bytes, and normalises them itself: leave out "
            "input_scale, mean and std"
        )
    return settings


def _check_meaning(outputs_NK: Tensor, adopted: Adopted, where: str) -> None:
    """Nothing where outputs may be what they are said to be.

    Raises:
        UserError: probabilities said to be logits a class, logits said to be probabilities, or
            probabilities to be added up of classes that do not exclude each other.
    """
    low, high = float(outputs_NK.min()), float(outputs_NK.max())
    probabilities = low >= -_ROUNDING and high <= 1 + _ROUNDING
    off_one = float((outputs_NK.sum(1) - 1).abs().max())
    if adopted.gives == "softmax" and probabilities and off_one <= _ROUNDING:
        raise UserError(
            f'{where}: its outputs are probabilities already: say in the JSON "kind": "probability"'
        )
    if adopted.gives != "probability":
        return
    if not probabilities:
        raise UserError(
            f"{where}: its outputs, such as {high:.3g}, are no probabilities: say in the JSON "
            '"kind": "logit" or "softmax"'
        )
    if len(adopted.synthetic) > 1 and off_one > _NOT_ONE:
        raise UserError(
            f"{where}: its probabilities do not add up to 1, so its classes do not exclude each "
            'other: say in the JSON which one is meant, "synthetic": ["NAME"]'
        )
