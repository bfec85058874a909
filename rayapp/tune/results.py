"""What a search leaves behind: best.yaml, trials.parquet and tune.html."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from optuna.trial import FrozenTrial, TrialState

from rayapp.dataset import manifest
from rayapp.tune.comparison_verdict import COMPARISON_FILE, Verdict
from rayapp.tune.folds import HEAD_LIST, JUDGE_LIST, TRAIN_LIST
from rayapp.tune.goals import FIGURES, front
from rayapp.tune.study import FIGURES_ATTR, REASON, SECONDS, START_ATTR
from rayapp.tune.tune_page import PAGE_FILE, page

if TYPE_CHECKING:
    from rayapp.storage.store import Store
    from rayapp.train.settings import TrainSettings
    from rayapp.tune.goals import Goal
    from rayapp.tune.search_plan import SearchPlan
    from rayapp.tune.settings import TuneSettings
    from rayapp.tune.study import Journal

BEST_FILE, TRIALS_FILE = "best.yaml", "trials.parquet"
BEST_FOLDER = "best"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "cut off",
    TrialState.WAITING: "waiting",
}


def best_trial(journal: Journal, goal: Goal) -> FrozenTrial | None:
    """The best trial that came to its end; of a Pareto front the one with the best first value."""
    best: FrozenTrial | None = None
    for trial in complete(journal):
        if best is None or goal.better(trial.values, best.values):
            best = trial
    return best


def complete(journal: Journal) -> list[FrozenTrial]:
    """The trials that came to their end."""
    return [trial for trial in journal.trials if trial.state == TrialState.COMPLETE]


def counts(journal: Journal, wanted: int) -> dict[str, int]:
    """How many trials ended which way; what was cut off or never begun is `left`."""
    states = [trial.state for trial in journal.finished]
    found = {
        "trials": len(states),
        **{_STATES[s]: states.count(s) for s in (TrialState.COMPLETE, TrialState.PRUNED)},
        "failed": states.count(TrialState.FAIL),
    }
    return found | {"left": max(0, wanted - len(states))}


def write_results(
    settings: TuneSettings, search_plan: SearchPlan, journal: Journal, store: Store
) -> dict[str, Any]:
    """Write the files; what run.json keeps of them.

    The caller has seen to it that there is a best trial.
    """
    best = best_trial(journal, search_plan.goal)
    assert best is not None
    values = search_plan.space.values(best.params)
    store.put(BEST_FILE, _best_yaml(settings, search_plan, best, values, store).encode())
    manifest.write_table(store, TRIALS_FILE, _table(search_plan, journal))
    verdict = _verdict(store, best.number)
    html = page(settings, search_plan, journal, best, verdict).html()
    store.put(PAGE_FILE, html.encode())
    reasons = [t.user_attrs.get(REASON, "") for t in journal.finished if t.state == TrialState.FAIL]
    return {
        "best": best.number,
        "values": dict(zip(search_plan.goal.names, best.values, strict=True)),
        "found": values,
        "figures": best.user_attrs[FIGURES_ATTR],
        "verdict": verdict.line if verdict else "",
        "first_failure": reasons[0] if reasons else "",
    }


def _verdict(store: Store, best: int) -> Verdict | None:
    """The comparison of this very trial, where there is one."""
    try:
        verdict = Verdict.model_validate_json(store.get(COMPARISON_FILE))
    except FileNotFoundError:
        return None
    return verdict if verdict.best == best else None


def _table(search_plan: SearchPlan, journal: Journal) -> pa.Table:
    """One row a trial: how it ended, its figures, and its values as JSON where they are lists."""
    done = complete(journal)
    best = {done[at].number for at in front([t.values for t in done], search_plan.goal.maximise)}
    rows = []
    for trial in journal.trials:
        figures = trial.user_attrs.get(FIGURES_ATTR, {})
        rows.append(
            {
                "number": trial.number,
                "state": _STATES[trial.state],
                "reason": trial.user_attrs.get(REASON),
                "starting_point": trial.user_attrs.get(START_ATTR),
                "on_front": trial.number in best,
                "seconds": trial.user_attrs.get(SECONDS),
                "epochs": max(trial.intermediate_values, default=None)
                if trial.state != TrialState.COMPLETE
                else trial.user_attrs.get("facts", {}).get("epochs"),
                **{
                    f"value/{n}": v
                    for n, v in zip(search_plan.goal.names, trial.values or (), strict=False)
                },
                **{name: figures.get(name) for name in FIGURES},
                **{path: trial.params.get(path) for path in search_plan.space.dimensions},
            }
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 and kinds != {int, float}:
        values = [None if value is None else json.dumps(value) for value in values]
    if not kinds:
        return pa.array(values, pa.float64())
    return pa.array(values, from_pandas=False)


def _best_yaml(
    settings: TuneSettings,
    search_plan: SearchPlan,
    best: FrozenTrial,
    values: Mapping[str, Any],
    store: Store,
) -> str:
    recipe = search_plan.recipe.with_values(values)
    output = store.uri(BEST_FOLDER)
    found: Any
    if settings.kind == "calibrate":
        lists = settings.annotations[0]
        found = recipe.calibrate_settings(
            settings.detector or "", settings.scores or "", lists, output
        ).model_copy(update={"scheme": settings.scheme})
    else:
        found = recipe.train_settings(
            store,
            annotations=settings.annotations,
            head_annotations=settings.head_annotations,
            root=settings.root or "",
            scheme=settings.scheme,
            output=output,
        )
    content = found.model_dump(mode="json", exclude_defaults=True)
    figures = best.user_attrs[FIGURES_ATTR]
    named = ", ".join(f"{name} {figures[name]:.6g}" for name in search_plan.goal.weights)
    job = "train" if settings.kind == "train" else "calibrate"
    lines = [
        f"Trial {best.number} of the search in {store.uri()}: {named}.",
        f"Command: imaginet {job} --config {store.uri(BEST_FILE)}",
        *([] if settings.kind == "calibrate" else ["", *_recheck(found, best, search_plan, store)]),
    ]
    head = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _recheck(
    found: TrainSettings, best: FrozenTrial, search_plan: SearchPlan, store: Store
) -> list[str]:
    """The commands that give the first fold's figure once more."""
    fold = search_plan.folds[0]
    auc = best.user_attrs["facts"]["folds"][fold.left_out]
    check = store.uri("check")
    head = f" --head-annotations {fold.list_uri(HEAD_LIST)}" if found.head_annotations else ""
    held = f"--held-out {shlex.quote(fold.left_out)}"
    if not fold.held_out:  # a source of reals, which the manifest under the root names
        held = f"--leave-out source --root {found.root}"
    return [
        "It trains on the whole list; trials train without what a fold leaves out. To see once",
        f"more the ROC AUC on {fold.left_out}, never trained on, of {auc:.4f} (its slice "
        "`held-out`):",
        f"imaginet train --config {store.uri(BEST_FILE)} "
        f"--annotations {fold.list_uri(TRAIN_LIST)}{head} --output {check}/train",
        f"imaginet predict --detector {check}/train/detector "
        f"--input {fold.list_uri(JUDGE_LIST)} --root {found.root} --scheme {found.scheme} "
        f"--output {check}/scores",
        f"imaginet evaluate --detector {check}/train/detector --scores {check}/scores "
        f"--annotations {fold.list_uri(JUDGE_LIST)} --scheme {found.scheme} "
        f"{held} --output {check}/evaluation",
    ]
