"""Calibration trials: another fit to stored scores, no forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_lists
from rayapp.dataset.scores import read_matching, require_scores, select
from rayapp.tune.recipe import Recipe
from rayapp.tune.settings import TuneSettings
from rayapp.tune.trials.contract import Outcome, TrialContext
from rayapp.tune.trials.figures import Judged, calibration_figures


@dataclass(frozen=True)
class CalibrationWork:
    """Row of scores in memory; each trial is a fit and its figures."""

    recipe: Recipe
    judged: Judged
    scheme: LabelScheme

    def run(self, trial_context: TrialContext) -> Outcome:
        """Figures of one choice of calibration."""
        trial_context.check_time()
        choice = self.recipe.with_values(trial_context.values).calibrate_settings(
            "-", "-", "-", "-"
        )
        return Outcome(calibration_figures(self.judged, choice, self.scheme))

    def stopped(self, number: int) -> None:
        """Nothing is kept of a trial."""


def load_scored(settings: TuneSettings, detector_hash: str) -> Judged:
    """The calibration images' stored scores.

    Raises:
        UserError: no score table, or an image without a score by this detector.
    """
    assert settings.scores is not None
    require_scores([settings.scores])
    scheme = load_scheme(settings.scheme)
    items = [item for one in read_lists(settings.annotations, scheme) for item in one.items]
    paths = [item_id(item.path) for item in items]
    scored = read_matching([settings.scores], detector_hash, paths=paths)
    table = select(scored, items, scheme, ", ".join(settings.annotations))
    logits = table["logit"].to_numpy().astype(np.float64)
    codes = {c: table[c].to_numpy().astype(np.int64) for c in scheme.columns}
    groups: Sequence[str] = table["id"].to_pylist()
    if "group" in table.column_names and not table["group"].null_count:
        groups = table["group"].to_pylist()
    fit = np.ones(len(logits), dtype=bool)
    return Judged(codes, logits, np.asarray(groups, dtype=np.str_), fit)
