"""Score images by a detector: `python jobs/predict.py --detector DIR --input FOLDER`."""

from rayapp.predict.pipeline import CSV_FILE, PredictSettings, predict
from rayapp.scores import SCORES_FILE
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def job(settings: PredictSettings) -> int:
    """Score, then name what could not be read."""
    run = predict(settings)
    run.tell({"scores": SCORES_FILE, "for people": CSV_FILE})
    failures = run.results["failures"]
    for line in failures:
        print(f"not scored: {line}")
    more = run.counts["failed"] - len(failures)
    if more:
        print(f"not scored: {more:,} more, named in {run.store.uri(CSV_FILE)}")
    return EXIT_MISSES if failures else EXIT_DONE


if __name__ == "__main__":
    run_job(PredictSettings, job)
