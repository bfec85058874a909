"""Measure a detector on scored test images: `python jobs/evaluate.py --help`."""

from rayapp.evaluate.pipeline import CSV_FILE, EvaluateSettings, evaluate
from rayapp.metrics.evaluation import EVALUATION_FILE
from rayapp.settings import run_job


def job(settings: EvaluateSettings) -> None:
    """Evaluate, then say where the tables are."""
    run = evaluate(settings)
    run.tell(
        {"figures": EVALUATION_FILE, "table": CSV_FILE},
        f"python jobs/report.py --evaluations {run.store.root} --output DIR",
    )


if __name__ == "__main__":
    run_job(EvaluateSettings, job)
