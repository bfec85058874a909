"""The model card of an exported detector: what it rests on, and where it ends."""

from collections.abc import Sequence

import yaml

from rayapp.models.detector import DetectorSpec
from rayapp.models.scope import UNKNOWN, UNMEASURED, Images, describe_figures

_USE = """```python
from transformers import pipeline

detector = pipeline("image-classification", model="FOLDER_OR_NAME")
print(detector("image.jpg"))
```"""
_LIMITS = (
    "It says how likely an image is AI-generated, from its pixels alone. It was not made to find "
    "edited photographs or to name people, and no single score is proof.",
    "Generators that it was not trained on may pass as real, and resizing, compression and "
    "screenshots weaken every detector of this kind.",
)


def model_card(spec: DetectorSpec, digest: str, notes: Sequence[str]) -> str:
    """`README.md` with the hub's header."""
    licence = str(spec.provenance.get("licence", ""))
    header = {
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "tags": ["ai-generated-image-detection", "timm"],
        **({"license": "other", "license_name": licence} if licence else {}),
    }
    scope = spec.scope
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        "# Detector of AI-generated images",
        scope.about or f"A {spec.architecture.backbone} with one logit of synthetic.",
        _USE,
        "## Trained on",
        _images(scope.trained) if scope.trained else f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}.",
        "## Calibrated",
        _calibration(spec),
        "## Measured",
        _measured(spec),
        "## Limits",
        *_LIMITS,
        *(f"{note[0].upper()}{note[1:]}." for note in notes),
        "## Licence",
        _licence(spec, licence),
        f"Exported by imaginet-ray from the detector `{digest}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _images(images: Images) -> str:
    text = images.describe()
    if images.generators:
        text += f". Generators: {', '.join(images.generators)}"
    return f"{text}{f' ({images.date[:10]})' if images.date else ''}."


def _calibration(spec: DetectorSpec) -> str:
    fit = spec.calibration
    if fit is None:
        return "No: its probabilities order images, and say no more than that."
    on = _images(spec.scope.calibrated) if spec.scope.calibrated else f"{fit.n:,} images."
    band = f" It is unsure from {fit.band[0]:.3f} to {fit.band[1]:.3f}." if fit.band else ""
    return f"On {on} Synthetic from p ≥ {fit.threshold:g} on.{band}"


def _measured(spec: DetectorSpec) -> str:
    if not spec.scope.measured:
        return f"{UNMEASURED[0].upper()}{UNMEASURED[1:]}."
    rows = ["| images | figures (95 % interval) | by |", "|---|---|---|"]
    for one in spec.scope.measured:
        by = one.source or one.date[:10]
        rows.append(f"| {one.describe()} | {describe_figures(one.figures)} | {by} |")
    return "\n".join(rows)


def _licence(spec: DetectorSpec, licence: str) -> str:
    named = spec.provenance.get("attribution")
    text = f"{licence}." if licence else "Not recorded; ask whoever trained it."
    return f"{text} To be named: {named}." if named else text
