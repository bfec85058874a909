"""Fetch the images that annotation lists name, and nothing else.

imaginet download --sources coco generated --annotations test_annotations.txt --root data
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.settings import run_job
from rayapp.download.settings import DownloadSettings
from rayapp.jobs.download import download

if __name__ == "__main__":
    run_job(DownloadSettings, download)
