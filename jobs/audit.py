"""Say what is wrong with a dataset, in lists and images.

imaginet audit --root URI --annotations LIST… --output DIR [--lists-only]
"""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.audit.pipeline import FACTS, MANIFEST, PAGE, AuditSettings, audit
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def job(settings: AuditSettings) -> int:
    """Audit, then say what was found."""
    run = audit(settings)
    where = {"page": PAGE, "facts": FACTS}
    run.tell(where if settings.lists_only else where | {"manifest": MANIFEST})
    for finding in run.results["findings"]:
        print(f"{'wrong' if finding['wrong'] else 'remark'}: {finding['text']}")
    return EXIT_MISSES if run.counts["wrong"] else EXIT_DONE


if __name__ == "__main__":
    run_job(AuditSettings, job)
