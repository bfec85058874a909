"""Train a detector.

imaginet train --config NAME --annotations LIST… --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.train.settings import TrainSettings


def job(settings: TrainSettings) -> int:
    """Train, then say where the detector is."""
    from rayapp.jobs.train import train
    from rayapp.run.commands import command

    run = train(settings)
    folder = run.store.uri(run.results["detector"])
    run.print_summary(
        {"detector": "detector", "metrics": "metrics.csv", "curves": "tensorboard"},
        command("predict", detector=folder, input="FOLDER", output="DIR"),
    )
    return EXIT_MISSES if run.counts["unreadable"] else EXIT_DONE


if __name__ == "__main__":
    run_job(TrainSettings, job, work="rayapp.jobs.train")
