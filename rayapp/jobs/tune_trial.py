"""A trial on a worker of Ray Tune. It imports little: workers start in seconds."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from ray import tune as raytune

from rayapp.config.errors import JobFailed
from rayapp.run.row_work import format_error
from rayapp.tune.goals import Figures, Goal
from rayapp.tune.trials.contract import OutOfTime, TrialContext, Work

EPOCH, FIGURES, SLICES, FACTS = "epoch", "figures", "slices", "facts"
# Keys of the last report of a trial.
FINAL, ERROR, OUT_OF_TIME = "final", "error", "out_of_time"


def run_trial(config: Mapping[str, Any], work: Work, goal: Goal, deadline: float) -> None:
    """One trial on Ray Tune: what it reaches is reported, what it raises becomes its reason."""
    reported = set(config["reported"])

    def report(epoch: int, figures: Figures) -> None:
        if epoch in reported:
            return
        with contextlib.suppress(JobFailed):  # a figure that only a whole detector has
            raytune.report({EPOCH: epoch, goal.names[0]: goal.values(figures)[0]})

    trial_context = TrialContext(config["number"], config["values"], report, deadline)
    try:
        outcome = work.run(trial_context)
    except OutOfTime:
        raytune.report({OUT_OF_TIME: True})
    except Exception as error:  # noqa: BLE001 - the trial is the unit of failure: any cause, named
        raytune.report({ERROR: format_error(error)})
    else:
        final = {
            FIGURES: dict(outcome.figures),
            SLICES: dict(outcome.slices),
            FACTS: dict(outcome.facts),
        }
        raytune.report({FINAL: json.dumps(final)})
