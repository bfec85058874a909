"""The figures that evaluate stored, read back; those of another version are named."""

import json

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.storage.store import Store


def read_results(store: Store) -> Results:
    """What evaluate stored in a folder.

    Raises:
        UserError: there is nothing, or nothing that this version writes.
    """
    uri = store.uri(EVALUATION_FILE)
    where = f"{uri}: not what evaluate writes now, evaluate again"
    try:
        return validated(Results, json.loads(store.get(EVALUATION_FILE)), lambda _: where)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
