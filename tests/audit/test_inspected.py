"""What inspected images tell is the same of parts as of the whole."""

import copy
import pickle

import numpy as np
import pyarrow as pa

from rayapp.audit.findings import of_a_set
from rayapp.audit.inspect import EXTRA
from rayapp.audit.inspected import REAL, SYNTHETIC, UNLABELLED, Inspected
from rayapp.dataset import manifest
from rayapp.dataset.repeats import repeats_of


def rows(count: int = 300) -> pa.Table:
    """Images of two containers, every tenth broken and every twentieth missing."""
    rng = np.random.default_rng(1)
    found = []
    for at in range(count):
        failed = at % 10 == 3
        found.append(
            {
                "row": at,
                "path": f"{at:04d}.png",
                "origin": [None, 0, 1][at % 3],
                "status": "failed" if failed else "ok",
                "error": "cut off" if failed else "",
                "sha256": None if at % 20 == 3 else f"{at % 250:064x}",
                "container": ["PNG", "JPEG"][at % 2],
                "bit_depth": 8,
                "declared": ["nothing", "camera", "ai-generated"][int(rng.integers(3))],
                "bytes": at,
                "width": 2 * at,
                "height": 3,
            }
        )
    facts = manifest.schema(None, EXTRA)
    own = [pa.field("row", pa.int64()), *facts, pa.field("origin", pa.int64())]
    return pa.Table.from_pylist(found, schema=pa.schema(own))


def outcome(seen: Inspected) -> object:
    kinds = {kind: sums.tolist() for kind, sums in seen.kinds.items()}
    lines = [
        (one.count, one.lines) for one in (seen.missing, seen.broken, seen.against, seen.camera)
    ]
    return seen.rows, seen.failed, kinds, lines, seen.declared


def test_parts_in_any_order_add_up_to_the_whole():
    whole = rows()
    seen, summed = Inspected().see(whole), Inspected()
    parts = [whole.slice(at, 37) for at in range(0, 300, 37)]
    for part in reversed(parts):
        one = Inspected().see(part)
        summed.merge(pickle.loads(pickle.dumps(copy.deepcopy(one))))
    assert outcome(summed) == outcome(seen)
    assert seen.failed == 30
    assert (seen.missing.count, seen.broken.count) == (15, 15)
    assert {origin for origin, _, _ in seen.kinds} == {REAL, SYNTHETIC, UNLABELLED}
    repeats = repeats_of([whole])
    assert of_a_set(summed, repeats) == of_a_set(seen, repeats)


def test_findings_of_a_set_without_labels_name_files_and_repeats():
    table = rows().drop_columns(["origin"])
    kinds = [one.kind for one in of_a_set(Inspected().see(table), repeats_of([table]))]
    assert kinds == ["missing", "broken", "copy"]
