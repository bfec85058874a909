"""Images that are kept, if somebody says where and for how long: by hash, without their names."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rayapp.serve.score_contract import SentImage
from rayapp.storage.uris import open_store

_KEPT = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}")


@dataclass(frozen=True)
class KeptImages:
    """A folder or bucket prefix of images, each by its sha256."""

    uri: str
    hours: float

    def put(self, images: Sequence[SentImage]) -> None:
        """Keep images; one that is there already stays as old as it is.

        Raises:
            OSError, UserError: as the store.
        """
        store = open_store(self.uri)
        for image in images:
            if image.error:
                continue
            name = image.sha256
            store.put(f"{name[:2]}/{name}", image.data, if_absent=True)

    def sweep(self) -> None:
        """Remove what was kept for as long as it may be; of what else lies there, nothing."""
        store, before = open_store(self.uri), time.time() - 3600 * self.hours
        kept = (stat for stat in store.list() if _KEPT.fullmatch(stat.key))
        store.delete([stat.key for stat in kept if stat.modified < before])
