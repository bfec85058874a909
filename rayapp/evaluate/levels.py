"""Where the images and the lists of a suite lie: of a sweep, those of every strength."""

from collections.abc import Iterator
from dataclasses import dataclass

from rayapp.config.errors import UserError
from rayapp.dataset.suites import FOLDER, Suite, strength
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.storage.uris import open_store
from rayapp.transforms.perturbations import PLAIN, load_perturbation


@dataclass(frozen=True)
class Level:
    """A test set, or one strength of a sweep: where its images and its lists lie."""

    name: str
    value: float
    root: str | None
    uris: tuple[str, ...]


def levels(suite: Suite, settings: EvaluateSettings) -> Iterator[Level]:
    """Every strength of a sweep; of another suite the one test set.

    Raises:
        UserError: the folder of lists or of perturbed images isn't given.
    """
    root = settings.root.rstrip("/") if settings.root else None
    if suite.name == FOLDER:
        yield Level("", 0.0, root, suite.lists)
    elif suite.sweep is None:
        folder, files = lists_folder(settings, suite), suite.files(settings.protocol)
        yield Level("", 0.0, root, tuple(f"{folder}/{name}" for name in files))
    else:
        perturbation = load_perturbation(sweep_perturbation(suite, settings))
        if settings.sweeps is None:
            raise UserError(f"suite {suite.name}: give --sweeps, the folder of perturbed images")
        made = f"{settings.sweeps.rstrip('/')}/{perturbation.name}"
        store = open_store(made)
        there = {stat.key for stat in store.list("lists/")}
        if not there:
            raise UserError(
                f"{made}: no lists of perturbed images; run `imaginet perturb` with "
                f"--perturbation {perturbation.name} --output {made}"
            )
        names = [name.replace("test_annotations_", "test_") for name in suite.lists]
        for variant in perturbation.variant_names:
            at = "lists" if variant == PLAIN else f"lists/{variant}"
            value = 1.0 if variant == PLAIN else strength(variant)
            found = [f"{at}/{name}" for name in names if f"{at}/{name}" in there]
            if found:  # none: every image is too small for this strength
                yield Level(variant, value, made, tuple(store.uri(key) for key in found))


def sweep_perturbation(suite: Suite, settings: EvaluateSettings) -> str:
    """The name of the perturbation of a sweep."""
    assert suite.sweep is not None
    published = suite.sweep.legacy if settings.protocol == "legacy" else None
    return published or suite.sweep.clean


def lists_folder(settings: EvaluateSettings, suite: Suite) -> str:
    """Where the lists of the suites lie.

    Raises:
        UserError: neither lists nor root is given.
    """
    if settings.lists is None and settings.root is None:
        raise UserError(
            f"suite {suite.name}: give --lists, the folder of its lists ({', '.join(suite.lists)})"
        )
    return (settings.lists or f"{str(settings.root).rstrip('/')}/lists").rstrip("/")
