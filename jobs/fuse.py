"""Make one detector of several, fitted on scores and calibrated as a whole.

imaginet fuse --detectors DIR DIR… --annotations LIST --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.fuse.settings import FuseSettings


def job(settings: FuseSettings) -> None:
    """Fuse, then say what each detector adds and how the whole decides."""
    from rayapp.fuse.fusion_summary import lines
    from rayapp.jobs.fuse import DETECTOR_FOLDER, fuse
    from rayapp.run.commands import command

    run = fuse(settings)
    made = run.store.uri(DETECTOR_FOLDER)
    then = command("predict", detector=made, input="FOLDER", output="DIR")
    run.print_summary({"detector": f"{DETECTOR_FOLDER}/detector.json"}, then)
    for line in lines(run.results, [*settings.detectors, made]):
        print(line)


if __name__ == "__main__":
    run_job(FuseSettings, job, work="rayapp.jobs.fuse")
