"""The study: Optuna's record of all trials, from which a search goes on after any kill.

The journal file is the truth. Nothing else decides which trials are done, which were cut off, and
what the next one is; Ray Tune only runs them. The file is one that Optuna's own tools open.
"""

import contextlib
import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from rayapp.config.errors import UserError
from rayapp.storage.disk import naming, scratch_folder
from rayapp.storage.store import LocalStore, Store
from rayapp.tune.goals import Goal
from rayapp.tune.settings import TuneSettings

STUDY_FILE = "study.log"
STUDY_NAME = "tune"
REASON, FIGURES_ATTR, START_ATTR, SECONDS = "reason", "figures", "starting_point", "seconds"
_POPULATION = 20  # of NSGA-II: small enough for studies of a hundred trials
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _NoLock:
    """The whole file is locked as long as it is open, and no kill can leave that lock behind."""

    def acquire(self) -> bool:
        """It is ours already."""
        return True

    def release(self) -> None:
        """It stays ours."""


@dataclass
class Journal:
    """The open study and where its file is kept; `keep` is called after what must not be lost."""

    study: Study
    path: Path
    store: Store

    def keep(self) -> None:
        """Bring the file to the store, where it does not lie there already."""
        if not isinstance(self.store, LocalStore):
            self.store.put(STUDY_FILE, self.path.read_bytes())

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        return list(self.study.get_trials(deepcopy=False))

    @property
    def finished(self) -> list[FrozenTrial]:
        """Those that are through, for better or worse."""
        return [trial for trial in self.trials if trial.state in FINISHED]

    def cut_off(self) -> list[Trial]:
        """Trials that were running when an earlier search ended; they are to be gone on with."""
        running = [t for t in self.trials if t.state == TrialState.RUNNING]
        return [Trial(self.study, trial._trial_id) for trial in running]

    def enqueue(self, points: Mapping[str, Mapping[str, Any]]) -> None:
        """Put the starting points in front, each once, however often this is called."""
        there = {trial.user_attrs.get(START_ATTR) for trial in self.trials}
        for name, point in points.items():
            if name not in there:
                self.study.enqueue_trial(dict(point), user_attrs={START_ATTR: name})


@contextlib.contextmanager
def open_study(store: Store, goal: Goal, sampler: BaseSampler) -> Iterator[Journal]:
    """The study under an output, new or as it was left.

    Raises:
        UserError: another search has it open.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(store, LocalStore):
            path = Path(store.uri(STUDY_FILE))
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            folder = stack.enter_context(scratch_folder())
            path = Path(folder, STUDY_FILE)
            with contextlib.suppress(FileNotFoundError):
                path.write_bytes(store.get(STUDY_FILE))
        stack.enter_context(naming(path))
        lock = stack.enter_context(path.open("ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{store.uri(STUDY_FILE)}: another search works on it") from None
        _cut_torn_line(path)
        journal = JournalStorage(JournalFileBackend(os.fspath(path), lock_obj=_NoLock()))
        study = optuna.create_study(
            storage=journal,
            sampler=sampler,
            pruner=optuna.pruners.NopPruner(),
            study_name=STUDY_NAME,
            directions=["maximize" if up else "minimize" for up in goal.maximise],
            load_if_exists=True,
        )
        if len(goal.names) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(goal.names))
        yield Journal(study, path, store)


def _cut_torn_line(path: Path) -> None:
    """A kill may leave half a line at the end; it never happened."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


class NumberedSampler(BaseSampler):  # type: ignore[misc]
    """A sampler that is new for each trial, seeded by (seed, number of the trial).

    A search that goes on after a kill so draws what it would have drawn without.
    """

    def __init__(self, settings: TuneSettings) -> None:
        self._settings = settings
        self._inner = self._create(0)

    def _create(self, number: int) -> BaseSampler:
        settings = self._settings
        digest = hashlib.sha256(f"{settings.seed}\0trial\0{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "little")
        if settings.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if settings.sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
        if settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        # Field by field: in spaces with conditions and choices the multivariate form, Optuna's
        # default, stays with a wrong choice more often.
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=False, constant_liar=settings.num_trials_at_once > 1
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take this trial's sampler."""
        self._inner = self._create(trial.number)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The inner sampler's."""
        return dict(self._inner.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The inner sampler's."""
        return dict(self._inner.sample_relative(study, trial, search_space))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The inner sampler's."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """The inner sampler's."""
        self._inner.after_trial(study, trial, state, values)
