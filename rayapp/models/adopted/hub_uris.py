"""How a detector is named: a folder, a file or `hf://OWNER/NAME[@REVISION]`, and its labels.

Which of a stranger's classes mean synthetic may be said with the name, so that it reaches whoever
loads the detector, on whatever machine: `FOLDER#synthetic=LABEL_1,LABEL_2`.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from pydantic import Field

HUB = "hf://"
SYNTHETIC_LABELS: Any = Field(
    (),
    description="of a classifier of others: classes that mean synthetic, where their names do not "
    "tell",
)
_LABELS = "#synthetic="


def split_labels(uri: str) -> tuple[str, tuple[str, ...]]:
    """The name itself, and the labels that are said to mean synthetic."""
    plain, found, labels = uri.partition(_LABELS)
    return plain, tuple(unquote(one) for one in labels.split(",")) if found and labels else ()


def with_labels(uri: str, labels: Sequence[str]) -> str:
    """The name with these labels; as it is where none are given, or it has its own."""
    if not labels or _LABELS in uri:
        return uri
    return uri + _LABELS + ",".join(quote(label, safe="") for label in labels)


def labelled(data: Any) -> Any:
    """Settings as given, the labels of `synthetic_labels` put to each detector's name."""
    labels = data.get("synthetic_labels") if isinstance(data, dict) else None
    if not labels or not isinstance(labels, str | list | tuple):
        return data  # what is no name of a class is refused where the field is read
    labels = [labels] if isinstance(labels, str) else list(labels)
    for name in ("detector", "detectors"):
        given = data.get(name)
        if isinstance(given, str):
            data = data | {name: with_labels(given, labels)}
        elif isinstance(given, list | tuple):
            data = data | {name: [with_labels(str(one), labels) for one in given]}
    return data
