"""What is known of one picture under a detector: verdict, map, deliveries, declarations, facts."""

from rayapp.config.errors import UserError
from rayapp.dataset.declared import read_declared
from rayapp.dataset.declared.raw_fields import raw_fields
from rayapp.dataset.formats import decoder_versions
from rayapp.dataset.images import DecodedImage, decode, sha256
from rayapp.explain.evidence_sheet import Evidence
from rayapp.models.basis import error_rates, threshold_line
from rayapp.models.detector import Detector
from rayapp.models.preprocessing import Box, seen_boxes
from rayapp.models.verdicts import Judge
from rayapp.pages.blocks import Value
from rayapp.run.fingerprint import versions
from rayapp.run.record import now


def gather(
    detector: Detector, uri: str, data: bytes, source: str, threshold: float | None = None
) -> Evidence:
    """All that is known of one picture.

    Args:
        detector: judges.
        uri: of the detector, to be named.
        data: the image file.
        source: URI of the file, to be named.
        threshold: see `Detector.judge`.

    Raises:
        ImageError: the file can't be decoded.
    """
    image = decode(data)
    (judgement,) = detector.judge([data], threshold=threshold, stability="web")
    spec = detector.spec
    classes = spec.labels.classes if spec.architecture.head.num_outputs > 1 else ()
    judge = Judge(spec.preprocessing.view, spec.calibration, threshold, classes)
    try:
        found = detector.evidence(image.pixels_HWC)
    except UserError:  # of several classes
        found = None
    return Evidence(
        name=source.rpartition("/")[2],
        image=image,
        judgement=judgement,
        map=found,
        map_p=found.probabilities(detector) if found else None,
        seen=_seen(detector, image),
        deliveries=judgement.deliveries,
        declared=read_declared(data),
        raw=raw_fields(data),
        file=_file_facts(image, data, source),
        detector=_detector_facts(detector, uri, judge),
        rates=error_rates(judge),
        scope=detector.scope_line,
    )


def _seen(detector: Detector, image: DecodedImage) -> list[Box]:
    """What the verdict rests on; of a fusion the whole, as each part looks elsewhere."""
    if detector.spec.fusion:
        return [(0.0, 0.0, 1.0, 1.0)]
    return seen_boxes((image.height, image.width), detector.spec.preprocessing)


def _file_facts(image: DecodedImage, data: bytes, source: str) -> dict[str, Value]:
    return {
        "file": source,
        "sha256": sha256(data),
        "bytes": len(data),
        "format": image.format,
        "size": f"{image.width} × {image.height} px",
        "turned": f"EXIF orientation {image.orientation}" if image.orientation > 1 else "no",
        "converted for viewing": image.note or "nothing",
    }


def _detector_facts(detector: Detector, uri: str, judge: Judge) -> dict[str, Value]:
    spec = detector.spec
    fit = spec.calibration
    return {
        "detector": uri,
        "hash": detector.hash(),
        "network": spec.architecture.backbone,
        "sees": "each part of the fusion in its own way"
        if spec.fusion
        else f"{spec.preprocessing.view}, {spec.preprocessing.size} px",
        "decides": threshold_line(judge),
        "calibration": f"{fit.method}, on {fit.n:,} images" if fit else "none",
        "rests on": detector.scope_line,
        "made": now(),
        "versions": ", ".join(f"{n} {v}" for n, v in (versions() | decoder_versions()).items()),
    }
