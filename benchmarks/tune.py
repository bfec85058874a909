"""How well and how fast the search finds: a planted optimum, calibration, trials a second.

`python -m benchmarks.tune [--quick]`: a table, and on the last line the figures as JSON:
`beats_random_of_10`, `nll_gap` and `calibration_trials_per_s`.
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayapp.cluster.session import session
from rayapp.config.settings import JobSettings
from rayapp.dataset.labels import load_scheme
from rayapp.jobs.tune import search
from rayapp.metrics.probability import log_losses
from rayapp.models.calibration import calibrators
from rayapp.storage.store import LocalStore
from rayapp.tune.goals import Goal
from rayapp.tune.recipe import Recipe
from rayapp.tune.search_plan import SearchPlan
from rayapp.tune.settings import Dimension, TuneSettings
from rayapp.tune.space import Space
from rayapp.tune.study import NumberedSampler, open_study
from rayapp.tune.trials.calibration import CalibrationWork
from rayapp.tune.trials.contract import Outcome, TrialContext, Work
from rayapp.tune.trials.figures import Judged, calibration_figures

# Where the planted optimum lies, in a space of six fields of four kinds.
_OPTIMUM = {"a": 0.31, "b": 3e-3, "c": 42, "d": "middle", "e": 0.77, "f": 0.12}
_PLANTED = {
    "a": {"uniform": [-1.0, 1.0]},
    "b": {"log_uniform": [1e-5, 1e-1]},
    "c": {"integer": [0, 64]},
    "d": {"choice": ["left", "middle", "right"]},
    "e": {"uniform": [0.0, 1.0], "when": {"d": ["middle", "right"]}},
    "f": {"uniform": [-0.5, 1.5]},
}
_CALIBRATION = {
    "calibrate.method": {"choice": ["temperature", "platt", "bias", "beta", "isotonic"]},
    "calibrate.temperature": {
        "log_uniform": [0.05, 20.0],
        "when": {"calibrate.method": "temperature"},
    },
}


@dataclass(frozen=True)
class PlantedWork:
    """A bowl around the planted optimum; every field counts."""

    def run(self, trial_context: TrialContext) -> Outcome:
        """Its height, as the NLL that is to be small."""
        values = trial_context.values
        height = (values["a"] - 0.31) ** 2 + (values["f"] - 0.12) ** 2 / 4
        height += (math.log10(values["b"] / 3e-3) / 4) ** 2 + ((values["c"] - 42) / 64) ** 2
        height += {"left": 0.4, "middle": 0.0, "right": 0.2}[values["d"]]
        height += (values.get("e", 0.0) - 0.77) ** 2
        return Outcome({"nll": height})

    def stopped(self, number: int) -> None:
        """Nothing is kept of a trial."""


def _settings(space: Mapping[str, Any], **changes: Any) -> TuneSettings:
    return TuneSettings(
        output="-",
        kind="calibrate",
        space={name: Dimension(**one) for name, one in space.items()},
        objectives={"nll": 1.0},
        annotations=("-",),
        detector="-",
        scores="-",
        **changes,
    )


def _search(settings: TuneSettings, work: Work, recipe: Recipe) -> tuple[float, list[float]]:
    """The best value of a study, and the best so far by trial."""
    space, goal = Space(settings.space), Goal(settings.objectives)
    search_plan = SearchPlan(settings, recipe, space, goal, {}, {}, load_scheme("imaginet"))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_study(LocalStore(folder), goal, NumberedSampler(settings)) as journal,
    ):
        search(settings, search_plan, journal, work, float("inf"))
        values = [trial.values[0] for trial in journal.trials]
    assert len(values) == settings.trials
    return min(values), list(np.minimum.accumulate(values))


def planted(num_seeds: int, trials: int) -> tuple[int, list[tuple[float, float]]]:
    """In how many of the seeds TPE ends below random search of the same number of trials."""
    recipe, pairs = Recipe({}), []
    for seed in range(num_seeds):
        found = [
            _search(
                _settings(_PLANTED, trials=trials, sampler=sampler, seed=seed),
                PlantedWork(),
                recipe,
            )[0]
            for sampler in ("tpe", "random")
        ]
        pairs.append((found[0], found[1]))
    return sum(tpe < random for tpe, random in pairs), pairs


def scores(num_images: int, seed: int) -> Judged:
    """Logits that are twice too steep, as of an overconfident detector."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num_images)
    # Equal variance σ² and means ±σ²/2 make z the log-odds; here it is scaled by 2.
    logits = 2.0 * (2.5 * (labels - 0.5) + np.sqrt(2.5) * rng.standard_normal(num_images))
    codes = {name: labels if name == "origin" else labels * 0 for name in ("origin", "content")}
    groups = np.arange(num_images).astype(np.str_)
    return Judged(codes, logits, groups, np.ones(num_images, dtype=bool))


def calibration(trials: int, seed: int, num_images: int) -> tuple[float, float]:
    """How far a search is above the best closed-form fit, and its trials a second."""
    judged, scheme = scores(num_images, seed), load_scheme("imaginet")
    fields = {"method": "platt", "temperature": None, "fpr": None, "band_error": 0.05}
    recipe = Recipe({"calibrate": fields})
    settings = _settings(_CALIBRATION, trials=trials, seed=seed, num_trials_at_once=2)
    started = time.monotonic()
    best, _ = _search(settings, CalibrationWork(recipe, judged, scheme), recipe)
    rate = trials / (time.monotonic() - started)
    fit = calibrators.fit("temperature", judged.logits_N, judged.labels_N, smooth=False)
    closed = [float(log_losses(judged.labels_N, fit.apply(judged.logits_N)).mean())]
    for method in ("platt", "bias", "beta", "isotonic"):
        choice = recipe.with_values({"calibrate.method": method})
        figures = calibration_figures(judged, choice.calibrate_settings("-", "-", "-", "-"), scheme)
        closed.append(figures["nll"] or math.inf)
    return best - min(closed), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and trials: a minute")
    quick = parser.parse_args().quick
    num_seeds, trials, many = (2, 40, 60) if quick else (10, 100, 500)
    with session(JobSettings(output="-")):
        wins, pairs = planted(num_seeds, trials)
        gap, _ = calibration(60, 1, 2000)
        _, rate = calibration(many, 2, 2000)
    print(f"{'seed':>4} {'TPE':>10} {'random':>10}   {trials} trials, planted optimum at 0")
    for seed, (tpe, random) in enumerate(pairs):
        print(f"{seed:>4} {tpe:>10.5f} {random:>10.5f}")
    print(f"TPE below random search in {wins} of {num_seeds} seeds")
    print(f"NLL above the best closed form after 60 trials: {gap:.6f}")
    print(f"{many} calibration trials: {rate:.2f} a second, {many / rate:.0f} s")
    figures = {
        "beats_random_of_10": wins * 10 // num_seeds,
        "nll_gap": round(gap, 6),
        "calibration_trials_per_s": round(rate, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
