"""Score images by a detector.

imaginet predict --detector DIR --input FOLDER --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.paths import shown
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.predict.settings import PredictSettings


def job(settings: PredictSettings) -> int:
    """Score, then name what could not be read."""
    from rayapp.dataset.scores import SCORES_FILE, SCORES_FOLDER
    from rayapp.jobs.predict import predict
    from rayapp.jobs.predict_follow import follow
    from rayapp.jobs.predict_subject import SEEN_DETECTOR
    from rayapp.predict.csv_sheet import CSV_FILE
    from rayapp.predict.gallery import GALLERY_FILE
    from rayapp.predict.summary import summary_lines

    if settings.follow_every_s is None:
        run = predict(settings)
    elif (last := follow(settings)) is None:
        print("nothing came")
        return EXIT_DONE
    else:
        run = last
    in_one = run.store.stat(SCORES_FILE) is not None  # of a large set the scores are a folder
    where = {"scores": SCORES_FILE, "for people": CSV_FILE} if in_one else {"scores": SCORES_FOLDER}
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
        print(shown(line))
    for line in found["failures"]:
        print(f"not scored: {shown(line)}")
    if found["unnamed"]:
        table = CSV_FILE if in_one else SCORES_FOLDER
        print(f"not scored: {found['unnamed']:,} more, named in {run.store.uri(table)}")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PredictSettings, job, work="rayapp.jobs.predict")
