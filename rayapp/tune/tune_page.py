"""tune.html: what was found, how the search went, what mattered, and whether it is real."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from rayapp.config.defaults import __version__
from rayapp.metrics.measure import Measure
from rayapp.pages.blocks import (
    Commands,
    Figures,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Prose,
    Table,
)
from rayapp.pages.charts import slices_figure
from rayapp.pages.page import Page, Section
from rayapp.pages.searches import (
    AxisScale,
    Trial,
    front_figure,
    history_figure,
    importance_figure,
    parallel_figure,
)
from rayapp.run.fingerprint import versions
from rayapp.run.record import duration
from rayapp.tune.goals import FIGURES, TIMED, front, title
from rayapp.tune.settings import RECIPE
from rayapp.tune.study import FIGURES_ATTR, REASON, SECONDS, START_ATTR, STUDY_FILE

if TYPE_CHECKING:
    from rayapp.pages.blocks import Block, Value
    from rayapp.tune.comparison_verdict import Verdict
    from rayapp.tune.search_plan import SearchPlan
    from rayapp.tune.settings import TuneSettings
    from rayapp.tune.study import Journal

PAGE_FILE = "tune.html"
_MOST_AXES = 8
_MOST_ROWS = 200
_FOR_IMPORTANCE = 8  # trials, at least


class _Search:
    """The trials of a study as the page shows them."""

    def __init__(
        self, settings: TuneSettings, search_plan: SearchPlan, journal: Journal, best: FrozenTrial
    ) -> None:
        self.recipe_name = settings.recipe_name
        self.search_plan, self.best, self.goal = search_plan, best, search_plan.goal
        by_state: dict[TrialState, list[FrozenTrial]] = {state: [] for state in TrialState}
        for trial in journal.trials:
            by_state[trial.state].append(trial)
        self.done = by_state[TrialState.COMPLETE]
        self.stopped = by_state[TrialState.PRUNED]
        self.failed = by_state[TrialState.FAIL]
        self.study = journal.study
        points = [trial.values for trial in self.done]
        self.front = front(points, self.goal.maximise)

    @property
    def recipe(self) -> FrozenTrial | None:
        """The recipe's own trial, where it came to its end."""
        named = (t for t in self.done if t.user_attrs.get(START_ATTR) == RECIPE)
        return next(named, None)

    def drawn(self) -> list[Trial]:
        """The trials that came to their end."""
        space = self.search_plan.space
        return [
            Trial(t.number, t.values[0], {k: _short(v) for k, v in space.values(t.params).items()})
            for t in self.done
        ]

    def importance(self) -> dict[str, float]:
        """Share of each field; empty where there are too few trials, or all agree."""
        values = [trial.values[0] for trial in self.done]
        if len(values) < _FOR_IMPORTANCE or np.ptp(values) == 0:
            return {}
        sign = -1 if self.goal.maximise[0] else 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a low target is what counts: it is
            found = optuna.importance.get_param_importances(
                self.study, target=lambda trial: sign * trial.values[0]
            )
        return dict(found)


def _short(value: Any) -> Any:
    """Lists and mappings as text."""
    return value if isinstance(value, int | float | str) else json.dumps(value)


def page(
    settings: TuneSettings,
    search_plan: SearchPlan,
    journal: Journal,
    best: FrozenTrial,
    verdict: Verdict | None,
) -> Page:
    """The page of a search that has a best trial."""
    search = _Search(settings, search_plan, journal, best)
    sections = [
        Section("Result", _result(search, verdict, settings)),
        Section("How the search went", _history(search)),
        Section("Values", _values(search)),
    ]
    if len(search.goal.names) > 1:
        sections.append(Section("Pareto front", _fronts(search)))
    slices = _slices(search, verdict)
    if slices:
        sections.append(Section("By slice", slices))
    sections += [
        Section("Every trial", _trials(search)),
        Section("What was run", _provenance(settings, search, journal)),
    ]
    what = "training" if settings.kind == "train" else "calibration"
    return Page(
        title=f"Search over {what}",
        summary=_summary(search, verdict),
        sections=sections,
        kicker="AI-generated or real",
        footer=f"imaginet-ray {__version__}",
    )


def _summary(search: _Search, verdict: Verdict | None) -> str:
    named = [
        f"{title(name)} {value:.4f}"
        for name, value in zip(search.goal.names, search.best.values, strict=True)
    ]
    text = (
        f"The best of {len(search.done)} trials, number {search.best.number}: {', '.join(named)}."
    )
    figures = search.best.user_attrs[FIGURES_ATTR]
    if any(_runs_against(name, figures.get(name)) for name in search.goal.weights):
        text += f" A ROC AUC {_AGAINST}."
    return f"{text} {verdict.line}." if verdict else text


_AGAINST = "below 0.5: scores run against the labels"


def _runs_against(figure: str, value: float | None) -> bool:
    """Whether it is an area under the ROC curve that a reversed detector would better."""
    return figure.endswith("roc_auc") and value is not None and value < 0.5


def _result(search: _Search, verdict: Verdict | None, settings: TuneSettings) -> list[Block]:
    items = []
    figures = search.best.user_attrs[FIGURES_ATTR]
    old = search.recipe.user_attrs[FIGURES_ATTR] if search.recipe else {}
    wanted = [name for name in FIGURES if figures.get(name) is not None]
    wanted.sort(key=lambda name: name not in search.goal.weights)
    for name in wanted[:6]:
        before = old.get(name)
        remarks = [f"{search.recipe_name}: {before:.4f}"] if before is not None else []
        remarks += [_AGAINST] if _runs_against(name, figures[name]) else []
        spec = ".1f" if name in TIMED else ".4f"
        items.append(Highlight(title(name), figures[name], "; ".join(remarks), format=spec))
    blocks: list[Block] = [Highlights(items)]
    if verdict:
        blocks.append(Notice(verdict.line, "note" if verdict.real else "warning"))
    elif settings.kind == "train":
        blocks.append(
            Notice(
                "One training run of each recipe tells little: run the search again with "
                "`--compare 3` to train best and recipe with new seeds.",
                "warning",
            )
        )
    if settings.kind == "train":
        blocks.append(Prose(_FOLDS))
    found = search.search_plan.space.values(search.best.params)
    rows: list[list[Value]] = [
        [path, _text(value), _text(search.search_plan.recipe.value(path))]
        for path, value in found.items()
    ]
    blocks.append(Table(["field", "best", "recipe"], rows, "What the best trial has."))
    return blocks


_FOLDS = (
    "Figures are of images that the trial did not train on: each fold leaves out one generator "
    "and some photographs of the training list. The test set is not touched. The best of many "
    "trials is chosen by these very images, which flatters it; the test set has the last word."
)


def _history(search: _Search) -> list[Block]:
    goal, figures = search.goal, []
    reference = search.recipe.values[0] if search.recipe else None
    figures.append(
        history_figure(
            search.drawn(),
            [trial.number for trial in search.stopped],
            [trial.number for trial in search.failed],
            goal.title,
            goal.maximise[0],
            reference,
            search.recipe_name,
        )
    )
    importance = search.importance()
    if importance:
        figures.append(importance_figure(importance))
    blocks: list[Block] = [Figures(figures)]
    if not importance:
        blocks.append(Prose(f"What mattered is shown from {_FOR_IMPORTANCE} finished trials on."))
    if search.failed:
        rows: list[list[Value]] = [
            [trial.number, str(trial.user_attrs.get(REASON, ""))] for trial in search.failed
        ]
        blocks.append(Table(["trial", "why it failed"], rows))
    return blocks


def _values(search: _Search) -> list[Block]:
    importance = search.importance()
    paths = sorted(search.search_plan.space.dimensions, key=lambda path: -importance.get(path, 0.0))
    scales = []
    for path in paths[:_MOST_AXES]:
        one = search.search_plan.space.dimensions[path]
        choices = [_short(choice) for choice in one.choice or ()]
        scales.append(AxisScale(path, one.log_uniform is not None, choices))
    left = len(paths) - len(scales)
    caption = f"{left} fields of least importance are left out." if left else ""
    drawn = search.drawn()
    return [
        Figures(
            [parallel_figure(drawn, scales, search.goal.title, search.goal.maximise[0], caption)]
        )
    ]


def _fronts(search: _Search) -> list[Block]:
    names, points = search.goal.names, [trial.values for trial in search.done]
    numbers = [trial.number for trial in search.done]
    figures = []
    for (a, first), (b, second) in pairwise(list(enumerate(names))):
        pairs = [(point[a], point[b]) for point in points]
        maximise = (search.goal.maximise[a], search.goal.maximise[b])
        recipe = search.recipe
        figures.append(
            front_figure(
                pairs,
                search.front if len(names) == 2 else front(pairs, maximise),
                numbers,
                (title(first), title(second)),
                (recipe.values[a], recipe.values[b]) if recipe else None,
                search.recipe_name,
            )
        )
    rows: list[list[Value]] = [
        [search.done[at].number, *search.done[at].values] for at in search.front
    ]
    columns = ["trial", *(title(name) for name in names)]
    text = "Trials that no other beats in all values; `best.yaml` takes the best by the first."
    formats = {title(name): ".4g" for name in names}
    return [Figures(figures), Table(columns, rows, text, formats)]


def _slices(search: _Search, verdict: Verdict | None) -> list[Block]:
    if verdict and verdict.slices:
        named = {search.recipe_name: verdict.slices[RECIPE], "best": verdict.slices["best"]}
        text = f"Mean over {len(verdict.best_values)} seeds."
    else:
        named, text = {}, "One training run each."
        if search.recipe and search.recipe.number != search.best.number:
            named[search.recipe_name] = search.recipe.user_attrs.get("slices", {})
        named["best"] = search.best.user_attrs.get("slices", {})
    drawn = {
        who: {name: Measure(value) for name, value in slices.items()}
        for who, slices in named.items()
        if slices
    }
    return [Figures([slices_figure(drawn, "ROC AUC", 0.5, text)])] if drawn else []


def _trials(search: _Search) -> list[Block]:
    names, paths = search.goal.names, list(search.search_plan.space.dimensions)
    done = sorted(search.done, key=lambda t: t.values[0], reverse=search.goal.maximise[0])
    rows: list[list[Value]] = []
    for trial in done[:_MOST_ROWS]:
        values = search.search_plan.space.values(trial.params)
        shown = [None if path not in values else _text(values[path]) for path in paths]
        rows.append([trial.number, *trial.values, trial.user_attrs.get(SECONDS), *shown])
    left = len(done) - len(rows)
    caption = f"Best first{f'; {left} more are in trials.parquet' if left > 0 else ''}."
    columns = ["trial", *(title(name) for name in names), "seconds", *paths]
    formats = {title(name): ".4f" for name in names} | {"seconds": ".1f"}
    return [Table(columns, rows, caption, formats)]


def _text(value: Any) -> Value:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _provenance(settings: TuneSettings, search: _Search, journal: Journal) -> list[Block]:
    spent = sum(t.user_attrs.get(SECONDS, 0.0) for t in journal.finished)
    looks = ", ".join(map(str, search.search_plan.training_looks))
    facts: dict[str, Value] = {
        "trials": f"{len(search.done)} finished, {len(search.stopped)} stopped early, "
        f"{len(search.failed)} failed",
        "trial time, all together": duration(spent),
        "sampler": f"{settings.sampler}, seed {settings.seed}",
        "early stopping": "none"
        if settings.early_stopping is None
        else f"ASHA, looks after {looks or 'no'} epochs",
        **{f"version of {name}": version for name, version in versions().items()},
        "version of optuna": optuna.__version__,
    }
    where = journal.store.uri()
    job = "train" if settings.kind == "train" else "calibrate"
    commands = f"imaginet {job} --config {where}/best.yaml\n"
    commands += (
        f"optuna trials --study-name tune --storage-class JournalFileBackend "
        f"--storage {where}/{STUDY_FILE}"
    )
    return [KeyValues(facts), Commands(commands)]
