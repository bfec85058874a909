"""Best against the recipe: both trained anew with new seeds on every fold, on Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from rayapp.cluster.session import as_completed, session
from rayapp.config.errors import JobFailed, UserError
from rayapp.jobs.train import train
from rayapp.metrics.bootstrap import compare_figures
from rayapp.metrics.probability import log_losses
from rayapp.run.progress import Progress
from rayapp.run.row_work import format_error
from rayapp.storage.uris import open_store
from rayapp.transforms.draws import generator
from rayapp.tune.comparison_verdict import COMPARISON_FILE, Pair, Verdict, verdict_over_seeds
from rayapp.tune.goals import FIGURES
from rayapp.tune.recipe import TRAIN
from rayapp.tune.results import best_trial
from rayapp.tune.settings import RECIPE
from rayapp.tune.trials.figures import cross_fitted

if TYPE_CHECKING:
    from rayapp.storage.store import Store
    from rayapp.tune.recipe import Recipe
    from rayapp.tune.search_plan import SearchPlan
    from rayapp.tune.settings import TuneSettings
    from rayapp.tune.study import Journal
    from rayapp.tune.trials.training import TrainingWork

BEST = "best"


def compare(
    settings: TuneSettings, search_plan: SearchPlan, journal: Journal, store: Store
) -> None:
    """Write comparison.json of the best trial; training that was done before is not done again.

    Raises:
        JobFailed: a training run failed.
    """
    best = best_trial(journal, search_plan.goal)
    assert best is not None
    recipes = {
        BEST: search_plan.recipe.with_values(search_plan.space.values(best.params)),
        RECIPE: search_plan.recipe,
    }
    if settings.kind == "calibrate":
        verdict = _calibrations(settings, search_plan, best.number, recipes)
    else:
        verdict = _trained(settings, search_plan, best.number, recipes, store)
    verdict = verdict.model_copy(update={"recipe": settings.recipe_name})
    store.put(COMPARISON_FILE, verdict.model_dump_json(indent=1).encode())


def training_on_ray(search_plan: SearchPlan, store: Store) -> TrainingWork:
    """What a training trial does; by Ray Train, where the recipe has workers."""
    return replace(
        search_plan.training(store), on_workers=train if search_plan.num_workers else None
    )


def _calibrations(
    settings: TuneSettings, search_plan: SearchPlan, best: int, recipes: dict[str, Recipe]
) -> Verdict:
    """Both fits on the same images, photographs resampled."""
    judged = search_plan.judged
    assert judged is not None
    figure = (
        "brier" if "nll" not in settings.objectives and "brier" in settings.objectives else "nll"
    )
    pairs = []
    for recipe in (recipes[BEST], recipes[RECIPE]):
        choice = recipe.calibrate_settings("-", "-", "-", "-")
        pairs.append((judged.logits_N, cross_fitted(judged, choice)[0]))
    draws = generator(settings.seed, "bootstrap", "comparison")
    labels, groups = judged.labels_N, judged.groups_N
    found = compare_figures(labels, pairs[0], pairs[1], draws, groups)[figure]
    losses = [_loss(figure, labels, probabilities) for _, probabilities in pairs]
    return Verdict(
        best=best,
        figure=FIGURES[figure].title,
        higher_is_better=False,
        best_values=(losses[0],),
        recipe_values=(losses[1],),
        difference=losses[0] - losses[1],
        low=found.low,
        high=found.high,
        resampled=found.reason or f"{found.num_groups} photographs",
    )


def _loss(figure: str, labels_N: Any, probabilities_N: Any) -> float:
    if figure == "brier":
        return float(np.mean((probabilities_N - labels_N) ** 2))
    return float(log_losses(labels_N, probabilities_N).mean())


def _trained(
    settings: TuneSettings,
    search_plan: SearchPlan,
    best: int,
    recipes: dict[str, Recipe],
    store: Store,
) -> Verdict:
    work = training_on_ray(search_plan, store)
    seeds = [settings.seed + 1 + k for k in range(settings.compare)]
    folders = {
        (name, seed, fold.name): f"comparison/trial-{best:04d}/{name}-{seed}/{fold.name}"
        if name == BEST
        else f"comparison/{name}-{seed}/{fold.name}"
        for fold in work.folds
        for seed in seeds
        for name in recipes
    }
    _train_all(settings, work, recipes, folders)
    found = {key: json.loads(store.get(f"{at}/result.json")) for key, at in folders.items()}
    pairs = []
    for fold in work.folds:
        first = found[BEST, seeds[0], fold.name]
        logits = {
            name: np.array([found[name, seed, fold.name]["logits"] for seed in seeds])
            for name in recipes
        }
        pairs.append(
            Pair(
                np.array(first["labels"]),
                np.array(first["groups"], dtype=np.str_),
                logits[BEST],
                logits[RECIPE],
            )
        )
    slices = {name: _mean_slices(found, name, seeds, work) for name in (RECIPE, BEST)}
    title = FIGURES["held_out_roc_auc"].title
    return verdict_over_seeds(best, title, pairs, settings.seed, slices)


def _mean_slices(
    found: dict[Any, Any], name: str, seeds: list[int], work: TrainingWork
) -> dict[str, float]:
    """ROC AUC of each slice of each fold, the mean over seeds."""
    means = {}
    for fold in work.folds:
        each = [found[name, seed, fold.name]["slices"] for seed in seeds]
        for slice_name in each[0]:
            values = [one[slice_name] for one in each]
            means[f"{fold.left_out} held out · {slice_name}"] = float(np.mean(values))
    return means


def _train_all(
    settings: TuneSettings,
    work: TrainingWork,
    recipes: dict[str, Recipe],
    folders: dict[tuple[str, int, str], str],
) -> None:
    store = open_store(work.output)
    folds = {fold.name: fold for fold in work.folds}
    todo = [key for key, at in folders.items() if store.stat(f"{at}/result.json") is None]
    with Progress("compare", len(folders), unit="runs") as progress:
        progress.skip(len(folders) - len(todo))
        if not todo:
            return
        with session(settings):
            workers = int(recipes[RECIPE].value(f"{TRAIN}.num_workers"))
            task = ray.remote(
                num_cpus=0.01 if workers else settings.cpus_per_trial,
                num_gpus=0 if workers else settings.gpus_per_trial,
                max_retries=settings.retries,
            )(_train_one)
            pending = {}
            shared = ray.put(work)
            for name, seed, fold in todo:
                recipe = recipes[name].with_values({f"{TRAIN}.seed": seed})
                at = folders[name, seed, fold]
                pending[task.remote(shared, recipe, folds[fold], at)] = at
            for _, fault in as_completed(pending):
                if fault:
                    raise JobFailed(f"compare: {fault}")
                progress.update()


def _train_one(work: TrainingWork, recipe: Recipe, fold: Any, folder: str) -> str:
    """One training run; why it failed, or nothing."""
    try:
        work.compared(recipe, fold, folder)
    except (UserError, JobFailed) as error:
        return format_error(error)
    return ""
