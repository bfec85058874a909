"""Images that none may be calibrated on: those of test and training lists and of manifests."""

from collections.abc import Sequence

import pyarrow as pa

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset import leakage, manifest
from rayapp.dataset.labels import LabelScheme, load_scheme, read_list
from rayapp.storage.uris import split_uri


def guarded_tables(against: Sequence[str], scheme: LabelScheme) -> dict[str, pa.Table]:
    """What each of `against` knows of its images: path, and sha256 and look where it has them."""
    found = {}
    for uri in against:
        if uri.endswith(".parquet"):
            table = manifest.read_table(*split_uri(uri))
            missing = {"path"} - set(table.column_names)
            if missing:
                raise UserError(f"{uri}: no manifest, it has no column path")
            found[uri] = table.select([c for c in leakage.COLUMNS if c in table.column_names])
        else:
            found[uri] = leakage.identities(read_list(uri, scheme).items, [])
    return found


def guarded(own: pa.Table, settings: CalibrateSettings) -> dict[str, int]:
    """How many calibration images are in each of `against`; under `clean` there may be none."""
    forbidden = guarded_tables(settings.against, load_scheme(settings.scheme))
    found = {uri: leakage.leaks(own, table) for uri, table in forbidden.items()}
    if settings.protocol == "clean":
        named = [(_called(uri), table) for uri, table in found.items()]
        leakage.refuse(named, own, "take other images, or --protocol legacy")
    return {uri: table.num_rows for uri, table in found.items()}


def _called(uri: str) -> str:
    """What a reader knows a manifest as: where the guard made it of a list, that list's name."""
    *_, folder, _, name = ["", "", *uri.split("/")]
    return name.removesuffix(".parquet") if folder == "against" else uri
