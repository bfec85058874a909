"""Calibrate a detector, from images or stored scores.

imaginet calibrate --detector DIR --annotations LIST --root URI --output DIR
imaginet calibrate --detector DIR --reviews marks.csv --scores DIR --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.config.command_line import run_job


def job(settings: CalibrateJobSettings) -> None:
    """Calibrate, then say how and how surely."""
    from rayapp.calibrate.given import REGRESSIONS_FILE
    from rayapp.jobs.calibrate import calibrate_from_images
    from rayapp.run.commands import command

    run = calibrate_from_images(settings)
    then = command("predict", detector=run.store.root, input="FOLDER", output="DIR")
    run.print_summary({"detector": "detector.json"}, then)
    fit = run.results
    low, high = fit["band"] or (0, 0)
    band = f"{low:.4g} to {high:.4g}" if low < high else "none"
    print(f"method {fit['method']}, threshold {fit['threshold']:.6g}, unsure band {band}")
    for line in fit["decisions"]:
        print(line)
    if "called_wrong" in fit:
        wrong = fit["called_wrong"]
        listed = f": {run.store.uri(REGRESSIONS_FILE)}, for evaluate --regressions" * bool(wrong)
        print(f"of the marked images the detector before called {wrong:,} wrong{listed}")
    for line in fit.get("warnings", ()):
        print(f"warning: {line}")
    for uri, number in fit["leaked"].items():
        if number:
            print(f"warning: {number} of {run.counts['in']} calibration images are in {uri}")
    if fit["warning"]:
        print(f"warning: {fit['warning']}")


if __name__ == "__main__":
    run_job(CalibrateJobSettings, job, work="rayapp.jobs.calibrate")
