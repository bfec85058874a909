"""ImagiNet on Ray: build the benchmark; train, calibrate and measure detectors of AI images."""

from typing import TYPE_CHECKING

from rayapp.config.defaults import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from rayapp.models.detector import Detector

__all__ = ["__version__", "load_detector"]


def load_detector(
    uri: "str | os.PathLike[str]", *, device: str = "cpu", synthetic_labels: "Sequence[str]" = ()
) -> "Detector":
    """The detector in a folder, a local path or `s3://…`, ready to score images.

    Args:
        uri: a folder of ours, a Hugging Face folder, `hf://OWNER/NAME[@REVISION]`, or an ONNX file.
        device: where it computes.
        synthetic_labels: of a classifier of others, the classes that mean synthetic, where their
            names do not tell.

    Raises:
        UserError: no such detector, or files that do not belong together.
    """
    # Here, because torch takes seconds and most jobs do not need it.
    from rayapp.models.folder import load_detector

    return load_detector(uri, device=device, synthetic_labels=synthetic_labels)
