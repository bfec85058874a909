"""The draws `published`: the published test set's own draws, for the lists they were drawn for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayapp.config.errors import UserError
from rayapp.dataset.labels import AnnotationList
from rayapp.perturb.file_names import Target
from rayapp.transforms.operations import SizeHW
from rayapp.transforms.published_draws import PUBLISHED_WORKERS, published_draws, published_items

_UNKNOWN: SizeHW = (1, 1)


@dataclass(frozen=True)
class Replayed:
    """The published plan of one item as JSON, or why it can't be known."""

    plan: str | None
    fault: str | None


def check_published(lists: Sequence[AnnotationList]) -> None:
    """The draws hang on the order of the lists: the i-th holds the generator with code i.

    Raises:
        UserError: another order, or a list of several generators.
    """
    scheme = lists[0].scheme
    names = [scheme.names("generator")[code] for code in sorted(scheme.names("generator"))]
    for index, one in enumerate(lists):
        pairs = zip(one.column("origin"), one.column("generator"), strict=True)
        found = {code for origin, code in pairs if origin}
        if found != {index}:
            held = ", ".join(scheme.names("generator")[code] for code in sorted(found)) or "none"
            raise UserError(
                f"{one.list_uri}: list {index + 1} of draws published holds the generator {held}; "
                f"the order is that of the codes: {', '.join(names)}"
            )


def replay(
    planned: Sequence[Sequence[Target]], sizes: Mapping[str, SizeHW | None]
) -> dict[str, Replayed]:
    """The published plan of every item, by its id.

    An item's draw hangs on the sizes of the items before it in the stream of its loader's worker
    (an eighth of a list); behind an unreadable image the stream is lost, and its items say so.

    Args:
        planned: the items of each list, in list order.
        sizes: path → (height, width), None where the file can't be read.
    """
    draws = published_draws(
        [[sizes[target.source_path] or _UNKNOWN for target in named] for named in planned]
    )
    result = {}
    for named, drawn in zip(planned, draws, strict=True):
        for worker in range(PUBLISHED_WORKERS):
            lost = None
            for at in published_items(len(named), worker):
                target, size_HW = named[at], sizes[named[at].source_path]
                if lost is None and size_HW is not None:
                    result[target.item.id] = Replayed(drawn[at].plan(size_HW).to_json(), None)
                else:
                    lost = lost or target.source_path
                    fault = f"its published draw hangs on the size of {lost}, which is unreadable"
                    result[target.item.id] = Replayed(None, fault)
    return result
