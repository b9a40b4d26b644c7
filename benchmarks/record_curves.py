"""Record the curves of many configurations in three cases: every fold, every epoch, no pruning.

    python benchmarks/record_curves.py prepare FOLDER --nemo NEMO/manifest.csv
    python benchmarks/record_curves.py train FOLDER OUT [--minutes 60]
    python benchmarks/record_curves.py join OUT benchmarks/data/curves.parquet

The cases are `iaan` on the demo corpus (5 folds of sessions), `iaan` on nEMO (3 folds of sessions)
and `bigru_att` on nEMO (6 folds of speakers). nEMO is half of its dialogues. `prepare` writes their
features and folds. It needs openSMILE. `train` needs neither openSMILE nor Ray nor the recordings,
so it can run on any machine. It trains the configurations in their order, the cases in turn, one
process on each core. It skips recorded configurations, and stops when the time is over. The same
command then continues. `join` writes one table of the configurations recorded in all cases.

Configurations are drawn at random by (seed, number). The space is wider than `iaan_small`, so that
configurations differ. `benchmarks/search_rules.py` reads the table.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from features.context import Turns
from orchestrator.config.parsing import load, parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.fold_run import FoldRun, TrainingError
from orchestrator.training.runs import fold_run
from orchestrator.training.seeds import derived_seed
from search_spaces import Space

ROOT = Path(__file__).parents[1]
SEED = 0
CONFIGURATIONS = 72
EPOCHS = {"demo": 30, "nemo": 25, "nemo-speakers": 20}
PARTS = ("train", "validation", "test")
SPACE = Space.model_validate(
    {
        "parameters": {
            "training.learning_rate": {"low": 1e-4, "high": 2e-2, "log": True},
            "training.weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
            "model.dropout": {"low": 0.0, "high": 0.8},
            "model.hidden_size": {"choices": [8, 16, 32, 64]},
            "model.attention_size": {"choices": [8, 32, 64]},
        }
    }
)

Case = tuple[Configuration, Dataset, list[Fold]]


class Draw:
    """Draws the parameters of configuration `number`, as Optuna's trial would."""

    def __init__(self, number: int) -> None:
        self.random = np.random.default_rng(derived_seed(SEED, "curves", number))

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        """Return one of `choices`."""
        return choices[self.random.integers(len(choices))]

    def suggest_float(self, name: str, low: float, high: float, *, step: None, log: bool) -> float:
        """Return a number from `low` to `high`."""
        if log:
            return float(np.exp(self.random.uniform(np.log(low), np.log(high))))
        return float(self.random.uniform(low, high))


def values_of(number: int) -> dict[str, Any]:
    """Return the hyperparameters of configuration `number`, by dotted key."""
    draw = Draw(number)
    return {name: each.suggest(draw, name) for name, each in SPACE.parameters.items()}


def configurations(folder: Path, nemo: str) -> Iterator[tuple[str, Configuration]]:
    """Return the base configuration of each case. Makes the demo corpus in `folder`."""
    from features.corpora.demo import make_demo_corpus
    from orchestrator.data.corpus import read_corpus

    manifest = make_demo_corpus(str(folder / "demo-corpus"))
    yield (
        "demo",
        load(str(ROOT / "orchestrator" / "cli" / "demo.yaml"), [f"corpus.root={manifest}"]),
    )
    speech = load(str(ROOT / "examples" / "nemo.yaml"), [f"corpus.root={nemo}"])
    column = read_corpus(speech.corpus).manifest.table["dialogue"].to_pylist()
    values = speech.resolved()
    values["corpus"]["only"] = {"dialogue": sorted(set(column))[::2]}
    yield "nemo", parse(values)
    values["folds"]["scheme"] = "leave_one_speaker_out"
    values["model"] = {"name": "bigru_att"}  # speakers share dialogues, so the model has no context
    yield "nemo-speakers", parse(values)


def prepare_cases(folder: Path, nemo: str) -> None:
    """Write a file for each case, FOLDER/<case>.npz: all arrays that training reads."""
    import tempfile

    from features.storage import Storage
    from orchestrator.data.prepare import plan_folds, prepare

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for case, configuration in configurations(Path(name), nemo):
            storage = Storage.open(f"{name}/runs")
            data = prepare(plan_folds(configuration), storage, lambda done, total, error: None)
            values = configuration.resolved()
            values["corpus"] |= {"root": case, "only": {}}
            write_case(folder / f"{case}.npz", (parse(values), data.dataset, data.folds))


def write_case(
    path: Path, configuration: Configuration, dataset: Dataset, folds: list[Fold]
) -> None:
    """Write a configuration, a dataset and its folds. Reading the file never runs code."""
    arrays = {
        "configuration": np.array(json.dumps(configuration.resolved())),
        "fold_names": np.array([fold.name for fold in folds]),
        "classes": np.array(dataset.classes),
    }
    for name in ("frames", "offsets", "labels", "previous"):
        arrays[name] = np.asarray(getattr(dataset, name))
    for name in ("ids", "speakers"):
        arrays[name] = np.array(getattr(dataset, name))
    for name in ("own", "other"):
        arrays |= {f"{name}_{key}": part for key, part in getattr(dataset, name)._asdict().items()}
    for number, fold in enumerate(folds):
        arrays |= {f"{part}_{number}": getattr(fold, part) for part in PARTS}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # the stub has one array


def read_case(path: Path) -> Case:
    """Read a file of `write_case`."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    names = arrays["fold_names"].tolist()
    folds = [Fold(name, *(arrays[f"{p}_{i}"] for p in PARTS)) for i, name in enumerate(names)]
    dataset = Dataset(
        frames=arrays["frames"],
        offsets=arrays["offsets"],
        segment=None,
        labels=arrays["labels"],
        own=Turns(arrays["own_rows"], arrays["own_offsets"]),
        other=Turns(arrays["other_rows"], arrays["other_offsets"]),
        previous=arrays["previous"],
        ids=arrays["ids"].tolist(),
        speakers=arrays["speakers"].tolist(),
        classes=tuple(arrays["classes"].tolist()),
    )
    return parse(json.loads(str(arrays["configuration"]))), dataset, folds


def curve(run: FoldRun, epochs: int, deadline: float) -> list[dict[str, Any]] | None:
    """Return a row for each epoch of a fold, up to an error of the training; None if it is late.

    ua, wa : of the validation part
    best : highest `ua` so far
    test_ua, test_wa : of the test part, with the weights of this epoch
    seconds : CPU time of training and validation
    """
    rows = []
    for epoch in range(1, epochs + 1):
        if time.time() > deadline:
            return None
        began = time.process_time()
        try:
            scored = run.train_epoch()[-1]
            seconds = time.process_time() - began
            test = run.evaluate("test")
        except TrainingError:
            return rows
        rows.append(
            {
                "fold": run.fold.name,
                "epoch": epoch,
                "ua": scored["ua"],
                "wa": scored["wa"],
                "best": run.best_score,
                "test_ua": test["ua"],
                "test_wa": test["wa"],
                "seconds": seconds,
            }
        )
    return rows


_cases: dict[str, Case] = {}


def start(folder: str) -> None:
    """Read all cases into a process of the pool."""
    torch.set_num_threads(1)
    _cases.update({case: read_case(Path(folder, f"{case}.npz")) for case in EPOCHS})


def record(task: tuple[str, int, str, float]) -> str | None:
    """Train a configuration, and write its table. Returns a line about it; None if it is late."""
    case, number, path, deadline = task
    base, dataset, folds = _cases[case]
    values, epochs = values_of(number), EPOCHS[case]
    configuration = base.with_values(
        {**values, "training.epochs": epochs, "training.patience": epochs}
    )
    rows: list[dict[str, Any]] = []
    for fold in folds:
        more = curve(fold_run(fold, dataset, configuration), epochs, deadline)
        if more is None:
            return None
        rows += more
    given = {name.split(".")[1]: value for name, value in values.items()}
    table = pa.Table.from_pylist(
        [{"case": case, "configuration": number, **given, **row} for row in rows]
    )
    pq.write_table(table, f"{path}.part", compression="zstd")
    os.replace(f"{path}.part", path)
    seconds = sum(row["seconds"] for row in rows)
    final = np.mean([row["best"] for row in rows if row["epoch"] == epochs])
    return f"{case} {number}: {final:.4f}, {seconds:.0f} CPU seconds, {given}"


def train(folder: Path, out: Path, count: int, processes: int, minutes: float) -> None:
    """Record the configurations that OUT lacks, until `minutes` are over."""
    deadline = time.time() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    tasks = [
        (case, number, str(path), deadline)
        for number in range(count)
        for case in EPOCHS
        if not (path := file_of(out, case, number)).exists()
    ]
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes when they import torch
    with multiprocessing.get_context("spawn").Pool(processes, start, (str(folder),)) as pool:
        done = [line for line in pool.imap(report_of, tasks) if line is not None]
    left = len(tasks) - len(done)
    print(f"{len(done)} recorded, {left} left" + (": run the same command again" if left else ""))


def report_of(task: tuple[str, int, str, float]) -> str | None:
    """Record a configuration, and print its line at once."""
    line = record(task)
    if line is not None:
        print(line, flush=True)
    return line


def file_of(out: Path, case: str, number: int) -> Path:
    """Return the path of the table of a configuration."""
    return out / f"{case}-{number:03d}.parquet"


def join(out: Path, path: Path) -> None:
    """Write the table of all numbers that are recorded in all cases, without gaps.

    Slow configurations finish late. If the time is over before, numbers after the first gap would
    be a selection of fast ones, so they are left out.
    """
    whole = 0
    while all(file_of(out, case, whole).exists() for case in EPOCHS):
        whole += 1
    if not whole:
        raise SystemExit(f"{out}: configuration 0 is not recorded in all cases")
    files = [file_of(out, case, n) for case in EPOCHS for n in range(whole)]
    table = pa.concat_tables(pq.read_table(file) for file in files)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", compression_level=19)
    print(f"{path}: {whole} configurations, {table.num_rows} rows, {path.stat().st_size} bytes")


def main() -> None:
    """Prepare, train or join."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepared = commands.add_parser("prepare")
    prepared.add_argument("folder", type=Path)
    prepared.add_argument("--nemo", metavar="MANIFEST", required=True)
    trained = commands.add_parser("train")
    trained.add_argument("folder", type=Path)
    trained.add_argument("out", type=Path)
    trained.add_argument("--configurations", type=int, default=CONFIGURATIONS)
    trained.add_argument("--processes", type=int, default=os.cpu_count())
    trained.add_argument("--minutes", type=float, default=60.0)
    joined = commands.add_parser("join")
    joined.add_argument("out", type=Path)
    joined.add_argument("path", type=Path)
    options = parser.parse_args()
    if options.command == "prepare":
        prepare_cases(options.folder, options.nemo)
    elif options.command == "train":
        train(
            options.folder,
            options.out,
            options.configurations,
            options.processes,
            options.minutes,
        )
    else:
        join(options.out, options.path)


if __name__ == "__main__":
    main()
