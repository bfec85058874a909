"""What is known of one picture under a detector: verdict, map, deliveries, declarations, facts."""

from collections.abc import Iterator

from rayapp.config.errors import UserError
from rayapp.dataset.declared import read_declared
from rayapp.dataset.formats import decoder_versions
from rayapp.dataset.images import DecodedImage, decode, sha256
from rayapp.explain.evidence_sheet import Delivery, Evidence
from rayapp.models.basis import error_rates, threshold_line
from rayapp.models.detector import Detector
from rayapp.models.preprocessing import Box, Pixels, seen_boxes
from rayapp.models.verdicts import Judge
from rayapp.pages.blocks import Value
from rayapp.run.fingerprint import versions
from rayapp.run.record import now
from rayapp.transforms.perturbations import load_perturbation
from rayapp.transforms.plans import apply_each

DELIVERIES = "deliveries"
_AS_IT_IS = "as it is"
_WORDS = {
    "web": "at most 768 px, JPEG quality 60",
    "preview": "at most 512 px, JPEG quality 40",
    "cropped": "60 % of height and of width",
    "barred": "with black bars to 16 : 9",
}


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
    deliveries = list(_delivered(image, sha256(data)))
    pictures = [image.pixels_HWC, *(pixels_HWC for _, pixels_HWC in deliveries)]
    judgement, *others = detector.judge(pictures, threshold=threshold)
    firm = [
        Delivery(name, one.probability, one.verdict)
        for name, one in zip(
            [_AS_IT_IS, *(n for n, _ in deliveries)], [judgement, *others], strict=True
        )
        if one.probability is not None
    ]
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
        deliveries=firm if judgement.probability is not None else [],
        declared=read_declared(data),
        file=_file_facts(image, data, source),
        detector=_detector_facts(detector, uri, judge),
        rates=error_rates(judge),
        scope=detector.scope_line,
    )


def _delivered(image: DecodedImage, item_id: str) -> Iterator[tuple[str, Pixels]]:
    plans = load_perturbation(DELIVERIES).draw((image.height, image.width), item_id, seed=0)
    for name, pixels_HWC in apply_each(plans, image.pixels_HWC):
        yield _WORDS.get(name, name), pixels_HWC


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
