"""Train a detector: an encoder by contrast or cross-entropy, then a head on it."""

from rayapp.settings import run_job
from rayapp.train.loop import train
from rayapp.train.settings import TrainSettings


def main(settings: TrainSettings) -> None:
    """Train, then say where the detector is."""
    run = train(settings)
    for stage, loss in run.results["loss"].items():
        print(f"{stage}: {run.counts['items'][stage]:,} images, last loss {loss:.4f}")
    if run.counts["unreadable"]:
        print(f"{run.counts['unreadable']} images could not be read; run.json names them")
    folder = run.store.uri(run.results["detector"])
    print(f"detector {run.results['detector_hash'][:12]} in {folder}")
    print(f"next: python jobs/predict.py --detector {folder} --input FOLDER --output FOLDER")


if __name__ == "__main__":
    run_job(TrainSettings, main)
