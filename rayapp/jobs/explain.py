"""Evidence sheets: each image is decoded, judged, mapped and written as a page, in this process."""

from collections.abc import Container
from itertools import chain, count

from rayapp.config.errors import JobFailed
from rayapp.dataset.images import ImageError, sha256
from rayapp.explain.evidence_sheet import sheet
from rayapp.explain.gather import gather
from rayapp.explain.settings import ExplainSettings
from rayapp.models.folder import load_detector
from rayapp.run import record
from rayapp.storage.uris import read_uri

_MOST_NAME = 200  # bytes of a name; file systems take 255


def explain(settings: ExplainSettings) -> record.Run:
    """One page an image, NAME.html.

    Raises:
        UserError: no such detector or file.
        JobFailed: not one image could be read.
    """
    data = {uri: read_uri(uri) for uri in settings.image}
    detector = load_detector(settings.detector)
    hashes = {
        "detector": detector.hash(),
        "input": record.digest(*(sha256(one).encode() for one in data.values())),
    }
    run = record.start(
        "explain",
        settings,
        hashes,
        output=settings.output,
        overwrite=settings.overwrite,
        adds=True,  # no sheet of another image goes
    )
    if run.state == "done":
        return run
    run.claim()
    pages: dict[str, str] = {}
    failures: list[str] = []
    for uri, content in data.items():
        page = _free(uri.rpartition("/")[2], pages)
        try:
            found = gather(detector, settings.detector, content, uri, settings.threshold)
        except ImageError as error:
            failures.append(f"{uri}: {error}")
            continue
        run.store.put(page, sheet(found).html().encode())
        pages[page] = f"{found.judgement.verdict}, p = {found.judgement.probability or 0:.3f}"
    if not pages:
        raise JobFailed(f"no image could be read; first: {failures[0]}")
    counts = {"in": len(data), "explained": len(pages), "failed": len(failures)}
    run.finish(counts, {"failures": failures, "verdicts": pages}, made=list(pages))
    return run


def _free(name: str, taken: Container[str]) -> str:
    """A page's name, with a number where pictures of several folders share it."""
    stem = name.encode()[:_MOST_NAME].decode(errors="ignore")
    numbered = (f"{stem}-{number}.html" for number in count(2))
    return next(one for one in chain([f"{stem}.html"], numbered) if one not in taken)
