"""An ONNX file and the JSON beside it as a detector: `model.onnx`, `model.json`."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.dataset.images import sha256
from rayapp.models.adopted.checks import check_inside, read_json
from rayapp.models.adopted.class_names import synthetic_classes
from rayapp.models.adopted.onnx_network import OnnxNetwork, check_alone, open_session
from rayapp.models.adopted.spec import Adopted
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing, View
from rayapp.models.scope import Scope
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, split_uri

SUFFIX, MODEL_FILE = ".onnx", "model.onnx"
_KINDS = ("tensor(float)", "tensor(float16)")


class OnnxSettings(Preprocessing):
    """What an ONNX file does not say of itself: how it sees an image, what its output means."""

    view: View = Field("resize", description="how an image becomes its input; see Preprocessing")
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="order of the input's axes")
    channels: Literal["rgb", "bgr"] = Field("rgb", description="order of the colours")
    output: str | None = Field(None, description="which output; the first if none")
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
    model = _read(store, name)
    check_alone(model, store.uri(name))
    config = _checked(model, settings, store.uri(name))
    several = settings.kind == "softmax"
    given = tuple(labels) or settings.synthetic
    adopted = Adopted(
        kind="onnx",
        classes=settings.classes,
        synthetic=synthetic_classes(settings.classes, uri, given, several=several),
        gives=settings.kind,
        config=config,
    )
    if settings.kind == "logit" and len(adopted.synthetic) > 1:
        raise UserError(f"{store.uri(described)}: logits that stand alone do not add up; name one")
    fields = {field: getattr(settings, field) for field in Preprocessing.model_fields}
    spec = DetectorSpec(
        architecture=Architecture(backbone="onnx", head=HeadSettings(norm="none", hidden=0)),
        strides={},
        preprocessing=Preprocessing(**fields),
        adopted=adopted,
        provenance={"from": uri, "sha256": {name: sha256(model)}} | settings.provenance,
        scope=settings.scope,
    )
    return Detector(OnnxNetwork(adopted, model).eval(), spec)


def _read(store: Store, name: str) -> bytes:
    check_inside(store, name)
    try:
        return store.get(name)
    except FileNotFoundError:
        raise UserError(f"{store.uri(name)}: no such file") from None


def _checked(model: bytes, settings: OnnxSettings, where: str) -> dict[str, Any]:
    """How it is run; the file's own word on its input and outputs was asked."""
    session = open_session(model, where)
    inputs, outputs = session.get_inputs(), {one.name: one for one in session.get_outputs()}
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _KINDS:
        raise UserError(f"{where}: one input of images [N, 3, H, W] in floats is wanted")
    output = settings.output or next(iter(outputs))
    if output not in outputs:
        raise UserError(f"{where}: no output {output!r} (it has {', '.join(outputs)})")
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
    return {"output": output, "layout": settings.layout, "channels": settings.channels}
