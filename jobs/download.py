"""Fetch the images that annotation lists name, and nothing else.

imaginet download --sources coco generated --annotations test_annotations.txt --root data
"""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.download.options import DownloadSettings
from rayapp.download.pipeline import download
from rayapp.settings import run_job

if __name__ == "__main__":
    run_job(DownloadSettings, download)
