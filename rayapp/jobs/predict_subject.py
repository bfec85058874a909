"""What scores, as the settings of predict name it: a detector, or a user's own file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayapp.config.errors import JobFailed, UserError
from rayapp.models.basis import threshold_line
from rayapp.models.detector import Detector
from rayapp.models.detector_spec import Preprocessing, TrustDeclared, View
from rayapp.models.folder import load_detector, save_detector
from rayapp.models.scope import NOT_RECORDED
from rayapp.models.verdicts import Judge
from rayapp.predict.score_maps import no_fused_map
from rayapp.predict.settings import PredictSettings
from rayapp.predict.user_detector import SUFFIX, UserDetector, read_user_detector
from rayapp.storage.uris import open_store

if TYPE_CHECKING:
    from rayapp.predict.gallery_selection import GallerySelection
    from rayapp.predict.score_tables import Tally
    from rayapp.run.record import Run

_TAKEN = ("ms_per_image", "peak_mb")
SEEN_DETECTOR = "detector"  # under the output: the detector under the view that was asked for


@dataclass(frozen=True)
class Subject:
    """What scores: a detector, or a user's own file; and what its logits mean."""

    hash: str
    judge: Judge
    detector: Detector | None = None
    own: UserDetector | None = None
    seen_otherwise: Detector | None = None

    @property
    def view(self) -> Preprocessing | None:
        """How it sees an image; None: whole, or each part of a fusion in another way."""
        if self.detector is None:
            return None
        seen = [one.spec.preprocessing for one in self.detector.parts or [self.detector]]
        return seen[0] if len({one.as_cut for one in seen}) == 1 else None

    @property
    def no_map(self) -> str:
        """Why a fusion whose detectors have tiles keeps no map of them; `` where none is missed."""
        parts = self.detector.parts if self.detector else []
        has_tiles = any(one.spec.preprocessing.sees_tiles for one in parts)
        return no_fused_map(parts, of_patches=False) if has_tiles else ""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Of a fusion's detectors, in its order."""
        fusion = self.detector.spec.fusion if self.detector else None
        return tuple(part.name for part in fusion.parts) if fusion else ()

    @property
    def scope_line(self) -> str:
        """What its verdicts rest on, in one line."""
        return self.detector.scope_line if self.detector else NOT_RECORDED


def subject_of(settings: PredictSettings) -> Subject:
    """Load it, as `load_subject`."""
    return load_subject(
        settings.detector,
        settings.view,
        settings.view_size,
        settings.threshold,
        settings.trust_declared,
    )


def load_subject(
    uri: str,
    of_view: View | None = None,
    view_size: int | None = None,
    threshold: float | None = None,
    trust_declared: TrustDeclared = "none",
) -> Subject:
    """Load what a URI names; the rest as in the settings of predict.

    Raises:
        UserError: no such detector; a view for a file of one's own.
    """
    if uri.endswith(SUFFIX):
        if of_view or view_size:
            raise UserError("--view: a detector of your own gets whole images; leave it out")
        own = read_user_detector(uri)
        return Subject(own.hash, Judge("own", None, threshold, (), trust_declared), own=own)
    stored = load_detector(uri)
    detector = stored.seen_as(of_view, view_size)
    view, labels = detector.spec.preprocessing, detector.spec.labels
    classes = labels.classes if detector.spec.architecture.head.num_outputs > 1 else ()
    seen_as = "fusion" if detector.spec.fusion else f"{view.view}-{view.size}"
    judge = Judge(seen_as, detector.spec.calibration, threshold, classes, trust_declared)
    otherwise = detector if detector is not stored else None
    return Subject(detector.hash(), judge, detector, seen_otherwise=otherwise)


def facts_of(
    settings: PredictSettings, subject: Subject, results: dict[str, Any]
) -> dict[str, Any]:
    """How the scores came about, for the page that shows them."""
    judge = subject.judge
    own = judge.calibration if settings.threshold is None else None  # another promises nothing
    promised = "; ".join(line.strip() for line in own.describe()) if own else ""
    return {
        "detector": settings.detector,
        "images": settings.input,
        "seen as": judge.preprocessing,
        "perturbation": settings.perturbation or "none: images as they are",
        "decided": threshold_line(judge),
        "calibration": _calibration(judge),
        "what the detector rests on": subject.scope_line,
        **({"on the calibration images": promised} if promised else {}),
        "precision": results["precision"]["used"],
        "ms an image, of one worker": results["ms_per_image"],
        "images a second, in all": results["images_per_s"],
        "peak memory of a worker (MB)": results["peak_mb"],
    }


def _calibration(judge: Judge) -> str:
    found = judge.calibration
    return f"{found.method}, on {found.n:,} images" if found else "none"


def told(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    seen: tuple[Tally, GallerySelection],
    left_out: Counter[str],
    results: dict[str, Any],
) -> None:
    """Add to `results` what the end tells; keep the detector that saw otherwise than it is stored.

    Raises:
        JobFailed: not one image could be scored.
    """
    tally, selection = seen
    if tally.failed == tally.rows:
        raise JobFailed(
            f"none of {tally.failed} inputs could be scored; first: {tally.failures[0]}"
        )
    if subject.seen_otherwise:
        save_detector(subject.seen_otherwise, open_store(run.store.uri(SEEN_DETECTOR)))
    results |= {
        "scope": subject.scope_line,
        "failures": tally.failures,
        "unnamed": tally.unnamed,
        "verdicts": {word: selection.counts[word] for word in subject.judge.words},
        "nothing_to_judge": dict(selection.nothing.most_common()),
        "declared": dict(tally.declared),
        "conflicts": selection.conflicts,
        "flips": selection.flips,
        "threshold": threshold_line(subject.judge),
        "no_map": subject.no_map,
        "look_at_first": tally.look_at_first,
        "left_out": dict(left_out.most_common()),
    }
    if tally.ms:  # not of stored scores
        results["ms_per_image"] = round(tally.ms / max(results["scored_now"], 1), 3)
        results["peak_mb"] = round(tally.peak_mb, 1)
    # Where nothing was left to score: a followed folder of which only some images are gone.
    results |= {name: run.results.get(name, 0.0) for name in _TAKEN if name not in results}
