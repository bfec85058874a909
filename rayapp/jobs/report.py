"""One page from evaluations: what was measured, beside what was published, and on what grounds."""

from rayapp.config.defaults import __version__
from rayapp.dataset.images import sha256
from rayapp.metrics.evaluation import EVALUATION_FILE, read_results
from rayapp.pages.page import Page
from rayapp.report.evidence import EMBEDDING_FILE, read_evidence
from rayapp.report.sections import _PUBLISHED, _TITLE, _published, _sections, _summary
from rayapp.report.settings import ReportSettings
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.storage.uris import open_store, read_uri

REPORT_FILE = "report.html"


def report(settings: ReportSettings) -> record.Run:
    """Write report.html.

    Raises:
        UserError: an evaluation, or the scored images behind it, is missing.
    """
    wanted = dict.fromkeys(settings.evaluations, EVALUATION_FILE)
    wanted |= dict.fromkeys(settings.embeddings, EMBEDDING_FILE)
    inputs = {u: sha256(read_uri(f"{u.rstrip('/')}/{name}")) for u, name in wanted.items()}
    inputs |= {
        f"run {u}": sha256(read_uri(f"{u.rstrip('/')}/{record.RUN_FILE}")) for u in settings.runs
    }
    run = record.start(
        "report", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    results = [read_results(open_store(uri)) for uri in settings.evaluations]
    evidence = [one for uri in settings.evaluations for one in read_evidence(uri)]
    measured = bool(evidence) or any(one.regressions for one in results)
    page = Page(
        title=settings.title or (_TITLE if measured else _PUBLISHED),
        summary=_summary(
            [one.evaluation for one in evidence],
            results[0].comparisons if results else [],
            [cases for one in results for cases in one.regressions],
        ),
        sections=_sections(evidence, results, settings) if measured else _published(settings),
        kicker="AI-generated or real",
        lead=settings.note,
        footer=f"imaginet-ray {__version__}",
    )
    run.claim()
    run.store.put(REPORT_FILE, page.html().encode())
    run.finish({"evaluations": len(evidence)}, made=(REPORT_FILE,))
    return run
