"""What a report is made of: evaluations, and the scored images that they rest on."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme, load_scheme
from rayapp.metrics.changes import Changes
from rayapp.metrics.evaluation import Evaluation, read_results
from rayapp.metrics.scored import Scored
from rayapp.storage.uris import open_store, read_uri

EMBEDDING_FILE = "embedding.parquet"
_EVIDENCE = {"path", "root", "score", "probability"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """An evaluation; with `table`, one row a scored image: path, root, labels, probability."""

    evaluation: Evaluation
    table: pa.Table | None

    @property
    def scheme(self) -> LabelScheme:
        """The label scheme of the images."""
        return load_scheme(self.evaluation.scheme)

    @property
    def truth_N(self) -> NDArray[np.int64]:
        """1 synthetic, 0 real."""
        return self._column("origin").astype(np.int64)

    @property
    def probabilities_N(self) -> Floats:
        """Probability of synthetic, under the calibration in force."""
        return self._column("probability")

    def _column(self, name: str) -> Floats:
        assert self.table is not None
        return np.asarray(self.table[name].to_numpy(), dtype=np.float64)

    def scored(self, chosen_N: NDArray[np.bool_] | None = None) -> Scored:
        """The images, or some of them, for the metrics."""
        mask = np.ones(len(self.truth_N), dtype=bool) if chosen_N is None else chosen_N
        scores = self._column("score")
        return Scored.of(self.truth_N[mask], scores[mask], self.probabilities_N[mask])


def read_evidence(uri: str) -> list[Evidence]:
    """The evaluations in a folder with the images behind them.

    Raises:
        UserError: the scored images of an evaluation are gone, or are of another version.
    """
    found, store = [], open_store(uri)
    for evaluation in read_results(store).evaluations:
        table = None
        if evaluation.evidence:
            table = manifest.read_table(store, evaluation.evidence)
            if lacks := _EVIDENCE - set(table.column_names):
                where = store.uri(evaluation.evidence)
                raise UserError(
                    f"{where}: of another version, lacks the column {min(lacks)!r}; evaluate to "
                    "another --output"
                )
        found.append(Evidence(evaluation, table))
    return found


def read_changes(uri: str, changes: Changes) -> list[dict[str, str]]:
    """The images that two detectors call differently, as evaluate listed them."""
    text = read_uri(f"{uri.rstrip('/')}/{changes.file}").decode()
    return list(csv.DictReader(io.StringIO(text)))


def read_embedding(uri: str) -> tuple[str, pa.Table]:
    """Hash of the detector, and path, x, y of the images whose features were placed.

    Raises:
        UserError: no such embedding.
    """
    table = manifest.read_table(open_store(uri), EMBEDDING_FILE)
    record = json.loads(read_uri(f"{uri.rstrip('/')}/run.json"))
    return str(record["inputs"]["detector"]), table


def by_suite(evidence: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    """Suite (with test set, protocol and task) → the evaluations on it, in order."""
    found: dict[str, list[Evidence]] = {}
    for one in evidence:
        e = one.evaluation
        found.setdefault(f"{e.suite}/{e.test_set}/{e.protocol}/{e.task}", []).append(one)
    return found
