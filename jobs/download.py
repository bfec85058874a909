"""Fetch the images that annotation lists name, and nothing else.

imaginet download --sources coco generated --annotations test_annotations.txt --output data
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.download.settings import DownloadSettings


def job(settings: DownloadSettings) -> int:
    """Download, then say what came and what could not be had."""
    from rayapp.jobs.download import MANIFEST, MISSES, download
    from rayapp.run.commands import command

    run = download(settings)
    if settings.dry_run:
        return EXIT_DONE
    counts = run.counts
    print(f"{counts['ok']:,} images are in place and verified, {counts['failed']:,} missing")
    print(f"manifest: {run.store.uri(MANIFEST)}")
    if counts["failed"]:
        print(f"misses, with reasons: {run.store.uri(MISSES)} (the same command tries them again)")
        return EXIT_MISSES
    if settings.annotations:
        more = {"scheme": settings.scheme, "root": run.store.root}
        print(f"next: {command('prune', annotations=settings.annotations, **more)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_job(DownloadSettings, job, work="rayapp.jobs.download")
