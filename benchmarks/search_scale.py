"""Slots that a search keeps busy, and what a trial costs the driver.

    python benchmarks/search_scale.py [--trials 10 100 1000] [--slots 8 64 256] [--lag LAG]

Training is replaced by time that passes: an epoch lasts one second. The slots are simulated in one
process. The search is the real one (`orchestrator.sweep.search.Search`) with Optuna's sampler, the
rule of pruning and a ledger in a temporary folder. The clock of the simulation jumps to the next
end of a trial, and then the CPU time of each decision of the driver is added. So slots wait if the
driver is slow. A slot is busy from the start of a trial to the end of its last epoch. The workers
of a sweep write the records of trials, so these cost the driver nothing here.

    equal        30 epochs in each trial, no pruning
    differ by 10 10, 22, 46 or 100 epochs, by the hidden size of the trial, no pruning
    asha         45 epochs, or fewer if the trial is pruned at epoch 5 or 15

Columns: the lag of the search; percentage of the slots' time that is busy while trials are left to
start, and to the end of the search; CPU milliseconds of the driver a trial, on average and for the
last tenth of the trials; peak memory of the process; CPU seconds to resume the finished search.

benchmarks/search_ray.py has the part of Ray Tune.
"""

import argparse
import heapq
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.ledger.seals import canonical_json, sha256
from orchestrator.sweep.pruning import why_pruned
from orchestrator.sweep.search import Search, default_lag
from orchestrator.training.seeds import derived_seed
from search_spaces import load_space

SIZES = {64: 10, 128: 22, 256: 46, 512: 100}
"""Epochs by hidden size: they differ by ten, at equal ratios."""


@dataclass(frozen=True)
class Kind:
    """Trials of a kind: the scheduler, and the epochs of a trial that is not pruned."""

    scheduler: str
    epochs: Callable[[dict[str, Any]], int]


KINDS = {
    "equal": Kind("none", lambda point: 30),
    "differ by 10": Kind("none", lambda point: SIZES[point["model.hidden_size"]]),
    "asha": Kind("asha", lambda point: 45),
}


@dataclass(frozen=True)
class Outcome:
    """What a simulated search has shown.

    busy, busy_to_end : shares of the slots' time, while trials are left to start and to the end
    proposals : the points, in order
    cpu : CPU seconds of the driver for each trial
    memory : peak of the process in bytes
    resume : CPU seconds to resume the search, of which every trial is finished
    """

    lag: int
    busy: float
    busy_to_end: float
    proposals: list[dict[str, Any]]
    cpu: list[float]
    memory: int
    resume: float


def configure(kind: Kind, trials: int) -> Configuration:
    """Return a configuration with the search space of `iaan`."""
    search = {"space": "iaan", "trials": trials, "scheduler": kind.scheduler}
    return parse(
        {
            "name": "scale",
            "corpus": {"root": "none", "classes": ["a", "b"]},
            "model": {"name": "iaan"},
            "training": {"epochs": max(SIZES.values())},
            "search": search,
        }
    )


def curve_of(point: dict[str, Any], epochs: int) -> list[float]:
    """Return made scores: the best learning rate is 5e-4, and each point has a noise of its own."""
    noise = np.random.default_rng(derived_seed("scale", canonical_json(point))).normal(0, 0.02)
    best = 0.7 - 0.1 * abs(np.log10(point["training.learning_rate"] / 5e-4)) + noise
    best -= 0.2 * abs(point["model.dropout"] - 0.4)
    return [float(best * (1 - 0.8 ** (epoch + 1))) for epoch in range(epochs)]


def record_of(task: dict[str, Any], kind: Kind) -> TrialRecord:
    """Return the record of a trial that has trained until its end, or until it was pruned."""
    point = task["hyperparameters"]
    curve = curve_of(point, kind.epochs(point))
    reasons = [
        (epoch, reason)
        for epoch in range(1, len(curve))
        if (reason := why_pruned(curve[:epoch], task["cutoffs"])) is not None
    ]
    epochs, reason = reasons[0] if reasons else (len(curve), None)
    return TrialRecord(
        id=task["trial"],
        number=task["number"],
        model="iaan",
        status="pruned" if reason else "complete",
        reason=reason,
        hyperparameters=point,
        seed=0,
        score=curve[epochs - 1],
        curve=curve[:epochs],
    )


def simulate(
    name: str, slots: int, trials: int, lag: int | None = None, order: int | None = None
) -> Outcome:
    """Run a search on invented slots.

    name : of the kind
    lag : by default that of a sweep that starts on so many slots
    order : seed of random speeds of the trials, between 0.5 and 2 of the usual speed; by default
        all trials have the usual speed
    """
    kind = KINDS[name]
    configuration = configure(kind, trials)
    lag = lag or default_lag(slots, trials)
    speeds = np.random.default_rng(order).uniform(0.5, 2, trials) if order is not None else None
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(replace(Storage.open(folder), waits=()))

        def search() -> Search:
            def resolve(chosen: dict[str, Any]) -> tuple[Configuration, str]:
                return configuration.with_values(chosen), sha256(canonical_json(chosen))[:10]

            made = Search(load_space("iaan"), configuration, ledger, lag, resolve)
            made.concurrent = slots
            return made

        driver = search()
        clock, began, used = 0.0, time.process_time(), 0.0
        free, ends = slots, list[tuple[float, int]]()
        records: dict[int, TrialRecord] = {}
        spans: list[tuple[float, float]] = []
        cpu = [0.0] * trials
        while True:
            while free:  # as Tune asks: until no slot is free, or the search waits
                began = time.process_time()
                task = driver.suggest(f"tune-{len(spans)}")
                used = time.process_time() - began
                clock += used
                if not isinstance(task, dict):
                    break
                number = task["number"]
                cpu[number] += used
                records[number] = record = record_of(task, kind)
                seconds = record.epochs / (1.0 if speeds is None else speeds[number])
                heapq.heappush(ends, (clock + seconds, number))
                spans.append((clock, clock + seconds))
                free -= 1
            if not ends:
                break
            end, number = heapq.heappop(ends)
            clock = max(clock, end)
            ledger.write_trial(records[number])
            running = next(key for key, value in driver.running.items() if value == number)
            began = time.process_time()
            driver.on_trial_complete(running)
            used = time.process_time() - began
            clock, cpu[number], free = clock + used, cpu[number] + used, free + 1
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.process_time()
        again = search()
        again.advance()
        assert again.done
        resume = time.process_time() - began
        points = [proposal.hyperparameters for proposal in ledger.proposals()]
    starts, stops = np.array(spans).T
    shares = [
        float((np.minimum(stops, until) - starts).sum() / (slots * until)) if until else 1.0
        for until in (starts.max(), stops.max())
    ]
    return Outcome(lag, shares[0], shares[1], points, cpu, memory, resume)


def row(name: str, slots: int, outcome: Outcome) -> str:
    """Return a row of the table."""
    cpu = 1000 * np.array(outcome.cpu)
    last = cpu[-max(1, len(cpu) // 10) :]
    return (
        f"| {name} | {slots} | {len(cpu)} | {outcome.lag} | {100 * outcome.busy:.0f} | "
        f"{100 * outcome.busy_to_end:.0f} | {cpu.mean():.1f} | {last.mean():.1f} | "
        f"{outcome.memory / 2**20:.0f} | {outcome.resume:.1f} |"
    )


def print_row(name: str, slots: int, trials: int, lag: int | None) -> None:
    """Simulate a search, and print its row."""
    print(row(name, slots, simulate(name, slots, trials, lag)), flush=True)


def print_simulated(slots: list[int], trials: list[int], lag: int | None) -> None:
    """Print the table of simulated searches, each in a process of its own for its peak memory."""
    print("| lengths | slots | trials | lag | busy, % | busy to the end, % |", end="")
    print(" CPU ms a trial | last tenth | memory, MB | resume, CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    fork = multiprocessing.get_context("fork")
    for name in KINDS:
        for number in trials:
            for count in slots:
                process = fork.Process(target=print_row, args=(name, count, number, lag))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"the simulation of {name} ended with {process.exitcode}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--lag", type=int, help="by default that of a sweep that starts")
    options = parser.parse_args()
    print_simulated(options.slots, options.trials, options.lag)


if __name__ == "__main__":
    main()
