"""Search settings of training or calibration.

imaginet tune --config NAME --annotations LIST… --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.tune.settings import TuneSettings


def job(settings: TuneSettings) -> int:
    """Search, then say what was found."""
    from rayapp.jobs.tune import tune
    from rayapp.run.commands import command
    from rayapp.tune.results import BEST_FILE, TRIALS_FILE
    from rayapp.tune.study import STUDY_FILE
    from rayapp.tune.tune_page import PAGE_FILE

    run = tune(settings)
    found = run.results
    for name, value in found["found"].items():
        print(f"  {name} = {value}")
    if found["first_failure"]:
        print(f"{run.counts['failed']} trials failed; first: {found['first_failure']}")
    if found["verdict"]:
        print(found["verdict"])
    job_name = "train" if settings.kind == "train" else "calibrate"
    then = command(job_name, config=run.store.uri(BEST_FILE))
    if run.counts["left"]:
        then = "the same command goes on with the trials that are left"
    elif settings.kind == "train" and not found["verdict"]:
        then = "the same command with --compare 3 tells whether the difference is real"
    places = {"best": BEST_FILE, "trials": TRIALS_FILE, "page": PAGE_FILE, "study": STUDY_FILE}
    run.print_summary(places, then)
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(TuneSettings, job, work="rayapp.jobs.tune")
