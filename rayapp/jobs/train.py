"""Training: one worker without a GPU in this process, all else by Ray Train."""

from rayapp.cluster.session import on_demand, spared, start
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.run.resume import nothing_left
from rayapp.train.engine import Engine
from rayapp.train.loop import images_before, note, train_here
from rayapp.train.prepare import make_job, open_run
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import Job


def train(settings: TrainSettings) -> record.Run:
    """Train a detector, or go on with it; it lies in `<output>/detector`.

    Raises:
        UserError: wrong lists or settings, or an output that belongs to another run.
        JobFailed: training failed more often than `max_failures`.
    """
    job, inputs = make_job(settings)
    run = open_run(settings, inputs)
    if nothing_left(run):
        return run
    with on_demand(settings):
        if not settings.num_workers or (_is_small(settings) and spared()):
            return _train_here(job, run)
        start()
        from rayapp.jobs.train_workers import train_on_ray  # brings Ray Train with it

        return train_on_ray(job, run)


def _train_here(job: Job, run: record.Run) -> record.Run:
    with Progress("train", job.num_images) as progress:
        progress.skip(images_before(run))

        def on_step(engine: Engine) -> bool:
            progress.update(engine.images_done - progress.done, note=note(engine))
            return False

        return train_here(
            job, run, on_step=on_step, tell=lambda text: progress.update(0, note=text)
        )


def _is_small(settings: TrainSettings) -> bool:
    """Whether one worker does it all: Ray Train would take as long to start as many an epoch."""
    alone = (
        settings.num_workers == 1 and settings.min_workers is None and not settings.gpus_per_worker
    )
    return alone and settings.ingest == "indexed"
