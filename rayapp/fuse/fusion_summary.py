"""What is said of a fusion at its end: each detector alone, the whole, and what it gains."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rayapp.run.commands import command


def lines(results: Mapping[str, Any], detectors: Sequence[str]) -> Iterator[str]:
    """A table, the decisions, and how to measure the whole; `detectors` ends with the fusion."""
    figures = results["figures"]
    names = [part["name"] for part in figures["parts"]]
    width = max(map(len, [*names, "fusion"]))
    yield f"\n{'':<{width}}  weight  ROC AUC  fusion less this one (95 % interval)"
    for part in figures["parts"]:
        weight = results["weights"][part["name"]]
        start = f"{part['name']:<{width}}  {weight:6.3f}  {_figure(part['auc'])}"
        yield f"{start}  {_gain(part['gain'])}"
    yield f"{'fusion':<{width}}  {'':6}  {_figure(figures['auc'])}"
    if figures["folds"]:
        yield f"The fusion is judged on images that it was not fitted on, {figures['folds']} folds."
    else:
        yield "The fusion's figure is of the images of the fit: too few for folds, and flattering."
    yield f"{results['disagree']:,} images are unsure because detectors disagree"
    low, high = results["band"] or (0, 0)
    band = f"{low:.4g} to {high:.4g}" if low < high else "none"
    yield f"threshold {results['threshold']:.6g}, unsure band {band}"
    yield from results["decisions"]
    if results["warning"]:
        yield f"warning: {results['warning']}"
    yield "measure all of them on other images: " + command(
        "evaluate", detector=detectors, annotations="LIST", root="FOLDER", output="DIR"
    )


def _figure(value: float | None) -> str:
    return f"{'none':>7}" if value is None else f"{value:7.4f}"


def _gain(gain: Mapping[str, Any]) -> str:
    if gain["value"] is None or gain["low"] is None:
        return f"not known: {gain['reason']}"
    return f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
