"""A detector as `model.onnx`, with its preprocessing described in `model.json`.

Shapes: N images · H W.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from rayapp.config.errors import JobFailed, UserError
from rayapp.export.exported import Exported, calibration_note, last_layer
from rayapp.models.adopted.onnx_file import OnnxSettings
from rayapp.models.detector import Detector
from rayapp.models.detector_spec import Preprocessing

_OPSET = 18
_KEPT = ("licence", "attribution", "published", "page")  # of where the weights come from


class _Scored(nn.Module):
    """Normalised images float32 [N, 3, H, W] → logits [N, 1], calibrated where that is linear."""

    def __init__(self, network: nn.Module, slope: float, offset: float, fp16: bool) -> None:
        super().__init__()
        self.network = network.half() if fp16 else network
        self.slope, self.offset, self.fp16 = slope, offset, fp16

    def forward(self, images_NCHW: Tensor) -> Tensor:
        given = images_NCHW.half() if self.fp16 else images_NCHW
        logits_N: Tensor = self.network(given).float()
        return (logits_N * self.slope + self.offset).reshape(-1, 1)


def export_onnx(detector: Detector, digest: str, fp16: bool = False) -> Exported:
    """The two files.

    Args:
        detector: of one logit, and a network of torch.
        digest: its hash.
        fp16: compute in 16 bits; input and output stay float32.

    Raises:
        UserError: it is an ONNX file already.
        JobFailed: a layer that ONNX does not know.
    """
    spec = detector.spec
    if spec.fusion:
        raise UserError("several detectors as one are no single network; export each part")
    if spec.adopted and spec.adopted.kind == "onnx":
        raise UserError("the detector is an ONNX file already")
    network = copy.deepcopy(detector.network).cpu().eval()
    scored = _Scored(network, *last_layer(spec.calibration), fp16).eval()
    images = torch.zeros(2, 3, *spec.preprocessing.shape_HW)
    sink = io.BytesIO()
    with torch.inference_mode(False), torch.no_grad(), _of_one_size(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: what it warns of, the check would find
        try:
            torch.onnx.export(
                scored,
                (images,),
                cast(Any, sink),  # torch takes a file as well, though its types do not say so
                dynamo=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["logit"],
                dynamic_axes={"images": {0: "N"}, "logit": {0: "N"}},
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            why = " ".join(str(error).split())[:300]
            raise JobFailed(f"the network can't be written as ONNX: {why}") from None
    files = {"model.onnx": sink.getvalue(), "model.json": _described(detector, digest)}
    return Exported(files, calibration_note(spec.calibration))


@contextlib.contextmanager
def _of_one_size() -> Iterator[None]:
    """While a network is traced it is not told so: transformers' then resizes what need not be.

    Its position embeddings would be fitted to the image's size in the graph, by filters that ONNX
    has not; the file takes one size alone.
    """
    jit: Any = torch.jit
    own, jit.is_tracing = jit.is_tracing, lambda: False
    try:
        yield
    finally:
        jit.is_tracing = own


def _described(detector: Detector, digest: str) -> bytes:
    spec = detector.spec
    fields: dict[str, Any] = {
        name: getattr(spec.preprocessing, name) for name in Preprocessing.model_fields
    }
    provenance = {name: spec.provenance[name] for name in _KEPT if name in spec.provenance}
    settings = OnnxSettings(
        **fields, kind="logit", scope=spec.scope, provenance=provenance | {"exported_from": digest}
    )
    return settings.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
