"""The searcher that Ray Tune asks: Optuna's study, gone on with trial by trial."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from rayapp.config.errors import JobFailed
from rayapp.jobs.tune_trial import EPOCH, ERROR, FINAL, OUT_OF_TIME
from rayapp.tune.goals import Goal
from rayapp.tune.settings import RECIPE, EarlyStopping
from rayapp.tune.space import Space
from rayapp.tune.study import FIGURES_ATTR, REASON, SECONDS, START_ATTR, Journal

_LOST = "its process or machine was lost, time and again"


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """OptunaSearch on a study that outlives it.

    It first hands out again the trials that an earlier search left running; then new ones, to the
    number that is wanted or until the deadline. Each is told to the study once: complete, stopped
    early, or failed with its reason; one that ran out of time stays as it is.
    """

    def __init__(
        self,
        journal: Journal,
        space: Space,
        goal: Goal,
        deadline: float,
        on_ended: Callable[[FrozenTrial], None],
    ) -> None:
        self._journal, self._drawn, self._goal = journal, space, goal
        self._deadline, self._on_ended = deadline, on_ended
        self._waiting = journal.cut_off()
        self._started: dict[str, float] = {}
        names = list(goal.names)
        modes = ["max" if up else "min" for up in goal.maximise]
        many = len(names) > 1
        super().__init__(
            space=lambda trial: None,
            metric=names if many else names[0],
            mode=modes if many else modes[0],
            storage=journal.study._storage,
            study_name=journal.study.study_name,
            sampler=journal.study.sampler,
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial: its number, values, what it reported before, whether it is the recipe."""
        if time.time() >= self._deadline:
            return str(Searcher.FINISHED)
        trial: Trial = self._waiting.pop(0) if self._waiting else self._ot_study.ask()
        self._ot_trials[trial_id] = trial
        self._started[trial_id] = time.time()
        values = self._drawn.draw(trial)
        self._journal.keep()
        return {
            "number": trial.number,
            "values": values,
            "reported": sorted(self._frozen(trial).intermediate_values),
            "is_recipe": trial.user_attrs.get(START_ATTR) == RECIPE,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record what a trial has reached at an epoch."""
        trial = self._ot_trials[trial_id]
        value = result.get(self._goal.names[0])
        if len(self._goal.names) > 1 or value is None or FINAL in result:
            return
        if result[EPOCH] not in self._frozen(trial).intermediate_values:
            trial.report(value, result[EPOCH])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how a trial ended."""
        trial, result = self._ot_trials[trial_id], result or {}
        if OUT_OF_TIME in result or trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        seconds = time.time() - self._started[trial_id]
        trial.set_user_attr(SECONDS, round(seconds, 3))
        if FINAL in result:
            self._tell_final(trial, json.loads(result[FINAL]))
        elif error or ERROR in result:
            self._fail(trial, result.get(ERROR, _LOST))
        else:
            self._ot_study.tell(trial, state=TrialState.PRUNED)
        self._journal.keep()
        self._on_ended(self._frozen(trial))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the record, and Ray Tune's own is never gone on from."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles what it is given, for a restore that never comes

    def _tell_final(self, trial: Trial, final: Mapping[str, Any]) -> None:
        try:
            values = self._goal.values(final[FIGURES_ATTR])
        except JobFailed as error:
            self._fail(trial, str(error))
            return
        for name, value in final.items():
            trial.set_user_attr(name, _finite(value))
        self._ot_study.tell(trial, list(values))

    def _fail(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)
        self._ot_study.tell(trial, state=TrialState.FAIL)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self._journal.trials[trial.number]


def _finite(value: Any) -> Any:
    """Without NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Past:
    """A trial of before, as far as a scheduler asks."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"past-{number}"
        self.config = {"is_recipe": False}


class _Asha(ASHAScheduler):  # type: ignore[misc]
    """ASHA that judges the recipe too, but never stops what all is compared with."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["is_recipe"] else action


def create_scheduler(
    settings: EarlyStopping, most_epochs: int, goal: Goal, journal: Journal
) -> ASHAScheduler:
    """ASHA that knows what the trials of before had reached at each of its looks."""
    name = goal.names[0]
    scheduler = _Asha(
        time_attr=EPOCH,
        metric=name,
        mode="max" if goal.maximise[0] else "min",
        max_t=max(most_epochs, settings.first_epochs),
        grace_period=settings.first_epochs,
        reduction_factor=settings.reduction,
        stop_last_trials=False,
    )
    for trial in journal.trials:
        past = _Past(trial.number)
        if trial.intermediate_values:
            scheduler.on_trial_add(None, past)
        for epoch, value in sorted(trial.intermediate_values.items()):
            scheduler.on_trial_result(None, past, {EPOCH: epoch, name: value})
    return scheduler
