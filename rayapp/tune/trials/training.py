"""Training trials: each fold's detector trained up to the next look, scored, and judged."""

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rayapp.dataset.labels import LabelScheme, load_scheme, read_lists
from rayapp.models.encoder import Network
from rayapp.models.folder import load_detector
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from rayapp.train.data.items import LOSS_COLUMNS, TrainItem, train_items
from rayapp.train.engine import Engine
from rayapp.train.journal import METRICS_FILE
from rayapp.train.loop import DETECTOR_FOLDER, LAST_FOLDER, STATE_FILE, train_alone
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import STAGE1, RankContext
from rayapp.transforms.perturbations import load_perturbation
from rayapp.tune.folds import HEAD_LIST, JUDGE_LIST, TRAIN_LIST, Fold
from rayapp.tune.recipe import Recipe
from rayapp.tune.trials.contract import Outcome, TrialContext
from rayapp.tune.trials.figures import (
    Judged,
    calibration_figures,
    held_out_auc,
    held_out_mask,
    over_folds,
    ranking_figures,
)
from rayapp.tune.trials.fold_scores import Scorer, probe_logits

RESULT_FILE = "result.json"
_LOOKS_FILE = "looks.json"


class _PausedError(Exception):
    """Training has come to the epoch of the next look."""


@dataclass(frozen=True)
class TrainingWork:
    """Trains the recipe with a trial's values on every fold and judges it there.

    Attributes:
        recipe: what trial values are set in.
        folds: each a generator left out.
        root: URI of the images.
        scheme: name of the label scheme.
        output: URI of the study; a trial's files lie in `trials/NNNN`.
        looks: epochs, of both stages together, after which a trial may be stopped.
        robustness: perturbation whose variants are scored too.
        on_workers: trains by Ray Train, where the recipe has workers.
    """

    recipe: Recipe
    folds: Sequence[Fold]
    root: str
    scheme: str
    output: str
    looks: Sequence[int] = ()
    robustness: str | None = None
    on_workers: Callable[[TrainSettings], Any] | None = None

    def run(self, trial_context: TrialContext) -> Outcome:
        """Train and judge, from where an earlier turn was cut off."""
        store = open_store(self.output)
        folder = trial_folder(trial_context.number)
        found = _read(store, f"{folder}/{RESULT_FILE}")
        if found and found["values"] == json.loads(json.dumps(dict(trial_context.values))):
            return Outcome(found["figures"], found["slices"], found["facts"])
        recipe = self.recipe.with_values(trial_context.values)
        outcome = self._judged(recipe, trial_context, folder)
        record = {
            "values": dict(trial_context.values),
            "figures": dict(outcome.figures),
            "slices": dict(outcome.slices),
            "facts": dict(outcome.facts),
        }
        store.put(f"{folder}/{RESULT_FILE}", json.dumps(record, indent=1).encode())
        _drop(store, f"{folder}/", (f"/{DETECTOR_FOLDER}/", f"/{LAST_FOLDER}/"))
        return outcome

    def compared(self, recipe: Recipe, fold: Fold, folder: str) -> None:
        """Train a recipe on a fold, and keep what a comparison is made of; once."""
        store = open_store(self.output)
        if store.stat(f"{folder}/{RESULT_FILE}"):
            return
        trial_context = TrialContext(0, {}, lambda epoch, figures: None, float("inf"))
        run = _FoldRun(fold, self.settings(recipe, fold, folder), self)
        scorer = run.trained(trial_context)
        judged = run.judged(scorer, run.items(), probing=False)
        chosen = held_out_mask(judged)
        record = {
            "labels": judged.labels_N[chosen].tolist(),
            "groups": judged.groups_N[chosen].tolist(),
            "logits": judged.logits_N[chosen].tolist(),
            "slices": ranking_figures(judged, load_scheme(self.scheme))[1],
        }
        store.put(f"{folder}/{RESULT_FILE}", json.dumps(record).encode())
        _drop(store, f"{folder}/", (f"/{DETECTOR_FOLDER}/", f"/{LAST_FOLDER}/"))

    def stopped(self, number: int) -> None:
        """Remove the state of a trial that nothing goes on with."""
        _drop(open_store(self.output), f"{trial_folder(number)}/", (f"/{STATE_FILE}",))

    def settings(self, recipe: Recipe, fold: Fold, folder: str) -> TrainSettings:
        """Settings of one fold's training."""
        store = open_store(self.output)
        head = fold.list_uri(HEAD_LIST)
        has_head = open_store(fold.folder).stat(HEAD_LIST) is not None
        return recipe.train_settings(
            store,
            annotations=[fold.list_uri(TRAIN_LIST)],
            head_annotations=[head] if has_head else [],
            root=self.root,
            scheme=self.scheme,
            output=store.uri(f"{folder}/{fold.name}"),
        )

    def _judged(self, recipe: Recipe, trial_context: TrialContext, folder: str) -> Outcome:
        store = open_store(self.output)
        runs = [_FoldRun(fold, self.settings(recipe, fold, folder), self) for fold in self.folds]
        looked = _read(store, f"{folder}/{_LOOKS_FILE}") or {}
        for epoch in (look for look in self.looks if look < runs[0].num_epochs):
            if str(epoch) not in looked:
                outcomes = [run.looked(recipe, trial_context, epoch) for run in runs]
                looked[str(epoch)] = over_folds([one.figures for one in outcomes])
                store.put(f"{folder}/{_LOOKS_FILE}", json.dumps(looked).encode())
            trial_context.report(epoch, looked[str(epoch)])
        outcomes = [run.finished(recipe, trial_context) for run in runs]
        slices = {
            f"{run.fold.left_out} held out · {name}": value
            for run, one in zip(runs, outcomes, strict=True)
            for name, value in one.slices.items()
        }
        facts = {
            "epochs": runs[0].num_epochs,
            "folds": {
                run.fold.left_out: one.figures["held_out_roc_auc"]
                for run, one in zip(runs, outcomes, strict=True)
            },
        }
        return Outcome(over_folds([one.figures for one in outcomes]), slices, facts)


class _FoldRun:
    """One fold's training run of a trial."""

    def __init__(self, fold: Fold, settings: TrainSettings, work: TrainingWork) -> None:
        self.fold, self.settings, self._work = fold, settings, work
        self.num_epochs = settings.stage1.epochs + settings.stage2.epochs
        self._store = open_store(settings.output)
        # With workers of Ray Train the GPUs are theirs; a trial itself holds none.
        own_gpu = settings.gpus_per_worker and not settings.num_workers
        self._device = torch.device("cuda" if own_gpu else "cpu")

    def looked(self, recipe: Recipe, trial_context: TrialContext, epoch: int) -> Outcome:
        """Train up to an epoch, and judge what is there."""
        if self._epochs() < epoch:
            with contextlib.suppress(_PausedError):
                self._train(trial_context, epoch)
        job, _ = make_job(self.settings)
        rank_context = RankContext(device=self._device)
        engine = Engine(job, rank_context)
        state = io.BytesIO(self._store.get(STATE_FILE))
        engine.load(torch.load(state, map_location=self._device, weights_only=True))
        probing = self.settings.loss != "ce" and engine.stage.name == STAGE1
        return self._outcome(
            recipe, Scorer(engine.network, job, rank_context, trial_context), probing
        )

    def finished(self, recipe: Recipe, trial_context: TrialContext) -> Outcome:
        """Train to the end, and judge the detector."""
        return self._outcome(recipe, self.trained(trial_context), probing=False)

    def trained(self, trial_context: TrialContext) -> Scorer:
        """Train to the end; what scores with the detector."""
        if self.settings.num_workers:
            assert self._work.on_workers is not None
            self._work.on_workers(self.settings)
        else:
            self._train(trial_context, None)
        detector = load_detector(self._store.uri(DETECTOR_FOLDER), device=self._device.type)
        assert isinstance(detector.network, Network)  # training makes no ensembles
        job, _ = make_job(self.settings)
        return Scorer(detector.network, job, RankContext(device=self._device), trial_context)

    def _epochs(self) -> int:
        """Epochs whose state is kept."""
        if self._store.stat(STATE_FILE) is None:
            return 0
        return len(self._store.get(METRICS_FILE).splitlines()) - 1

    def _train(self, trial_context: TrialContext, until: int | None) -> None:
        done = self._epochs()

        def on_epoch(figures: Mapping[str, Any]) -> None:
            nonlocal done
            done += 1
            if done == until:
                raise _PausedError

        def on_step(engine: Engine) -> bool:
            trial_context.check_time()
            return False

        train_alone(self.settings, on_epoch=on_epoch, on_step=on_step)

    def items(self) -> list[TrainItem]:
        """The images that the fold judges by."""
        lists = read_lists([self.fold.list_uri(JUDGE_LIST)], load_scheme(self._work.scheme))
        return train_items(lists, "origin")

    def judged(self, scorer: Scorer, items: Sequence[TrainItem], probing: bool) -> Judged:
        """The images with their logits."""
        known = scorer.job.stages[0].items
        logits = probe_logits(scorer, known, items) if probing else scorer.logits(items)
        return self._scored(items, logits, load_scheme(self._work.scheme))

    def _outcome(self, recipe: Recipe, scorer: Scorer, probing: bool) -> Outcome:
        """Figures of the network on the fold's images to judge by."""
        scheme, items = load_scheme(self._work.scheme), self.items()
        judged = self.judged(scorer, items, probing)
        figures, slices = ranking_figures(judged, scheme)
        figures["images_per_s"] = scorer.images_per_s
        choice = recipe.calibrate_settings("-", "-", "-", "-")
        figures |= calibration_figures(judged, choice, scheme)
        if self._work.robustness:
            variants = {}
            if not probing:
                variants = scorer.robustness(items, load_perturbation(self._work.robustness))
            aucs = [held_out_auc(judged, logits_N) for logits_N in variants.values()]
            known = [auc for auc in aucs if auc is not None]
            figures["robustness_roc_auc"] = float(np.mean(known)) if known else None
        return Outcome(figures, slices)

    def _scored(
        self, items: Sequence[TrainItem], logits_N: np.ndarray, scheme: LabelScheme
    ) -> Judged:
        columns = zip(*(item.labels for item in items), strict=True)
        by_name = dict(zip(LOSS_COLUMNS, columns, strict=True))
        codes = {c: np.array(by_name[c]) for c in LOSS_COLUMNS if c in scheme.columns}
        unseen = np.array([item.id in self.fold.held for item in items])
        groups = np.array([self.fold.groups[item.id] for item in items], dtype=np.str_)
        return Judged(codes, logits_N, groups, ~unseen, self.fold.held_out)


def trial_folder(number: int) -> str:
    """Where a trial's files lie under the study."""
    return f"trials/{number:04d}"


def _read(store: Store, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except FileNotFoundError:
        return None
    return found


def _drop(store: Store, prefix: str, parts: Sequence[str]) -> None:
    keys = [stat.key for stat in list(store.list(prefix))]
    store.delete([key for key in keys if any(part in key for part in parts)])
