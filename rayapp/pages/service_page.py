"""The page of the service: images are dropped on it, judged by the service, and marked.

It is a shell of words and two files; all that it shows of images its script asks of the service
and keeps in the browser. Marks are exported as the gallery's are (templates/marks.js).
"""

from functools import cache

from rayapp.models import basis
from rayapp.models.verdicts import REAL, SYNTHETIC, UNSURE
from rayapp.pages.page import environment, shipped

# Nothing from elsewhere, nothing inline; previews of chosen files are blobs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SCRIPTS = ("marks.js", "service_card.js", "service_queue.js", "service_detectors.js", "service.js")
_FILES = {
    "/page.js": ("text/javascript; charset=utf-8", _SCRIPTS),
    "/page.css": ("text/css; charset=utf-8", ("page.css", "service.css")),
}


@cache
def service_page() -> str:
    """The HTML, to be sent with `CONTENT_SECURITY_POLICY`."""
    words = {"real": REAL, "synthetic": SYNTHETIC, "unsure": UNSURE}
    return environment().get_template("service.html.j2").render(basis=basis, words=words)


@cache
def service_assets() -> dict[str, tuple[str, bytes]]:
    """Path → media type and content of what the page refers to."""
    return {
        path: (kind, "\n".join(map(shipped, names)).encode())
        for path, (kind, names) in _FILES.items()
    }
