"""Say what is wrong with a dataset, in lists and images.

imaginet audit --root URI --annotations LIST… --output DIR [--lists-only]
imaginet audit --input IMAGES --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.audit.settings import AuditSettings
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES


def job(settings: AuditSettings) -> int:
    """Audit, then say what was found."""
    from rayapp.jobs.audit import FACTS, FOLDER, MANIFEST, PAGE, audit

    run = audit(settings)
    made = MANIFEST if run.store.stat(MANIFEST) else FOLDER  # of a large set
    where = {"page": PAGE, "facts": FACTS}
    run.print_summary(where if settings.lists_only else where | {"manifest": made})
    for finding in run.results["findings"]:
        print(f"{'wrong' if finding['wrong'] else 'remark'}: {finding['text']}")
    return EXIT_MISSES if run.counts["wrong"] else EXIT_DONE


if __name__ == "__main__":
    run_job(AuditSettings, job, work="rayapp.jobs.audit")
