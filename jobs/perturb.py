"""Make a perturbed test set that is the same on any machine.

imaginet perturb --annotations LIST… --root URI --output URI --perturbation imaginet-test
imaginet perturb --input IMAGES --output URI --perturbation imaginet-test
"""

import os

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.perturb.settings import PerturbSettings


def job(settings: PerturbSettings) -> int:
    """Perturb, then say what was made, and name what could not be."""
    from rayapp.jobs.perturb import perturb
    from rayapp.perturb.made_parts import FOLDER
    from rayapp.perturb.manifest_rows import MANIFEST
    from rayapp.perturb.preview import PREVIEW
    from rayapp.run.commands import command

    run = perturb(settings)
    made = MANIFEST if run.store.stat(MANIFEST) else FOLDER  # of a large set
    manifest = run.store.uri(made)
    where = {"manifest": made} if settings.input else {"manifest": made, "lists": "lists"}
    where |= {"preview": PREVIEW} if settings.preview else {}
    own = {"scheme": settings.scheme} if os.path.isabs(settings.scheme) else {}
    own |= {} if made == MANIFEST else {"root": run.store.uri()}
    run.print_summary(
        where, command("predict", detector="DIR", input=manifest, **own, output="DIR")
    )
    for variant, count in run.results["variants"].items():
        if count["skipped"]:
            print(f"{variant}: {count['ok']:,} written, {count['skipped']:,} images are too small")
    misses = run.results["misses"]
    for line in misses:
        print(f"not perturbed: {line}")
    if run.counts["failed"] > len(misses):
        more = run.counts["failed"] - len(misses)
        print(f"not perturbed: {more:,} more, the rows with status failed in {manifest}")
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PerturbSettings, job, work="rayapp.jobs.perturb")
