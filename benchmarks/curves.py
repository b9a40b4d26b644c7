"""The recorded curves of many configurations: benchmarks/data/curves.parquet as arrays.

benchmarks/record_curves.py wrote the table. benchmarks/search_rules.py and benchmarks/search_lag.py
replay searches on it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

TABLE = Path(__file__).parent / "data" / "curves.parquet"
PATIENCE = {"demo": 6, "nemo": 10, "nemo-speakers": 10}
"""As in orchestrator/cli/demo.yaml and examples/nemo.yaml."""

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Curves:
    """The recorded configurations of a case.

    best : (configurations, folds, epochs) highest validation UA so far; constant after the end
    latest : (configurations, folds, epochs) validation UA of the epoch, or of the fold's last one
    ends : (configurations, folds) epochs until the patience ends the fold
    test : (configurations, folds) test UA with the weights of the best epoch
    """

    best: Array
    latest: Array
    ends: Indices
    test: Array

    @property
    def folds(self) -> int:
        """Number of folds."""
        return self.best.shape[1]

    @property
    def epochs(self) -> int:
        """Epochs of the longest training."""
        return self.best.shape[2]

    @cached_property
    def mean(self) -> Array:
        """(epochs, folds, configurations) mean of `best` over the first 1, 2, … folds."""
        counts = np.arange(1, self.folds + 1)[:, None]
        return np.ascontiguousarray((np.cumsum(self.best, axis=1) / counts).transpose(2, 1, 0))

    @cached_property
    def squares(self) -> Array:
        """(epochs, folds, configurations, configurations) spread of the paired differences.

        Sum over the first 1, 2, … folds of the squared deviations from their mean.
        """
        values = self.best.transpose(2, 1, 0)
        differences = values[:, :, :, None] - values[:, :, None, :]
        counts = np.arange(1, self.folds + 1)[:, None, None]
        sums = np.cumsum(differences, axis=1)
        return np.maximum(np.cumsum(differences**2, axis=1) - sums**2 / counts, 0.0)


def read(path: Path, patience: bool = True) -> dict[str, Curves]:
    """Return the curves of each case. Leaves out configurations whose training failed."""
    table = pq.read_table(path)
    names_of_cases = np.asarray(table["case"].to_pylist())
    cases = {}
    for case in dict.fromkeys(names_of_cases.tolist()):
        rows = table.filter(names_of_cases == case)
        numbers, number = np.unique(rows["configuration"].to_numpy(), return_inverse=True)
        names, fold = np.unique(np.asarray(rows["fold"].to_pylist()), return_inverse=True)
        epoch = rows["epoch"].to_numpy() - 1
        shape = (len(numbers), len(names), int(epoch.max()) + 1)
        ua, test = np.full(shape, np.nan), np.full(shape, np.nan)
        ua[number, fold, epoch], test[number, fold, epoch] = rows["ua"], rows["test_ua"]
        whole = ~np.isnan(ua).any(axis=(1, 2))
        waits = PATIENCE[case] if patience else shape[2]
        cases[case] = with_patience(ua[whole], test[whole], waits)
    return cases


def with_patience(ua: Array, test: Array, patience: int) -> Curves:
    """Return the curves of folds that end after `patience` epochs without progress.

    ua, test : (configurations, folds, epochs) as recorded
    """
    count = ua.shape[2]
    best = np.maximum.accumulate(ua, axis=2)
    selected = np.zeros(ua.shape, dtype=np.int64)  # the first epoch with the best score so far
    for epoch in range(1, count):
        better = ua[:, :, epoch] > best[:, :, epoch - 1]
        selected[:, :, epoch] = np.where(better, epoch, selected[:, :, epoch - 1])
    stalled = np.arange(count) - selected >= patience
    ends = np.where(stalled.any(axis=2), stalled.argmax(axis=2) + 1, count)
    held = np.minimum(np.arange(count), ends[:, :, None] - 1)
    final = np.take_along_axis(selected, ends[:, :, None] - 1, axis=2)
    return Curves(
        best=np.take_along_axis(best, held, axis=2),
        latest=np.take_along_axis(ua, held, axis=2),
        ends=ends,
        test=np.take_along_axis(test, final, axis=2)[:, :, 0],
    )
