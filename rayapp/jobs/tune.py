"""The search on Ray Tune: trials side by side, gone on with after any kill, within its hours."""

import os
import time

# Read by Ray Tune. The study keeps all that its loggers and checkpoints would; Ctrl-C is ours.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its banner
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "86400")
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")

from optuna.trial import FrozenTrial, TrialState
from ray import tune as raytune

from rayapp.cluster.capacity import require
from rayapp.cluster.session import session
from rayapp.config import clock
from rayapp.config.errors import JobFailed
from rayapp.jobs.tune_comparison import compare, training_on_ray
from rayapp.jobs.tune_search import StudySearch, create_scheduler
from rayapp.jobs.tune_trial import run_trial
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.storage.disk import scratch_folder
from rayapp.tune.results import BEST_FILE, TRIALS_FILE, best_trial, counts, write_results
from rayapp.tune.search_plan import SearchPlan, make_search_plan
from rayapp.tune.settings import TuneSettings
from rayapp.tune.study import REASON, STUDY_FILE, Journal, NumberedSampler, open_study
from rayapp.tune.trials.contract import Work
from rayapp.tune.tune_page import PAGE_FILE

_PLACEMENT = frozenset(
    {
        "trials",
        "hours",
        "compare",
        "num_trials_at_once",
        "cpus_per_trial",
        "gpus_per_trial",
        "driver_resource",
        "retries",
    }
)
_LAST_S = 4.0  # what is left of the hours for the results
_LAST_SHARE = 0.01


def tune(settings: TuneSettings) -> record.Run:
    """Search, or go on with it; best.yaml, trials.parquet and tune.html under the output.

    The hours count from the command's start: its imports take seconds of them too.

    Raises:
        UserError: a space or settings that can't be, or an output that belongs to another run.
        JobFailed: not one trial came to its end.
    """
    started = time.time() - (time.monotonic() - clock.since())
    search_plan = make_search_plan(settings)
    run = record.start(
        "tune",
        settings,
        search_plan.inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=_PLACEMENT,
    )
    if run.state == "done" and _nothing_left(run, settings):
        return run
    with session(settings):
        require(trial_bundle(settings, search_plan), "a trial", settings.wait_s)
        run.claim()
        search_plan.write_folds(run.store)
        with open_study(run.store, search_plan.goal, NumberedSampler(settings)) as journal:
            if len(journal.finished) < settings.trials:
                work = _work(settings, search_plan, run)
                search(settings, search_plan, journal, work, _deadline(settings, started))
            if best_trial(journal, search_plan.goal) is None:
                raise JobFailed(_why_none(journal))
            if settings.compare or settings.kind == "calibrate":
                compare(settings, search_plan, journal, run.store)
            results = write_results(settings, search_plan, journal, run.store)
            results["compared"] = settings.compare
            made = (BEST_FILE, TRIALS_FILE, PAGE_FILE, STUDY_FILE)
            run.finish(counts(journal, settings.trials), results, made=made)
    return run


def _deadline(settings: TuneSettings, started: float) -> float:
    """When the search ends, so that its results are written within the hours."""
    if settings.hours is None:
        return float("inf")
    seconds = 3600 * settings.hours
    return started + seconds - max(_LAST_S, _LAST_SHARE * seconds)


def _work(settings: TuneSettings, search_plan: SearchPlan, run: record.Run) -> Work:
    if settings.kind == "calibrate":
        return search_plan.calibrating()
    return training_on_ray(search_plan, run.store)


def _nothing_left(run: record.Run, settings: TuneSettings) -> bool:
    """Whether a finished search has the trials and the comparison that are wanted now."""
    enough = run.counts["trials"] >= settings.trials
    return enough and settings.compare in (0, run.results["compared"])


def _why_none(journal: Journal) -> str:
    failed = [t for t in journal.finished if t.state == TrialState.FAIL]
    if not failed:
        return "no trial came to its end in the time given; the same command goes on"
    return f"all of {len(failed)} trials failed; first: {failed[0].user_attrs.get(REASON)}"


def trial_bundle(settings: TuneSettings, search_plan: SearchPlan) -> dict[str, float]:
    """What Ray counts of one trial: its own work, or the driver of its Ray Train workers."""
    if search_plan.num_workers:
        driver = settings.driver_resource
        return {driver: 1.0} if driver else {"CPU": 0.01}
    bundle = {"CPU": settings.cpus_per_trial, "GPU": settings.gpus_per_trial}
    return {name: value for name, value in bundle.items() if value}


def search(
    settings: TuneSettings, search_plan: SearchPlan, journal: Journal, work: Work, deadline: float
) -> None:
    """Run the trials that the study still lacks."""
    goal = search_plan.goal
    journal.enqueue(search_plan.points)
    journal.keep()
    left = settings.trials - len(journal.finished)
    with Progress("tune", settings.trials, unit="trials") as progress:
        progress.skip(settings.trials - left)

        def on_ended(trial: FrozenTrial) -> None:
            if trial.state != TrialState.COMPLETE:
                work.stopped(trial.number)
            failed = trial.state == TrialState.FAIL
            best = best_trial(journal, goal)
            note = f"best {goal.names[0]} {best.values[0]:.4f}" if best else None
            progress.update(1, int(failed), note)

        searcher = StudySearch(journal, search_plan.space, goal, deadline, on_ended)
        scheduler = None
        if settings.early_stopping:
            scheduler = create_scheduler(
                settings.early_stopping, search_plan.most_epochs, goal, journal
            )
        trainable = raytune.with_parameters(run_trial, work=work, goal=goal, deadline=deadline)
        bundles = raytune.PlacementGroupFactory([trial_bundle(settings, search_plan)])
        with scratch_folder() as folder:  # Ray Tune's own files, not needed afterwards
            raytune.Tuner(
                raytune.with_resources(trainable, bundles),
                tune_config=raytune.TuneConfig(
                    num_samples=left,
                    search_alg=searcher,
                    scheduler=scheduler,
                    max_concurrent_trials=settings.num_trials_at_once,
                    reuse_actors=True,
                ),
                run_config=raytune.RunConfig(
                    name="trials",
                    storage_path=folder,
                    verbose=0,
                    failure_config=raytune.FailureConfig(max_failures=settings.retries),
                ),
            ).fit()
