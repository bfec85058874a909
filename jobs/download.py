"""Fetch the images that annotation lists name, and nothing else.

python jobs/download.py --sources coco generated --annotations test_annotations.txt --root data
"""

from rayapp.config.settings import run_job
from rayapp.download.settings import DownloadSettings
from rayapp.jobs.download import download

if __name__ == "__main__":
    run_job(DownloadSettings, download)
