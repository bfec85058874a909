"""What annotate is given: its settings, and the images that they name, with their labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from rayapp.annotate.folder_layout import Labelled, by_layout, parse_layout
from rayapp.annotate.propose import propose
from rayapp.annotate.recognise import folders_of, recognise, subset_level, subset_levels
from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.table import from_table
from rayapp.annotate.words import is_subset, subset_of
from rayapp.config.errors import UserError
from rayapp.dataset.among_files import describe_left_out, images_among
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, split_uri


@dataclass(frozen=True)
class Found:
    """Where paths start, the labelled images, and image files of no pattern of the layout.

    What lies among them and is no image is counted in `left_out`, by its kind.
    """

    root: Store
    images: list[Labelled]
    other: list[str]
    layout: str = ""
    left_out: Counter[str] = field(default_factory=Counter)


def find(settings: AnnotateSettings) -> Found:
    """The images that the settings name, and what is known of them before one is read.

    Raises:
        UserError: no image, no layout that tells which are real, or one that finds none.
    """
    if settings.input.endswith((".csv", ".parquet")):
        root = open_store(settings.root) if settings.root else (split_uri(settings.input)[0])
        images = from_table(settings.input)
        if settings.split_by_folder is False:
            images = [replace(one, subset="") for one in images]
        return Found(root, images, [])
    root = open_store(settings.input)
    paths, left_out = images_among(root, root.list())
    if not paths:
        others = f" (left out: {describe_left_out(left_out)})" if left_out else ""
        raise UserError(f"{settings.input}: no such folder, or no image in it{others}")
    name = PurePosixPath(root.root).name
    layout = settings.layout or recognise(paths, name)
    if layout is None:
        raise UserError(
            f"{settings.input}: its folders' names don't tell which images are real "
            f"and which synthetic; give {propose(paths)}"
        )
    patterns = parse_layout(layout)
    images, other = by_layout(paths, patterns)
    for origin in sorted({pattern.origin for pattern in patterns}):
        if not any(one.origin == origin for one in images):
            raise UserError(
                f"--layout {settings.layout}: finds no {origin} image; the first image "
                f"there is {paths[0]}"
            )
    if settings.split_by_folder is not False:
        images = _with_subsets(images, name, settings)
    return Found(root, images, other, layout, left_out)


def _with_subsets(
    images: Sequence[Labelled], name: str, settings: AnnotateSettings
) -> list[Labelled]:
    """With the folder of a published split that each lies in; as they are where there is none."""
    tree = folders_of(one.path for one in images)
    levels = subset_levels(tree)
    if settings.split_by_folder and not levels:  # train alone is meant, too
        levels = {k for folders in tree for k, one in enumerate(folders) if subset_of(one)}
    own = (
        name if is_subset(name) and (settings.split_by_folder or subset_of(name) != "train") else ""
    )
    if settings.split_by_folder and not levels and not own:
        raise UserError(f"--split-by-folder: no folder train, val or test in {settings.input}")
    at = {folders: subset_level(folders, levels) for folders in tree}
    found = []
    for one in images:
        folders = tuple(one.path.split("/")[:-1])
        level = at[folders]
        found.append(replace(one, subset=own if level is None else folders[level]))
    return found
