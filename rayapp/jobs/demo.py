"""The demo: every step on real photographs, from data to report, in a few minutes."""

import json
from typing import Any

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.cluster.session import kept_open
from rayapp.config import clock
from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_renamed, validated
from rayapp.demo.generators import HELD_OUT
from rayapp.demo.settings import DemoDataSettings, DemoSettings
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.demo_data import build
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.jobs.perturb import perturb
from rayapp.jobs.predict import predict
from rayapp.jobs.report import REPORT_FILE, report
from rayapp.jobs.train import train
from rayapp.metrics.evaluation import EVALUATION_FILE, Evaluation, Results
from rayapp.perturb.settings import PerturbSettings
from rayapp.predict.settings import PredictSettings
from rayapp.report.settings import ReportSettings
from rayapp.run.ownership import own_output
from rayapp.storage.uris import open_store
from rayapp.train.settings import TrainSettings

METRICS_FILE = "metrics.json"
_SCHEME = "demo"
_TEST_SETS = ("perturbed", "clean")
NOTE = (
    "This is a demonstration on a few photographs. Its synthetic images are reconstructions by "
    "four tiny networks trained minutes ago, not pictures by the generators that people meet: "
    "the figures show that the pipeline works, not how well it would do on the web."
)


ABOUT = (
    "a demonstration: tells crops of {photographs} from their reconstructions by four toy "
    "generators, and no more; on 300 real-world images (150 real, 150 generated, measured for this "
    "project) the demo's detector had ROC AUC 0.50 and called 29 % of the real ones synthetic"
)


def run_demo(settings: DemoSettings) -> dict[str, Any]:
    """All steps, each skipped where it is done; the content of metrics.json.

    Raises:
        UserError: too few photographs, an output that can't be written or is of another run (see
            own_output).
    """
    with own_output("demo", settings), kept_open():
        steps = _Steps(settings)
        steps.data()
        steps.perturb()
        steps.train()
        for test_set in _TEST_SETS:
            steps.predict(test_set)
        steps.calibrate()
        evaluations = {name: steps.evaluate(name) for name in _TEST_SETS}
        steps.report()
    metrics = _metrics(evaluations)
    open_store(settings.output).put(METRICS_FILE, json.dumps(metrics, indent=1).encode())
    return metrics


class _Steps:
    """Each step with the demo's settings; one step's output is the next one's input."""

    def __init__(self, settings: DemoSettings) -> None:
        self.root = settings.output.rstrip("/")
        self.settings = settings
        self.common = settings.model_dump(include={"cpus", "on_ray", "wait_s", "verbose"})
        # Steps downstream of a change are done again; the folder is the demo's own.
        self.common["overwrite"] = True
        if settings.tiny and settings.cpus is None:
            self.common["cpus"] = 1  # a second worker takes longer to start than it would save
        self.ran: list[str] = []

    def at(self, step: str) -> str:
        """Where a step's output lies."""
        return f"{self.root}/{step}"

    def _place(self, step: str) -> dict[str, Any]:
        clock.count_anew()  # each step's seconds are its own
        if step not in self.ran:
            self.ran.append(step)
        return {"output": self.at(step), **self.common}

    def data(self) -> None:
        sizes = {"generator_steps": 20, "crops_per_photograph": 3} if self.settings.tiny else {}
        build(
            DemoDataSettings(
                photos=self.settings.photos, seed=self.settings.seed, **sizes, **self._place("data")
            )
        )

    def perturb(self) -> None:
        data = self.at("data")
        perturb(
            PerturbSettings(
                annotations=tuple(f"{data}/lists/{name}.txt" for name in ("calibration", "test")),
                root=data,
                scheme=_SCHEME,
                seed=self.settings.seed,
                manifest=f"{data}/manifest.parquet",
                **self._place("perturbed"),
            )
        )

    def train(self) -> None:
        data = self.at("data")
        recipe = resource("configs", "demo")
        wanted = read_renamed(recipe, TrainSettings)[0] | {
            "annotations": [f"{data}/lists/train.txt"],
            "head_annotations": [f"{data}/lists/head.txt"],
            "root": data,
            "about": ABOUT.format(
                photographs="a few photographs of yours"
                if self.settings.photos
                else "fifteen photographs"
            ),
            "loss": self.settings.loss,
            "seed": self.settings.seed,
            **self._place("train"),
        }
        if self.settings.tiny:
            wanted["num_workers"] = 0
            for stage in ("stage1", "stage2"):
                wanted[stage] = wanted[stage] | {"epochs": 1}
        train(validated(TrainSettings, wanted, lambda loc: str(recipe)))

    def predict(self, test_set: str) -> None:
        images = self.at("perturbed" if test_set == "perturbed" else "data")
        predict(
            PredictSettings(
                detector=f"{self.at('train')}/detector",
                input=f"{images}/manifest.parquet",
                **self._place(f"scores-{test_set}"),
            )
        )

    def calibrate(self) -> None:
        calibrate(
            CalibrateSettings(
                detector=f"{self.at('train')}/detector",
                scores=self.at("scores-perturbed"),
                annotations=f"{self.at('perturbed')}/lists/calibration.txt",
                against=f"{self.at('perturbed')}/lists/test.txt",
                scheme=_SCHEME,
                **self._place("detector"),
            )
        )

    def evaluate(self, test_set: str) -> Evaluation:
        images = self.at("perturbed" if test_set == "perturbed" else "data")
        run = evaluate(
            EvaluateSettings(
                detector=self.at("detector"),
                names="the detector",
                scores=self.at(f"scores-{test_set}"),
                annotations=f"{images}/lists/test.txt",
                scheme=_SCHEME,
                name=f"{test_set} test images",
                held_out=(HELD_OUT,),
                seed=self.settings.seed,
                **self._place(f"evaluation-{test_set}"),
            )
        )
        results = Results.model_validate_json(run.store.get(EVALUATION_FILE))
        return results.evaluations[0]

    def report(self) -> None:
        ran = tuple(self.at(step) for step in self.ran)
        store = open_store(self.root)
        run = report(
            ReportSettings(
                evaluations=tuple(self.at(f"evaluation-{name}") for name in _TEST_SETS),
                runs=ran,
                title="Demo: can a small detector tell four tiny generators from photographs?",
                note=NOTE,
                **self._place("report"),
            )
        )
        store.put(REPORT_FILE, run.store.get(REPORT_FILE))


def _metrics(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """The headline figures by name, perturbed set first, with 95 % intervals over photographs."""
    metrics: dict[str, Any] = {}
    for test_set, evaluation in evaluations.items():
        prefix = "" if test_set == "perturbed" else f"{test_set}_"
        for name, key in (("seen", "seen"), ("held-out", "held_out")):
            part = evaluation.slice("training", name)
            for figure in ("roc_auc", "balanced_accuracy") if part else ():
                found = part.figures[figure]  # type: ignore[union-attr]
                metrics[f"{prefix}{key}_{figure}"] = found.value
                metrics[f"{prefix}{key}_{figure}_interval"] = [found.low, found.high]
    metrics["num_test_photographs"] = evaluations["perturbed"].num_groups
    return metrics
