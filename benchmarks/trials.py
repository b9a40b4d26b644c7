"""What a sweep costs beyond its training: the demo beside bare training, and the waits of a slot.

    python benchmarks/trials.py [--rounds 2]

Both sides train the same fold-epochs with two processes. `ser sweep` is timed as a whole command,
from its start to its report, with the features in the storage. Bare training is a program that
trains the folds of the same trials for the same number of epochs, without Ray, search, checkpoints
or report. It runs twice: without waits, and with the waits that the search itself has, because
proposal n uses the results of trials 0 to n - lag. The sides take turns. The second table has the
time from the search's decision to the first step of the trial, whose folds are then in memory.
Prints Markdown tables. Use a quiet machine with two cores: two rounds take about ten minutes.
"""

import argparse
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from spread import spread

from features.corpora.demo import make_demo_corpus
from features.extract import extract
from features.storage import Storage
from orchestrator.config.parsing import load, parse
from orchestrator.config.searched import features_key
from orchestrator.config.sections import Configuration
from orchestrator.data.corpus import read_corpus
from orchestrator.data.prepare import Prepared, plan_folds, prepare
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.progress import Narrator
from orchestrator.training.runs import fold_run

WORKERS = 2
DEMO = Path(__file__).parents[1] / "orchestrator" / "cli" / "demo.yaml"
Plan = list[tuple[dict[str, Any], int]]
"""The configuration of each trial of a sweep, and its epochs."""


def trials_of(sweep: Ledger) -> Plan:
    """Return what the trials of a finished sweep trained, in their order."""
    base = parse(sweep.sweep().configuration)
    records = sorted(sweep.trials(), key=lambda record: record.number)
    return [
        (base.with_values(record.hyperparameters).resolved(), len(record.curve))
        for record in records
    ]


_prepared: Prepared


def _start(storage: str, configuration: dict[str, Any]) -> None:
    global _prepared
    torch.set_num_threads(1)
    _prepared = prepare(
        plan_folds(parse(configuration)), Storage.open(storage), lambda done, total, error: None
    )


def _train(trial: tuple[dict[str, Any], int]) -> None:
    configuration, epochs = parse(trial[0]), trial[1]
    dataset = _prepared.datasets[features_key(configuration.features)]
    runs = [fold_run(fold, dataset, configuration) for fold in _prepared.folds]
    for _ in range(epochs):
        for run in runs:
            if not run.ended:
                run.train_epoch()
    for run in runs:
        run.finish()


def bare(storage: str, plan: Plan, lag: int) -> None:
    """Train the trials of a plan in a pool of processes. Trial n waits for trials 0 to n - lag."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, _start, (storage, plan[0][0])) as pool:
        running: list[AsyncResult[None]] = []
        for number, trial in enumerate(plan):
            for earlier in running[: max(0, number - lag + 1)]:
                earlier.get()
            running.append(pool.apply_async(_train, (trial,)))
        for each in running:
            each.get()


def timed(command: list[str]) -> float:
    """Return the seconds of a whole command."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    began = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "OMP_NUM_THREADS": "1"},
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return seconds


def sweeps(manifest: str, folder: Path, rounds: int) -> None:
    """Print the table of the demo's sweep beside bare training."""
    values = [f"corpus.root={manifest}", f"storage={folder}/runs"]
    sides: dict[str, list[float]] = {"sweep": [], "bare": [], "waits": [], "finished": []}
    for number in range(rounds):
        name = f"demo-{number}"
        options = [part for value in [*values, f"name={name}"] for part in ("--set", value)]
        command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(DEMO), *options]
        sides["sweep"].append(timed(command))
        ledger = Ledger(Storage.open(f"{folder}/runs").child(name))
        plan, lag, folds = trials_of(ledger), ledger.sweep().lag, len(ledger.sweep().folds)
        (folder / "plan.pickle").write_bytes(pickle.dumps(plan))
        program = [sys.executable, str(Path(__file__).resolve()), "--bare", str(folder), "--lag"]
        sides["bare"].append(timed([*program, str(len(plan))]))
        if not number:  # the spread of the other rows is enough
            sides["waits"].append(timed([*program, str(lag)]))
            sides["finished"].append(timed(command))
    epochs = sum(epochs for _, epochs in plan)
    ours = sides["sweep"]
    ratios = [a / b for a, b in zip(ours, sides["bare"], strict=True)]
    print(f"\n| the demo's sweep: {len(plan)} trials, {epochs} epochs of {folds} folds | seconds |")
    print("|---|---|")
    print(f"| `ser sweep`, whole command | {spread(ours, 1)} |")
    print(f"| the same epochs, bare, {WORKERS} processes | {spread(sides['bare'], 1)} |")
    print(f"| the same, with the waits of the search (lag {lag}) | {sides['waits'][0]:.1f} |")
    print(f"| ratio to bare training (target: at most 1.15) | {spread(ratios, 2)} |")
    with_waits = ours[0] / sides["waits"][0]
    print(f"| ratio to bare training with the waits, first round | {with_waits:.2f} |")
    print(f"| `ser sweep` again: nothing is left to do | {sides['finished'][0]:.1f} |")


def waits(manifest: str, folder: Path) -> None:
    """Print the seconds from the search's decision to a trial's first step."""
    from orchestrator.sweep.check import check
    from orchestrator.sweep.run import run
    from orchestrator.sweep.search import Search

    print("\n| workers of a trial | first trial | later trials (target: at most 0.5 s) |")
    print("|---|---|---|")
    for workers in (1, WORKERS):
        configuration = short(manifest, folder, workers)
        ledger = Ledger(Storage.open(configuration.storage).child(configuration.name))
        decided: dict[str, float] = {}
        suggest = Search.suggest

        def noted(search: Search, trial: str, decided=decided, suggest=suggest) -> Any:  # type: ignore[no-untyped-def]
            proposal = suggest(search, trial)
            if isinstance(proposal, dict):
                decided[proposal["trial"]] = time.time()
            return proposal

        with patch.object(Search, "suggest", noted):
            run(*check(configuration), ledger, Narrator())
        records = sorted(ledger.trials(), key=lambda record: record.number)
        seconds = [first_step(ledger, record) - decided[record.id] for record in records]
        print(f"| {workers} | {seconds[0]:.2f} s | {spread(seconds[1:], 2)} |")


def first_step(ledger: Ledger, record: TrialRecord) -> float:
    """Return when a trial on this machine took its first step, in seconds since the epoch."""
    # The record counts the seconds from the first step to this file.
    written = Path(ledger.storage.path(f"trials/{record.id}/trial.json")).stat().st_mtime
    return written - (record.seconds or 0.0)


def demo_corpus(folder: Path) -> str:
    """Make the demo's corpus, and its features in `folder/runs`. Return the manifest."""
    manifest = make_demo_corpus(f"{folder}/corpus")
    configuration = load(str(DEMO), [f"corpus.root={manifest}"])
    corpus = read_corpus(configuration.corpus).manifest
    extract(corpus, configuration.features, Storage.open(f"{folder}/runs").child("features"))
    return manifest


def short(manifest: str, folder: Path, workers: int) -> Configuration:
    """Return the configuration of a sweep of six short trials, one at a time."""
    values = {
        "corpus.root": manifest,
        "storage": f"{folder}/runs",
        "name": f"waits-{workers}",
        "training.epochs": 2,
        "search.trials": 6,
        "search.sampler": "random",
        "search.scheduler": "none",
        "cluster.workers_per_trial": workers,
        "cluster.concurrent_trials": 1,
    }
    return load(str(DEMO), [f"{key}={value}" for key, value in values.items()])


def main() -> None:
    """Print both tables, or train one side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", type=Path, help="used by the program itself")
    parser.add_argument("--lag", type=int, help="used by the program itself")
    options = parser.parse_args()
    if options.bare:
        plan = pickle.loads((options.bare / "plan.pickle").read_bytes())  # noqa: S301 (our file)
        bare(f"{options.bare}/runs", plan, options.lag)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = demo_corpus(folder)
        sweeps(manifest, folder, options.rounds)
        waits(manifest, folder)


if __name__ == "__main__":
    main()
