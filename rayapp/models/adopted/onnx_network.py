"""A network that onnxruntime runs: the bytes of its file are its weights.

Shapes: N images · K outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.models.adopted.outputs import AdoptedNetwork, as_logits
from rayapp.models.adopted.spec import Adopted

BYTES = "model"  # the tensor under which a folder of ours holds the file
_WANTED = "pip install 'imaginet-ray[onnx]'"
_SILENT = 3  # onnxruntime's level for errors alone
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxNetwork(AdoptedNetwork):
    """An ONNX file; on the CPU, unless onnxruntime was installed with a GPU."""

    def __init__(self, adopted: Adopted, model: bytes) -> None:
        super().__init__(adopted)
        self.register_buffer(BYTES, torch.frombuffer(bytearray(model), dtype=torch.uint8))
        self._sessions: dict[Any, Any] = {}

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits of synthetic float32 [N]."""
        config, session = self.adopted.config, self._session(images_NCHW.device)
        pixels = images_NCHW.float().cpu()
        if config["channels"] == "bgr":
            pixels = pixels.flip(1)
        if config["layout"] == "NHWC":
            pixels = pixels.permute(0, 2, 3, 1)
        given = session.get_inputs()[0]
        array = np.ascontiguousarray(pixels.numpy().astype(_KINDS[given.type]))
        # A file made for one image at a time takes no more.
        parts = np.split(array, len(array)) if given.shape[0] == 1 else [array]
        found = [session.run([config["output"]], {given.name: part})[0] for part in parts]
        outputs_NK = torch.from_numpy(np.concatenate(found).astype(np.float32))
        return as_logits(outputs_NK.reshape(len(array), -1), self.adopted).to(images_NCHW.device)

    def _session(self, device: torch.device) -> Any:
        key = (device.type, torch.get_num_threads())
        if key not in self._sessions:
            data = self.get_buffer(BYTES).cpu().numpy().tobytes()
            self._sessions = {key: open_session(data, "the file", *key)}
        return self._sessions[key]


def build(adopted: Adopted, tensors: Mapping[str, Tensor], where: str) -> OnnxNetwork:
    """The network of a folder of ours.

    Raises:
        UserError: it holds no such file.
    """
    if set(tensors) != {BYTES}:
        raise UserError(f"{where}: holds no ONNX file")
    model = tensors[BYTES].numpy().tobytes()
    check_alone(model, where)
    return OnnxNetwork(adopted, model)


def open_session(model: bytes, where: str, device: str = "cpu", threads: int = 1) -> Any:
    """What runs an ONNX file.

    Raises:
        UserError: onnxruntime is not installed, or can't run the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"an ONNX file is run by onnxruntime, which is not installed: {_WANTED}"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    there = onnxruntime.get_available_providers()
    gpu = [one for one in ("CUDAExecutionProvider",) if device == "cuda" and one in there]
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=[*gpu, "CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - each fault of a file has a class of its own
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: onnxruntime can't run it: {why}") from None


def check_alone(model: bytes, where: str) -> None:
    """Nothing where an ONNX file holds all of its weights.

    Raises:
        UserError: no ONNX file, or one that asks for data of other files.
    """
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        raise UserError(
            f"an ONNX file is read by onnx, which is not installed: {_WANTED}"
        ) from None
    try:
        found = onnx.load_model_from_string(model)
    except Exception:  # noqa: BLE001 - protobuf's own error, whose class depends on its build
        raise UserError(f"{where}: not an ONNX file") from None
    if not found.graph.node:
        raise UserError(f"{where}: not an ONNX file")
    if any(uses_external_data(tensor) for tensor in _tensors(found)):
        raise UserError(f"{where}: refused: it asks for data of other files; save it as one file")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of an ONNX file, however deep it lies."""
    for field, value in message.ListFields():
        for one in value if isinstance(value, Sequence) or hasattr(value, "add") else [value]:
            if getattr(field.message_type, "name", "") == "TensorProto":
                yield one
            elif field.message_type is not None:
                yield from _tensors(one)
