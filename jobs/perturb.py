"""Make a perturbed test set: `python jobs/perturb.py --help`."""

from rayapp.perturb.pipeline import PerturbSettings, perturb
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def job(settings: PerturbSettings) -> int:
    """Perturb, then say what was made."""
    run = perturb(settings)
    run.tell(
        {"manifest": "manifest.parquet", "lists": "lists"},
        f"python jobs/predict.py --detector DIR --input {run.store.uri('manifest.parquet')}",
    )
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PerturbSettings, job)
