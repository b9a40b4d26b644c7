"""The commands that use what a sweep has trained: `predict`, `refit` and `export`."""

import os
import sys
from typing import Annotated, Literal

import typer

from orchestrator.cli.options import SweepFolder, Trust
from orchestrator.errors import SerError, UsageError

Refitted = Annotated[
    bool, typer.Option("--refit", help="The networks of `ser refit`, not those of the folds.")
]
Places = Annotated[
    list[str],
    typer.Option(metavar="KEY=VALUE", help="An encoder's place, as in encoder=FOLDER."),
]


def _places(given: list[str]) -> dict[str, str]:
    """The options of features that name files, from `--feature KEY=VALUE`. Raises UsageError."""
    files = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not (key and sign and value):
            raise UsageError(f"--feature: {text!r} is not KEY=VALUE, as in encoder=FOLDER")
        files[key] = value
    return files


def predict(
    model: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep, or a folder of `ser export`.")
    ],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Audio files, folders, manifests.")
    ],
    to: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write .csv, .parquet or .jsonl.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="One fold's network; by default the mean of all folds.")
    ] = None,
    trial: Annotated[str | None, typer.Option(help="A trial's id; by default the best.")] = None,
    refit: Refitted = False,
    feature: Places = [],  # noqa: B006
    speaker_from: Annotated[
        str | None,
        typer.Option(metavar="folder|none", help="Who speaks a file, if no column says so."),
    ] = None,
    segment: Annotated[
        str | None,
        typer.Option(metavar="SECONDS|speech", help="Cut recordings into windows, or speech."),
    ] = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="Compute the features on a Ray cluster.")
    ] = False,
    trust: Trust = [],  # noqa: B006
) -> None:
    """Recognise the emotions of recordings. Names those that cannot be read; then exits with 1."""
    # Before NumPy: the bits of a matrix product may depend on the number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from orchestrator import load_model
    from orchestrator.cli.console import print_labels
    from orchestrator.inference.labelled import check_suffix, write
    from orchestrator.inference.recognise import recognise
    from orchestrator.progress import Narrator

    if to is not None:
        check_suffix(to)
    files = _places(feature)
    narrator = Narrator()
    with narrator.bars():
        labelled = recognise(
            load_model(model, trial, fold, refit, files, trust),
            inputs,
            speaker_from,
            _segment(segment),
            distributed,
            lambda done, total: narrator.bar("recordings", done, total),
        )
    if to is None:
        print_labels(labelled.table)
    else:
        write(labelled.table, to)
        print(f"{len(labelled.table)} utterances: {to}")
    for file, reason in labelled.skipped:
        print(f"left out: {file}: {reason}", file=sys.stderr)
    if labelled.skipped:
        total = len(labelled.table) + len(labelled.skipped)
        raise SerError(f"{len(labelled.skipped)} of {total} utterances cannot be read: see above")


def _segment(text: str | None) -> float | Literal["speech"] | None:
    """The value of `--segment`."""
    if text is None:
        return None
    if text == "speech":
        return "speech"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--segment: {text!r} is no number of seconds, and not speech") from None


def refit(
    folder: SweepFolder,
    trial: Annotated[
        str | None, typer.Option(metavar="ID", help="The trial; by default the best trial.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    root: Annotated[
        str | None, typer.Option(help="The corpus, if it is not at the sweep's corpus.root.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="The storage with the features, if it has moved.")
    ] = None,
    trust: Trust = [],  # noqa: B006
) -> None:
    """Train a sweep's best configuration on all labelled utterances."""
    from orchestrator import open_sweep
    from orchestrator.inference.refit import honest_score
    from orchestrator.inference.refit import refit as train_again
    from orchestrator.progress import Narrator

    opened, narrator = open_sweep(folder), Narrator()
    moved = {"corpus.root": root, "storage": storage}
    given = {key: value for key, value in moved.items() if value is not None}
    with narrator.bars():
        records = train_again(opened, trial, seeds, given, narrator.bar, trust)
    for record in records:
        place = opened.ledger.storage.path(f"refits/{record.trial}/seed-{record.seed}")
        print(f"{place}: {record.utterances} utterances, {record.epochs} epochs")
    print(honest_score(opened, records[0].trial))


def export(
    sweep: SweepFolder,
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="A new folder, or an export.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="One fold's network; by default those of all folds.")
    ] = None,
    trial: Annotated[str | None, typer.Option(help="A trial's id; by default the best.")] = None,
    refit: Refitted = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too.")] = False,
    optuna: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the trials as a new Optuna study (SQLite)."),
    ] = None,
    feature: Places = [],  # noqa: B006
    trust: Trust = [],  # noqa: B006
) -> None:
    """Write a model as a folder that works without Ray, or the trials as an Optuna study."""
    from orchestrator import open_sweep
    from orchestrator.inference.export import export_model
    from orchestrator.results.optuna_file import write_study

    if folder is None and optuna is None:
        raise UsageError("give a FOLDER for the model, or --optuna FILE for the trials")
    opened = open_sweep(sweep)
    if optuna is not None:
        print(f"{write_study(opened.ledger, optuna)} trials in {optuna}")
    if folder is not None:
        files = export_model(opened, folder, trial, fold, onnx, refit, trust, _places(feature))
        print("\n".join(files))
