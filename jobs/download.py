"""Fetch the images that annotation lists name, and nothing else.

imaginet download --sources coco generated --annotations test_annotations.txt --root data
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.download.settings import DownloadSettings


def job(settings: DownloadSettings) -> int:
    """Download; it says by itself what came and what could not be had."""
    from rayapp.jobs.download import download

    return download(settings)


if __name__ == "__main__":
    run_job(DownloadSettings, job, work="rayapp.jobs.download")
