"""The demo: its own data made of real photographs, then a benchmark of them, in a few minutes."""

import json
from collections.abc import Sequence
from typing import Any

from rayapp.benchmark.settings import BenchmarkSettings, Lists
from rayapp.cluster.session import kept_open
from rayapp.config import clock
from rayapp.demo.generators import HELD_OUT
from rayapp.demo.settings import AUTOENCODER, BEYOND, PARTNERS, REAL, DemoDataSettings, DemoSettings
from rayapp.jobs.benchmark import CLEAN, EVALUATION, Places, checked_steps, run_steps
from rayapp.jobs.demo_data import build
from rayapp.jobs.report import REPORT_FILE
from rayapp.metrics.evaluation import Evaluation, read_results
from rayapp.report.settings import ReportSettings
from rayapp.run.ownership import own_output
from rayapp.storage.uris import open_store

METRICS_FILE = "metrics.json"
TITLE = "Demo: can a small detector tell four tiny generators from photographs?"
_TOYS = (
    "toys: reconstructions of a few photographs by four tiny networks that were trained minutes "
    "ago, not pictures by the generators that people meet"
)
_DECODED = (
    f"a few photographs and what {AUTOENCODER}, a real generator's autoencoder, makes of them"
)
_WORKS = "Toys show that the pipeline works, not how well the detector does on the web."

ABOUT = (
    "a demonstration: tells crops of {photographs} from their reconstructions by four toy "
    "generators, and no more; on 521 real-world images (240 real, 281 generated; docs/real.md) the "
    "demo's detector had ROC AUC 0.33 and called 53 % of the real ones synthetic"
)


def run_demo(settings: DemoSettings) -> dict[str, Any]:
    """Make the data, then a benchmark of it, each step skipped where done; metrics.json's content.

    Raises:
        UserError: too few photographs, an output that can't be written or is of another run (see
            own_output).
    """
    at = Places(_benchmark(settings))
    data, wanted = _data(settings, at), checked_steps(at)
    from rayapp.jobs.demo_beyond import Beyond  # brings downloads and more, which toys don't need

    beyond = Beyond(settings, at)
    with own_output("demo", settings, placement=BEYOND), kept_open():
        beyond.prepare()
        clock.count_anew()  # each step's seconds are its own
        build(data)
        *steps, (report, told) = wanted
        run_steps(steps)
        judged = tuple(beyond.run().values())
        assert isinstance(told, ReportSettings)
        more = {"evaluations": told.evaluations + judged, "runs": told.runs + judged}
        run_steps([(report, told.model_copy(update=more))])
    metrics = _metrics({name: _evaluations(at.at(name))[0] for name in (EVALUATION, CLEAN)})
    for uri in judged:
        metrics |= _metrics_beyond(uri.rpartition("-")[2], _evaluations(uri))
    if beyond.misses:
        metrics["not_judged"] = beyond.misses
    store = open_store(settings.output)
    store.put(REPORT_FILE, store.get(f"report/{REPORT_FILE}"))
    store.put(METRICS_FILE, json.dumps(metrics, indent=1).encode())
    return metrics


def _data(settings: DemoSettings, at: Places) -> DemoDataSettings:
    sizes = {"generator_steps": 20, "crops_per_photograph": 3} if settings.tiny else {}
    return DemoDataSettings(
        photos=settings.photos, seed=settings.seed, **sizes, **at.common("data")
    )


def _benchmark(settings: DemoSettings) -> BenchmarkSettings:
    """The benchmark of the demo's data."""
    root = f"{settings.output.rstrip('/')}/data"
    whose = "a few photographs of yours" if settings.photos else "fifteen photographs"
    changes: dict[str, Any] = {"about": ABOUT.format(photographs=whose), "loss": settings.loss}
    if settings.tiny:
        changes |= {"num_workers": 0, "stage1": {"epochs": 1}, "stage2": {"epochs": 1}}
    common = settings.model_dump(include={"output", "cpus", "on_ray", "wait_s", "verbose"})
    if settings.tiny and settings.cpus is None:
        common["cpus"] = 1  # a second worker takes longer to start than it would save
    lists = {name: (f"{root}/lists/{name}.txt",) for name in ("train", "head", "test")}
    return BenchmarkSettings(
        root=root,
        scheme="demo",
        lists=Lists(calibration=f"{root}/lists/calibration.txt", **lists),
        recipe="demo",
        clean=True,
        seed=settings.seed,
        perturb={"manifest": f"{root}/manifest.parquet"},
        train=changes,
        # Of one's own photographs two may look alike; the demo goes on all the same.
        calibrate={"guard": "path" if settings.photos else "look"},
        evaluate={"held_out": [HELD_OUT]},
        report={"title": TITLE, "note": note(settings)},
        **common,
    )


def note(settings: DemoSettings) -> str:
    """Which figures of the page speak of toys, first of all."""
    of_real = f"Only the figures of '{REAL}' speak of real generators"
    of_partners = f"those of '{PARTNERS}' of {_DECODED}"
    target = "demo-web" if settings.web else "demo"
    more = f"`make {target} REALSET=folder` judges the detector on real ones."
    if settings.realset:
        among = f"; {of_partners}" if settings.web else ""
        return f"{of_real}{among}; all others speak of {_TOYS}. {_WORKS}"
    if settings.web:
        return f"All figures speak of {_TOYS}; but {of_partners}. {_WORKS} {more}"
    return f"Every figure on this page speaks of {_TOYS}. {_WORKS} {more}"


def _evaluations(output: str) -> list[Evaluation]:
    return read_results(open_store(output)).evaluations


def _metrics(evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """The headline figures by name, perturbed set first, with 95 % intervals over photographs."""
    metrics: dict[str, Any] = {}
    for test_set, evaluation in evaluations.items():
        prefix = "" if test_set == EVALUATION else "clean_"
        for name, key in (("seen", "seen"), ("held-out", "held_out")):
            part = evaluation.slice("training", name)
            for figure in ("roc_auc", "balanced_accuracy") if part else ():
                found = part.figures[figure]  # type: ignore[union-attr]
                metrics[f"{prefix}{key}_{figure}"] = found.value
                metrics[f"{prefix}{key}_{figure}_interval"] = [found.low, found.high]
    metrics["num_test_photographs"] = evaluations[EVALUATION].num_groups
    return metrics


def _metrics_beyond(part: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Of a set beyond the toys, each detector's figures on the whole: `real_published_roc_auc`."""
    whole = evaluations[0].whole
    metrics: dict[str, Any] = {f"num_{part}_images": whole.num_real + whole.num_synthetic}
    for one, who in zip(evaluations, ("", "published_", "adapted_"), strict=False):
        for figure in ("roc_auc", "false_positive_rate", "accuracy_synthetic"):
            found = one.whole.figures.get(figure)
            if found and found.value is not None:
                metrics[f"{part}_{who}{figure}"] = found.value
                metrics[f"{part}_{who}{figure}_interval"] = [found.low, found.high]
    return metrics
