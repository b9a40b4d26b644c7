"""What the lag of a search costs, and what it saves, on recorded curves.

    python benchmarks/search_lag.py [--draws 20] [--seeds 20]

Proposal n uses the results of trials 0 to n - lag, and so do the cutoffs of trial n. Two tables:

**Time.** The replay of benchmarks/search_rules.py with the scheduler `asha`: recorded
configurations in random order. A trial starts if a slot is free and all trials up to n - lag are
finished. Its length is its epochs times the recorded seconds of an epoch. "Time" is that of the
whole search, in percent of the time of full trials that never wait for a slot. Columns: lag by
number of slots.

**Score.** Optuna's TPE as a sweep seeds it, without pruning, on a smooth model of the recorded
scores (a Gaussian process), which gives every point of the recorded search space a score. "UA
lost" is the best score of the model minus the best score that the search finds, in points: the
mean over seeds with a 95 % t interval. A lag as large as the search is random search.
"""

import argparse
import heapq
import warnings
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
from curves import TABLE, Array, Curves, Indices, read
from record_curves import SPACE
from scipy import stats
from search_rules import asha
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

from orchestrator.sweep.sampler import SAMPLERS, SeededSampler
from orchestrator.sweep.search import default_lag
from orchestrator.training.seeds import derived_seed

RATIOS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Lags by number of slots."""
LAGS = (1, 4, 8, 12, 16, 24, 40)
TRIALS = 40


def seconds_of(lengths: Array, slots: int, lag: int) -> float:
    """Return the seconds of a search whose trials have these lengths, in the order of proposal."""
    free, finished, clock = [0.0] * slots, [0.0], 0.0  # finished[n]: the end of the first n trials
    for number, length in enumerate(lengths.tolist()):
        known = max(0, number - lag + 1)
        clock = max(clock, heapq.heappop(free), finished[known])
        heapq.heappush(free, clock + length)
        finished.append(max(finished[-1], clock + length))
    return finished[-1]


def drawn(curves: Curves, trials: int, draw: int) -> Indices:
    """Return configurations in random order. A long search has each of them several times."""
    random = np.random.default_rng(derived_seed("search lag", draw))
    count = len(curves.ends)
    turns = [random.permutation(count) for _ in range(-(-trials // count))]
    return np.concatenate(turns)[:trials]


def epoch_seconds(case: str, count: int) -> Array:
    """Return the mean recorded seconds of an epoch of each of the first `count` configurations."""
    table = pq.read_table(
        TABLE, filters=[("case", "=", case)], columns=["configuration", "seconds"]
    )
    means = table.group_by("configuration").aggregate([("seconds", "mean")])
    means = means.sort_by("configuration")
    return np.asarray(means["seconds_mean"])[:count]


def print_times(cases: dict[str, Curves], draws: int) -> None:
    """Print the time and the fold-epochs of searches by their lag."""
    ratios = " | ".join(f"{ratio:g} x slots" for ratio in RATIOS)
    print(f"| time, % (fold-epochs, %) | slots | trials | default lag | {ratios} |")
    print("|---|---|---|---|" + "---|" * len(RATIOS))
    for case, curves in cases.items():
        seconds = epoch_seconds(case, len(curves.ends))
        for slots, trials in ((2, 8), (2, 40), (4, 40), (8, 40), (32, 160)):
            cells = []
            for ratio in RATIOS:
                lag, values = round(ratio * slots), []
                for draw in range(draws):
                    order = drawn(curves, trials, draw)
                    full = curves.ends[order].sum(axis=1) * seconds[order]
                    trained = np.minimum(asha(curves, order, lag), curves.ends[order]).sum(axis=1)
                    length = seconds_of(trained * seconds[order], slots, lag)
                    values.append(
                        (length * slots / full.sum(), trained.sum() / curves.ends[order].sum())
                    )
                time, epochs = 100 * np.mean(values, axis=0)
                cells.append(f"{time:.0f} ({epochs:.0f})" if lag <= trials else "")
            lag = default_lag(slots, trials)
            print(f"| {case} | {slots} | {trials} | {lag} | {' | '.join(cells)} |", flush=True)


def scaled(points: list[dict[str, Any]]) -> Array:
    """Return (points, parameters) values from 0 to 1, as logarithms if the range is logarithmic.

    Choices are sizes, and become logarithms too.
    """
    columns = []
    for name, parameter in SPACE.parameters.items():
        ends = parameter.choices or (parameter.low, parameter.high)
        values = np.array([float(point[name]) for point in points])
        low, high = min(map(float, ends)), max(map(float, ends))
        if parameter.log or parameter.choices:
            values, low, high = np.log(values), np.log(low), np.log(high)
        columns.append((values - low) / (high - low))
    return np.stack(columns, axis=1)


class Model:
    """A smooth model of the recorded scores of a case."""

    def __init__(self, case: str, curves: Curves) -> None:
        table = pq.read_table(TABLE, filters=[("case", "=", case)])
        names = {name: name.rpartition(".")[2] for name in SPACE.parameters}
        rows = table.group_by(["configuration", *names.values()]).aggregate([]).to_pylist()
        rows = sorted(rows, key=lambda row: row["configuration"])[: len(curves.ends)]
        points = [{name: row[column] for name, column in names.items()} for row in rows]
        kernel = RBF(np.full(len(names), 0.5), (0.05, 50)) + WhiteKernel(0.05)
        self.process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length may reach its limit
            self.process.fit(scaled(points), curves.best[:, :, -1].mean(axis=1))
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        many = [self._drawn(study) for _ in range(5000)]
        self.top = float(self.process.predict(scaled(many)).max())

    @staticmethod
    def _drawn(study: optuna.Study) -> dict[str, Any]:
        trial = study.ask()
        SPACE.suggest(trial)
        return trial.params

    def lost(self, lag: int, seed: int) -> float:
        """Return the score that a search of TRIALS trials leaves, in points."""
        sampler = SeededSampler(SAMPLERS["tpe"], seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        asked: list[tuple[optuna.Trial, float]] = []
        for number in range(TRIALS):
            if number >= lag:
                study.tell(*asked[number - lag])
            trial = study.ask()
            SPACE.suggest(trial)
            asked.append((trial, float(self.process.predict(scaled([trial.params]))[0])))
        return 100 * (self.top - max(score for _, score in asked))


def print_scores(cases: dict[str, Curves], seeds: int) -> None:
    """Print the score that a search loses by its lag."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"\n| {TRIALS} trials, UA lost by lag | " + " | ".join(map(str, LAGS)) + " |")
    print("|---|" + "---|" * len(LAGS))
    for case, curves in cases.items():
        model, cells = Model(case, curves), []
        for lag in LAGS:
            lost = [model.lost(lag, seed) for seed in range(seeds)]
            margin = stats.sem(lost) * stats.t.ppf(0.975, len(lost) - 1)
            cells.append(f"{np.mean(lost):.2f} ± {margin:.2f}")
        print(f"| {case} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    cases = read(TABLE)
    print_times(cases, options.draws)
    print_scores(cases, options.seeds)


if __name__ == "__main__":
    main()
