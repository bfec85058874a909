"""Files that travel with the package: label schemes, sources, perturbations, recipes, the jobs."""

import os
from pathlib import Path

from rayapp.config.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries these folders inside the package; a checkout has them beside it.
_ROOTS = (_PACKAGE / "_shipped", _PACKAGE.parent)


def resource(folder: str, name_or_path: str, suffix: str = ".yaml") -> Path:
    """Path of a shipped file by its bare name, or of a user's own file by its path.

    Args:
        folder: `annotations`, `configs`, `configs/perturbations`, `configs/suites`, …
        name_or_path: `imaginet` finds `<folder>/imaginet.yaml`; a file of that path wins.
        suffix: ending of the shipped files.

    Raises:
        UserError: nothing by that name; the line lists what there is.
    """
    own = os.path.abspath(os.path.expanduser(name_or_path))
    if os.path.isfile(own):
        return Path(own)
    if "/" not in name_or_path.removeprefix(f"{folder}/"):
        bare = name_or_path.removeprefix(f"{folder}/").removesuffix(suffix)
        shipped = shipped_folder(folder) / f"{bare}{suffix}"
        if os.path.isfile(shipped):  # Path.is_file raises for a name that is too long
            return shipped
    known = ", ".join(shipped_names(folder, suffix)) or "none"
    raise UserError(f"{name_or_path}: no such file, and no {folder}/ of that name (known: {known})")


def shipped_names(folder: str, suffix: str = ".yaml") -> list[str]:
    """Sorted bare names of the files that the package ships in a folder."""
    return sorted(p.name.removesuffix(suffix) for p in shipped_folder(folder).glob(f"*{suffix}"))


def shipped_folder(folder: str) -> Path:
    """Where the package has a folder of what it ships."""
    return next((root / folder for root in _ROOTS if (root / folder).is_dir()), _ROOTS[0] / folder)
