"""Write a detector as an ONNX file or a Hugging Face folder.

imaginet export DETECTOR --to onnx|huggingface --output DIR
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE
from rayapp.export.settings import ExportSettings


def job(settings: ExportSettings) -> int:
    """Export once, then say how near it is and what to run next."""
    from rayapp.jobs.export import export, print_summary
    from rayapp.run.commands import command

    run = export(settings)
    print_summary(run)
    print(f"next: {command('predict', detector=run.store.root, input='FOLDER', output='DIR')}")
    return EXIT_DONE


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].startswith("-"):  # the detector may stand alone
        given.insert(0, "--detector")
    run_job(ExportSettings, job, given, work="rayapp.jobs.export")
