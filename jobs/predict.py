"""Score images by a detector.

imaginet predict --detector DIR --input FOLDER --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.predict.settings import PredictSettings


def job(settings: PredictSettings) -> int:
    """Score, then name what could not be read."""
    from rayapp.dataset.scores import SCORES_FILE
    from rayapp.jobs.predict import SEEN_DETECTOR, predict
    from rayapp.predict.csv_sheet import CSV_FILE
    from rayapp.predict.gallery import GALLERY_FILE
    from rayapp.predict.summary import summary_lines

    run = predict(settings)
    where = {"scores": SCORES_FILE, "for people": CSV_FILE}
    if settings.gallery:
        where["to look at"] = GALLERY_FILE
    if run.store.stat(f"{SEEN_DETECTOR}/detector.json"):
        where["detector, as seen"] = SEEN_DETECTOR
    run.print_summary(where)
    found = run.results
    if "scope" in found:  # not where an earlier version scored
        print(f"  the detector: {found['scope']}")
    print(
        f"  {found['ms_per_image']:,.1f} ms an image of one worker, {found['images_per_s']:,.1f} "
        f"images/s in all, {found['peak_mb']:,.0f} MB at most in one, {found['precision']['used']}"
    )
    for line in summary_lines(run.counts, found):
        print(line)
    for line in found["failures"]:
        print(f"not scored: {line}")
    if found["unnamed"]:
        print(f"not scored: {found['unnamed']:,} more, named in {run.store.uri(CSV_FILE)}")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PredictSettings, job, work="rayapp.jobs.predict")
