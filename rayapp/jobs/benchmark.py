"""A benchmark from its sources to the report: every step on one cluster, each done once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rayapp.benchmark.settings import ROOT, BenchmarkSettings
from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.cluster.session import kept_open
from rayapp.config import clock
from rayapp.config.packaged import resource
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES, Settings
from rayapp.config.yaml_files import named_now, read_renamed, validated
from rayapp.download.settings import DownloadSettings
from rayapp.evaluate.settings import EvaluateJobSettings
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.jobs.download import download
from rayapp.jobs.evaluate import measure
from rayapp.jobs.pack import pack
from rayapp.jobs.perturb import perturb
from rayapp.jobs.predict import predict
from rayapp.jobs.prune import prune
from rayapp.jobs.report import report
from rayapp.jobs.train import train
from rayapp.pack.settings import PackSettings
from rayapp.perturb.file_names import list_name
from rayapp.perturb.settings import PerturbSettings
from rayapp.predict.settings import PredictSettings
from rayapp.prune.settings import PruneSettings
from rayapp.report.settings import ReportSettings
from rayapp.run import record
from rayapp.run.ownership import own_output
from rayapp.train.settings import TrainSettings

EVALUATION, CLEAN = "evaluation", "evaluation-clean"  # folders of the two
_ESTIMATE = ("estimate", "expected", "reckoning")  # fields that change no result


class Places:
    """Where each step's output lies, and what one step hands to the next."""

    def __init__(self, settings: BenchmarkSettings) -> None:
        self.settings = settings
        self.output = settings.output.rstrip("/")
        self.root = (settings.root or f"{self.output}/images").rstrip("/")
        self.lists = settings.lists.model_copy(
            update={
                name: tuple(map(self._list, value))
                if isinstance(value, tuple)
                else self._list(value)
                for name, value in settings.lists
            }
        )

    def _list(self, uri: str) -> str:
        return uri.replace(ROOT, self.root)

    def at(self, step: str) -> str:
        """The output of a step."""
        return f"{self.output}/{step}"

    @property
    def tested(self) -> tuple[str, ...]:
        """The lists that are perturbed: of calibration, then of the test."""
        return tuple(dict.fromkeys((self.lists.calibration, *self.lists.test)))

    @property
    def every_list(self) -> tuple[str, ...]:
        """All lists, each once."""
        return tuple(dict.fromkeys((*self.lists.train, *self.lists.head, *self.tested)))

    def perturbed(self, uri: str) -> str:
        """The list of the perturbed images of a list."""
        return f"{self.at('perturbed')}/lists/{list_name(uri)}"

    @property
    def detector(self) -> str:
        """The detector as it was trained, not yet calibrated."""
        return f"{self.at('train')}/detector"

    @property
    def images_of_training(self) -> str:
        """What training reads: images, or the tiles that they were packed into."""
        return self.at("tiles") if self.settings.tiles else self.root

    def common(self, step: str) -> dict[str, Any]:
        """Settings that every step takes from the pipeline; the folder is the pipeline's own."""
        where = self.settings.model_dump(include={"cpus", "on_ray", "wait_s", "verbose"})
        # Steps downstream of a change are done again.
        return {"output": self.at(step), "overwrite": True, **where}


@dataclass(frozen=True)
class Step:
    """One step: its folder, its settings made from the pipeline's, and the job that does it."""

    name: str
    folder: str
    settings: Callable[[Places], Settings]
    run: Callable[[Any], record.Run]
    wanted: Callable[[BenchmarkSettings], object] = lambda settings: True


def _made(model: type[Settings], step: str, wanted: dict[str, Any], own: dict[str, Any]) -> Any:
    """Settings of a step; what the user wrote for it is named by the step."""
    where = f"settings of {step}"
    return validated(model, wanted | named_now(model, own, where), lambda loc: where)


def _lists(at: Places) -> Settings:
    return _download(at, at.settings.list_sources, ())


def _images(at: Places) -> Settings:
    return _download(at, at.settings.sources, at.every_list)


def _download(at: Places, sources: tuple[str, ...], lists: tuple[str, ...]) -> Settings:
    s = at.settings
    wanted = {
        "sources": list(sources),
        "annotations": list(lists),
        "scheme": s.scheme,
        **at.common(""),
        "output": at.root,
    }
    made: Settings = _made(DownloadSettings, "download", wanted, s.download)
    return made


def _pack(at: Places) -> Settings:
    lists = tuple(dict.fromkeys((*at.lists.train, *at.lists.head)))
    return PackSettings(
        annotations=lists, root=at.root, scheme=at.settings.scheme, **at.common("tiles")
    )


def _prune(at: Places) -> Settings:
    s = at.settings
    wanted = {"annotations": at.every_list, "root": at.root, "scheme": s.scheme}
    made: Settings = _made(PruneSettings, "prune", wanted | at.common("prune"), s.prune)
    return made


def _perturb(at: Places) -> Settings:
    s = at.settings
    wanted = {"annotations": at.tested, "root": at.root, "scheme": s.scheme, "seed": s.seed}
    made: Settings = _made(PerturbSettings, "perturb", wanted | at.common("perturbed"), s.perturb)
    return made


def _train(at: Places) -> Settings:
    s = at.settings
    recipe = resource("configs", s.recipe)
    wanted = read_renamed(recipe, TrainSettings)[0] | {
        "annotations": at.lists.train,
        "head_annotations": at.lists.head,
        "root": at.images_of_training,
        "scheme": s.scheme,
        "seed": s.seed,
        **at.common("train"),
    }
    changes = _merged(wanted, named_now(TrainSettings, s.train, "settings of train"))
    made: Settings = _made(TrainSettings, f"train with {recipe}", wanted, changes)
    return made


def _merged(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, with what they leave as it is in a part of the recipe."""
    return {
        key: recipe[key] | value if isinstance(value, dict) and key in recipe else value
        for key, value in changes.items()
    }


def _predict(at: Places) -> Settings:
    wanted = {"detector": at.detector, "input": f"{at.at('perturbed')}/manifest.parquet"}
    made: Settings = _made(
        PredictSettings, "predict", wanted | at.common("scores"), at.settings.predict
    )
    return made


def _calibrate(at: Places) -> Settings:
    s = at.settings
    wanted = {
        "detector": at.detector,
        "scores": at.at("scores"),
        "root": at.at("perturbed"),
        "annotations": at.perturbed(at.lists.calibration),
        "against": tuple(map(at.perturbed, at.lists.test)),
        "scheme": s.scheme,
    }
    made: Settings = _made(
        CalibrateJobSettings, "calibrate", wanted | at.common("detector"), s.calibrate
    )
    return made


def _evaluate(at: Places) -> Settings:
    named = {"name": "perturbed test images"} if at.settings.clean else {}
    lists = tuple(map(at.perturbed, at.lists.test))
    return _evaluated(at, EVALUATION, at.at("scores"), at.at("perturbed"), lists, named)


def _evaluate_clean(at: Places) -> Settings:
    """Of the images as they are; those that the scores lack are scored on the way."""
    named = {"name": "clean test images"}
    return _evaluated(at, CLEAN, at.at("scores-clean"), at.root, at.lists.test, named)


def _evaluated(
    at: Places, folder: str, scores: str, root: str, lists: tuple[str, ...], named: dict[str, Any]
) -> Settings:
    wanted = {
        "detector": at.at("detector"),
        "names": "the detector",
        "scores": scores,
        "root": root,
        "annotations": lists,
        "scheme": at.settings.scheme,
        "seed": at.settings.seed,
        "embedding": 0,  # the report of a benchmark shows none
        **named,
        **at.common(folder),
    }
    made: Settings = _made(EvaluateJobSettings, "evaluate", wanted, at.settings.evaluate)
    return made


def _report(at: Places) -> Settings:
    # A prune looks at the files each time and says so anew; a report of it would never be done.
    listed = [one for one in steps(at.settings)[:-1] if one.folder and one.name != "prune"]
    wanted = {
        "evaluations": tuple(
            at.at(step.folder) for step in listed if step.folder in (EVALUATION, CLEAN)
        ),
        "runs": tuple(at.at(step.folder) for step in listed),
    }
    made: Settings = _made(
        ReportSettings, "report", wanted | at.common("report"), at.settings.report
    )
    return made


# What the settings say of a job: of `pack` nothing.
_PARTS: dict[str, type[Settings]] = {
    "download": DownloadSettings,
    "prune": PruneSettings,
    "perturb": PerturbSettings,
    "train": TrainSettings,
    "predict": PredictSettings,
    "calibrate": CalibrateJobSettings,
    "evaluate": EvaluateJobSettings,
    "report": ReportSettings,
}
# A step more is a line here, its settings above, and its cost in `benchmark_estimate.py`.
_STEPS = (
    Step("lists", "", _lists, download, lambda s: s.list_sources),
    Step("download", "", _images, download, lambda s: s.sources),
    Step("prune", "prune", _prune, prune, lambda s: s.sources),
    Step("perturb", "perturbed", _perturb, perturb),
    Step("pack", "tiles", _pack, pack, lambda s: s.tiles),
    Step("train", "train", _train, train),
    Step("predict", "scores", _predict, predict),
    Step("calibrate", "detector", _calibrate, calibrate_from_images),
    Step("evaluate", EVALUATION, _evaluate, measure),
    Step("evaluate clean", CLEAN, _evaluate_clean, measure, lambda s: s.clean),
    Step("report", "report", _report, report),
)


def steps(settings: BenchmarkSettings) -> list[Step]:
    """The steps that these settings ask for, in order."""
    return [step for step in _STEPS if step.wanted(settings)]


def run_benchmark(settings: BenchmarkSettings) -> dict[str, record.Run]:
    """Every step, each skipped where it is done; what each gave, by name.

    The settings of all steps are checked before the first one starts.

    Raises:
        UserError: settings, lists, an output that can't be written or is of another run (see
            own_output).
        JobFailed: a step failed; the same command goes on from there.
    """
    at = Places(settings)
    wanted = checked_steps(at)
    # Images may have been there before.
    images = at.root.removeprefix(f"{at.output}/").partition("/")[0]
    owned = own_output("benchmark", settings, placement=_ESTIMATE, beside={images}, parts=_PARTS)
    with owned, kept_open():
        return run_steps(wanted)


def checked_steps(at: Places) -> list[tuple[Step, Settings]]:
    """The steps in order, each with its settings.

    Raises:
        UserError: those of a step are wrong.
    """
    return [(step, step.settings(at)) for step in steps(at.settings)]


def run_steps(wanted: list[tuple[Step, Settings]]) -> dict[str, record.Run]:
    """Each step, skipped where it is done; what each gave, by name."""
    return {step.name: _timed(step, made) for step, made in wanted}


def _timed(step: Step, made: Settings) -> record.Run:
    """A step whose seconds are its own, not those of the steps before it."""
    clock.count_anew()
    return step.run(made)


def exit_code(outcomes: dict[str, record.Run]) -> int:
    """3 where a step named misses, else 0."""
    missed = any(
        run.counts.get("failed") or run.counts.get("unreadable") for run in outcomes.values()
    )
    return EXIT_MISSES if missed else EXIT_DONE
