"""Calibrate a detector: `python jobs/calibrate.py --help`."""

from rayapp.calibrate import CalibrateSettings, calibrate
from rayapp.settings import run_job


def job(settings: CalibrateSettings) -> None:
    """Calibrate, then say how and how surely."""
    run = calibrate(settings)
    run.tell({"detector": "detector.json"}, f"python jobs/predict.py --detector {run.store.root}")
    fit = run.results
    print(f"method {fit['method']}, threshold {fit['threshold']:g}, unsure band {fit['band']}")
    if fit["warning"]:
        print(f"warning: {fit['warning']}")


if __name__ == "__main__":
    run_job(CalibrateSettings, job)
