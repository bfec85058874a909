"""What was measured, written into the scope of each detector: its user reads there how far it goes.

No hash of a detector depends on its scope; weights, view and calibration stay as they are.
"""

from collections.abc import Iterator

from rayapp.config.errors import UserError
from rayapp.metrics.evaluation import Evaluation, Results, Slice
from rayapp.models.folder import SPEC_FILE, own_store, read_spec, write_scope
from rayapp.models.scope import Measured, Quantity, Scope

_RECORDED = (
    "roc_auc",
    "balanced_accuracy",
    "false_positive_rate",
    "accuracy_synthetic",
    "recall",
    "accuracy",
)
_AT_THRESHOLD = ("balanced_accuracy", "false_positive_rate", "accuracy_synthetic")


def record_scopes(results: Results, date: str) -> list[str]:
    """Write what was measured into the folder of each detector; a line each that says so.

    Args:
        results: of an evaluation under the protocol `clean`; of `legacy`, which measures images
            that it calibrates on, nothing is recorded.
        date: when it was measured, ISO 8601.
    """
    lines = []
    for uri in dict.fromkeys(one.detector for one in results.evaluations):
        mine = [one for one in results.evaluations if one.detector == uri]
        store = own_store(uri)
        if store is None:
            lines.append(f"{uri}: is a detector of others, into which nothing is written")
            continue
        try:
            spec, _ = read_spec(uri)
            calibration = spec.calibration.hash if spec.calibration else None
            scope = spec.scope
            for one in mine:
                scope = _with(scope, one, calibration, date)
            if scope != spec.scope:
                write_scope(store, scope, mine[0].detector_hash)
                lines.append(f"{store.uri(SPEC_FILE)} says now what was measured")
        except (OSError, UserError) as error:
            why = getattr(error, "strerror", None) or error
            lines.append(f"{store.uri(SPEC_FILE)} does not say what was measured: {why}")
    return lines


def _with(scope: Scope, one: Evaluation, calibration: str | None, date: str) -> Scope:
    if one.protocol != "clean" or one.axis or one.not_a_test:
        return scope
    for part, name in _parts(one):
        figures = _figures(part, one, calibration)
        if figures:
            scope = scope.with_measured(
                Measured(
                    name=name,
                    lists=one.annotations,
                    num_real=part.num_real if one.task == "origin" else None,
                    num_synthetic=part.num_synthetic,
                    figures=figures,
                    threshold=one.threshold if set(figures) & set(_AT_THRESHOLD) else None,
                    date=date,
                )
            )
    return scope


def _parts(one: Evaluation) -> Iterator[tuple[Slice, str]]:
    """The whole set; before it, and so read first, generators that training never saw."""
    yield one.whole, one.test_set
    unseen = one.slice("training", "held-out")
    if unseen:
        yield unseen, f"{one.test_set}, generators held out of training"


def _figures(part: Slice, one: Evaluation, calibration: str | None) -> dict[str, Quantity]:
    """The figures that have a value; those at a threshold only where it is the detector's own."""
    own = one.calibration_hash == calibration
    found = {}
    for name in _RECORDED:
        figure = part.figures.get(name)
        if figure and figure.value is not None and (own or name not in _AT_THRESHOLD):
            found[name] = Quantity(value=figure.value, low=figure.low, high=figure.high)
    return found
