"""A network that onnxruntime runs: the bytes of its file are its weights.

Shapes: N images · K outputs.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.models.adopted.onnx_weights import WANTED, as_one_file
from rayapp.models.adopted.outputs import AdoptedNetwork
from rayapp.models.adopted.spec import Adopted

BYTES = "model"  # the tensor under which a folder of ours holds the file
WHOLE_BYTES = "tensor(uint8)"
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_KINDS: dict[str, Any] = {**FLOATS, WHOLE_BYTES: np.uint8}
# What comes before the words of its errors: a code, and the place in its own source.
_ITS_OWN = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:/\S+:\d+ .*?\) (?=[A-Z]))?")
_SILENT = 3  # onnxruntime's level for errors alone


class OnnxNetwork(AdoptedNetwork):
    """An ONNX file; on the CPU, unless onnxruntime was installed with a GPU."""

    def __init__(self, adopted: Adopted, model: bytes) -> None:
        super().__init__(adopted)
        self.register_buffer(BYTES, torch.frombuffer(bytearray(model), dtype=torch.uint8))
        self._sessions: dict[Any, Any] = {}

    def outputs(self, images_NCHW: Tensor) -> Tensor:
        """What its output gives, float32 [N, K]."""
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
        outputs_NK = np.concatenate([np.asarray(one).reshape(len(parts[0]), -1) for one in found])
        return torch.from_numpy(outputs_NK.astype(np.float32)).to(images_NCHW.device)

    def __getstate__(self) -> dict[str, Any]:
        """Without what runs the file, of which there is no copy: it is opened again."""
        return self.__dict__ | {"_sessions": {}}

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
    if set(tensors) != {BYTES} or not adopted.config.keys() >= {"output", "layout", "channels"}:
        raise UserError(f"{where}: holds no ONNX file")
    model = tensors[BYTES].numpy().tobytes()
    return OnnxNetwork(adopted, as_one_file(model, where))


def open_session(model: bytes, where: str, device: str = "cpu", threads: int = 1) -> Any:
    """What runs an ONNX file.

    Raises:
        UserError: onnxruntime is not installed, or can't run the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"an ONNX file is run by onnxruntime, which is not installed: {WANTED}"
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
        why = _ITS_OWN.sub("", " ".join(str(error).split()))[:200]
        raise UserError(f"{where}: onnxruntime can't run it: {why}") from None
