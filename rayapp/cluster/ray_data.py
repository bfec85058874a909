"""How Ray Data behaves in every job: without chatter, and with no hold on what it gives up."""

import logging

import ray.data


def quiet() -> None:
    """No progress bars and messages of Ray Data's own; its log records keep no frames."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    logger = logging.getLogger("ray.data")
    logger.setLevel(logging.getLogger("ray").level)
    if not any(isinstance(one, _NoFrames) for one in logger.handlers):
        logger.handlers.insert(0, _NoFrames())


class _NoFrames(logging.Handler):
    """Puts a record's exception into words, so that whoever keeps the record keeps no frames.

    Ray Data (2.60) logs a lost worker with the exception. Its traceback holds the frame of
    `DataOpTask.on_data_ready`, whose `self` leads to the operator and its pool of actors: as long
    as a handler keeps the record (a test's capture, a ring of the last errors), the pool's actors
    keep their CPUs, and the next pass waits for ever. tests/cluster/test_stream.py keeps them.
    """

    _words = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Words for frames."""
        if record.exc_info:
            record.exc_text = record.exc_text or self._words.formatException(record.exc_info)
            record.exc_info = None
