"""A detector as a card: what it is, was trained on, and how it did where it was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rayapp.models.detector import DetectorSpec
from rayapp.models.folder import read_spec
from rayapp.models.fusion import Fusion
from rayapp.models.scope import Images, describe_figures

_WIDTH = 14
_TERMS = ("published", "from", "licence", "attribution", "page")  # of weights of others


def card(uri: str) -> str:
    """The card of the detector in a folder, from its `detector.json` alone.

    Raises:
        UserError: no such detector.
    """
    spec, digest = read_spec(uri)
    rows = [*_network(spec), *_grounds(spec), ("hash", [digest])]
    lines = [uri]
    for name, values in rows:
        head, *rest = values
        lines.append(f"  {name:<{_WIDTH}}{head}")
        lines += [f"  {'':<{_WIDTH}}{value}" for value in rest]
    return "\n".join(lines)


Rows = Iterator[tuple[str, Sequence[str]]]


def _network(spec: DetectorSpec) -> Rows:
    seen, built = spec.preprocessing, spec.architecture
    several = f", {built.num_networks} of them averaged" if built.num_networks else ""
    if spec.scope.about:
        yield "is", [spec.scope.about]
    view = f"{seen.view}, {seen.size} px"
    if seen.processor:
        view = f"its own processor does, {seen.shape_HW[1]}×{seen.shape_HW[0]} px"
    if spec.fusion:
        yield "network", list(_parts(spec.fusion))
    else:
        yield "network", [f"{built.backbone}{several}; sees an image as {view}"]
    yield "tells", [", ".join(spec.labels.classes)]
    if spec.adopted:
        named = [spec.adopted.classes[index] for index in spec.adopted.synthetic]
        yield "synthetic", [f"{' + '.join(named) or 'none of'} ({', '.join(spec.adopted.classes)})"]
    for name in _TERMS:
        if value := spec.provenance.get(name):
            yield name, [", ".join(value) if isinstance(value, list) else str(value)]


def _made_from(made: Mapping[str, Any]) -> str:
    """The marks of a review, and the calibration before."""
    hashes = ", ".join(one[:12] for one in made["reviews"].values())
    before = made["calibration"][:12] or "none"
    return (
        f"from marks {hashes} ({made['num_real']:,} real, {made['num_synthetic']:,} synthetic, "
        f"chosen {made['sampled'].replace('-', ' ')}); the calibration before: {before}"
    )


def _parts(fusion: Fusion) -> Iterator[str]:
    yield f"a fusion ({fusion.method}) of"
    for part in fusion.parts:
        inner = DetectorSpec(**part.spec)
        seen = inner.preprocessing
        yield (
            f"  {part.name}: {inner.architecture.backbone}, weight {part.weight:.3g}; sees an "
            f"image as {seen.view}, {seen.size} px; hash {part.detector_hash[:12]}"
        )
    if fusion.disagree_above is not None:
        yield f"unsure where their probabilities are more than {fusion.disagree_above:g} apart"


def _grounds(spec: DetectorSpec) -> Rows:
    scope = spec.scope
    yield "trained on", [_dated(scope.trained) if scope.trained else "not recorded"]
    if spec.calibration is None:
        yield "calibrated", ["no: its probabilities order images, and say no more than that"]
    else:
        fit = spec.calibration
        band = f"unsure from {fit.band[0]:.3f} to {fit.band[1]:.3f}" if fit.band else "never unsure"
        on = _dated(scope.calibrated) if scope.calibrated else f"{fit.n:,} images"
        rows = [on, f"{fit.method}; synthetic from p ≥ {fit.threshold:g}; {band}"]
        if made := spec.provenance.get("made_from"):
            rows.append(_made_from(made))
        yield "calibrated", [*rows, fit.turned] if fit.turned else rows
    lines = []
    for one in scope.measured:
        source = f", by {one.source}" if one.source else ""
        lines += [f"{_dated(one)}{source}", f"  {describe_figures(one.figures)}"]
    yield "measured on", lines or ["nothing that is recorded: how often it is wrong is not known"]


def _dated(images: Images) -> str:
    return f"{images.describe()} ({images.date[:10]})" if images.date else images.describe()
