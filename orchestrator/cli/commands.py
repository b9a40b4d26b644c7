"""The command line: `ser demo | corpus | extract | train | sweep | status | report | compare`."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from orchestrator.config.sections import ConfigError, Configuration, load
from orchestrator.progress import Narrator

app = typer.Typer(
    help="Train and tune speech emotion recognition models on a Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML configuration.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in a.b=c.")
]
SweepFolder = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep's folder or URI.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start a local one that ends with the command."""
    # Events worth a line are told by us; what Ray's processes print is in their logs.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray

    from orchestrator.sweep.connection import connect, keep_token_private
    from orchestrator.sweep.trial import TRAIN_ENVIRONMENT

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := os.environ.get("RAY_ADDRESS"):
        with _silent_stderr():
            connect(address, runtime_env={"env_vars": TRAIN_ENVIRONMENT}, **quiet)
    else:  # its processes inherit our environment
        os.environ.update(TRAIN_ENVIRONMENT)
        # A trial has processes that wait more than they work; Ray would warn of their number.
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
        keep_token_private()
        with _silent_stderr():
            ray.init(address="local", include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ core says there which log level it was given. Errors are exceptions."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@app.command()
def corpus(config: ConfigFile, overrides: Overrides = [], as_json: AsJson = False) -> None:  # noqa: B006
    """Check and summarise a corpus. Of the audio only headers are read; nothing is computed."""
    from orchestrator.data.prepare import read_corpus
    from orchestrator.data.statistics import render, summarise_corpus

    configuration = load(config, overrides)
    read = read_corpus(configuration)
    found = summarise_corpus(configuration.corpus.name, read.manifest, read.labels, read.classes)
    if as_json:
        print(json.dumps(found))
    else:
        Console().print(render(found, configuration.corpus.root))


@app.command()
def extract(config: ConfigFile, overrides: Overrides = []) -> None:  # noqa: B006
    """Compute the acoustic features that are missing, and nothing else."""
    from features.extract import extract as extract_features
    from features.storage import Storage
    from features.store import check_errors
    from orchestrator.data.prepare import read_corpus

    configuration = load(config, overrides)
    manifest = read_corpus(configuration).manifest
    narrator = Narrator()
    storage = Storage.open(configuration.storage).child("features")

    def tell(done: int, total: int, error: str | None) -> None:
        narrator.bar("features", done, total)

    with _cluster(), narrator.bars():
        store = extract_features(manifest, configuration.features, storage, tell)
    errors = store.errors()
    print(f"{len(manifest.table) - len(errors)} utterances have features in {store.storage.root}")
    check_errors(store, configuration.features)
    for name, file, reason in errors:
        narrator.say(f"no features: {name} ({file}): {reason}")


@app.command()
def train(config: ConfigFile, overrides: Overrides = []) -> None:  # noqa: B006
    """Cross-validate the one configuration; a `search` section is left aside."""
    configuration = load(config, overrides)
    if configuration.search is not None:
        name = f"{configuration.name}-train"  # beside the sweep of the same file, not in it
        configuration = configuration.model_copy(update={"search": None, "name": name})
    _run(configuration)


@app.command()
def sweep(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006
    fork: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Start sweep NAME, with the trials that are still valid.",
        ),
    ] = None,
) -> None:
    """Search, and report. Run again, it goes on where it stopped."""
    configuration = load(config, overrides)
    if configuration.search is None:
        raise ConfigError(f"{config}: search: this section is required; `ser train` needs none")
    _run(configuration, fork)


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Where corpus and results go.")] = "demo",
) -> None:
    """Make a small spoken corpus, extract, search, report."""
    from features.corpora.demo import make_demo_corpus

    narrator = Narrator()
    narrator.say("corpus: espeak-ng speaks ten voices, five sessions, four emotions")
    with narrator.bars():
        manifest = make_demo_corpus(
            f"{folder}/corpus", progress=lambda done, total: narrator.bar("corpus", done, total)
        )
    example = Path(__file__).parent / "demo.yaml"
    _run(load(str(example), [f"corpus.root={manifest}", f"storage={folder}/runs"]))


@app.command()
def status(folder: SweepFolder, as_json: AsJson = False) -> None:
    """Where a sweep is."""
    from features.storage import Storage
    from orchestrator.ledger.ledger import Ledger

    ledger = Ledger(Storage.open(folder))
    content = ledger.sweep()
    suggestions, trials = ledger.suggestions(), ledger.trials()
    ended = {record.id: record for record in trials}
    found = {
        "name": content["name"],
        "trials": content["configuration"]["search"]["trials"],
        "proposed": len(suggestions),
        **{
            state: sum(ended[s.trial].status == state for s in suggestions if s.trial in ended)
            for state in ("complete", "pruned", "failed")
        },
        "unfinished": [s.number for s in suggestions if s.trial not in ended],
        "best": max(
            (record for record in trials if record.score is not None),
            key=lambda record: record.score or 0.0,
            default=None,
        ),
    }
    best = found["best"]
    found["best"] = None if best is None else {"id": best.id, "score": best.score}
    if as_json:
        print(json.dumps(found))
        return
    table = Table("what", "value", title=folder)
    for key, value in found.items():
        table.add_row(key, str(value))
    Console().print(table)


@app.command()
def report(folder: SweepFolder, as_json: AsJson = False) -> None:
    """Aggregate a sweep's results into report/ inside its folder."""
    from features.storage import Storage
    from orchestrator.ledger.ledger import Ledger
    from orchestrator.report import build, summary

    ledger = Ledger(Storage.open(folder))
    ledger.sweep()
    written = build(ledger)
    if as_json:
        print(json.dumps(summary(ledger)))
    else:
        print("\n".join(ledger.storage.path(name) for name in written))


@app.command()
def compare(first: SweepFolder, second: SweepFolder, as_json: AsJson = False) -> None:
    """Two sweeps on the same folds: the difference of their nested UA, and whether it is one."""
    from features.storage import Storage
    from orchestrator.results import comparison
    from orchestrator.ledger.ledger import Ledger

    found = comparison.compare(*(Ledger(Storage.open(folder)) for folder in (first, second)))
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    for side in (found.first, found.second):
        cases = "".join(
            f"\n  same class as {case.same} of the turns before ({case.share:.0%} of utterances): "
            f"WA {case.scores.wa:.3f}, UA {case.scores.ua:.3f}"
            for case in side.context
        )
        print(f"{side.name} ({side.model}): UA {side.ua:.3f} mean over folds{cases}")
    test = found.t_test
    print(
        f"difference: {test.mean:+.3f} (95 % {test.low:+.3f} to {test.high:+.3f}, corrected "
        f"resampled t over {len(found.first.folds)} folds, p = {test.p_value:.3g})"
    )
    if found.mcnemar is None:
        print("McNemar's test is left out: utterances are tested in several folds")
    else:
        first_only, second_only, p_value = found.mcnemar
        print(
            f"McNemar, exact: {first_only} utterances are right only in {found.first.name}, "
            f"{second_only} only in {found.second.name}, p = {p_value:.3g}"
        )
    if found.first.optimistic:
        print("optimistic: epochs and configuration were chosen on the part that is reported")


def _run(configuration: Configuration, fork: str | None = None) -> None:
    """Run a configuration to its end and say what came of it.

    fork : name of a new sweep that takes over what is still valid of the one of this name
    """
    from features.storage import Storage
    from orchestrator.sweep import run as sweeps
    from orchestrator.ledger.lease import lease
    from orchestrator.ledger.ledger import Ledger
    from orchestrator.report import build, summary
    from orchestrator.sweep.search import HopelessError

    sweeps.check(configuration)
    narrator = Narrator()
    source = None
    if fork is not None:
        source = Ledger(Storage.open(configuration.storage).child(configuration.name))
        source.sweep()  # raises where there is none
        configuration = configuration.with_values({"name": fork})
    ledger = Ledger(Storage.open(configuration.storage).child(configuration.name))
    hopeless = None
    with lease(ledger.storage):
        try:
            with _cluster():
                sweeps.run(configuration, narrator, source)
        except HopelessError as error:
            hopeless = error
        build(ledger)
    found = summary(ledger)
    print(f"report: {ledger.storage.path('report/index.html')}")
    _conclude(found)
    if hopeless is not None:
        print(f"ser: {hopeless}", file=sys.stderr)
        sys.exit(1)
    if found["best"] is None or len(ledger.trials()) < len({s.trial for s in ledger.suggestions()}):
        sys.exit(1)


def _conclude(found: dict[str, Any]) -> None:
    """Print the best score, each figure with what it is."""
    best, nested = found["best"], found["nested"]
    if best is None:
        print("no trial has a score: the report names the reason of each")
        return
    pooled = best["pooled"]["ua"]
    print(
        f"best UA: {pooled['value']:.3f} pooled over test utterances "
        f"(95 % by speakers {pooled['low']:.3f} to {pooled['high']:.3f}), "
        f"trial {best['number']} ({best['trial']})"
    )
    if nested:
        mean = nested["mean_over_folds"]["ua"]
        print(
            f"nested UA: {nested['pooled']['ua']:.3f} pooled, {mean['value']:.3f} mean over folds; "
            f"chance {found['chance']['ua']:.3f}"
        )
    if found["optimistic"]:
        print("optimistic: epochs and configuration were chosen on the part that is reported")


def main() -> None:
    """Exit code 0 done, 1 failed, 2 wrong use."""
    from features.manifest import ManifestError
    from features.store import FeatureError
    from orchestrator.results.comparison import ComparisonError
    from orchestrator.sweep.connection import ClusterError
    from orchestrator.ledger.lease import LeaseError
    from orchestrator.ledger.ledger import LedgerError, NoSweepError

    try:
        app()
    except (ConfigError, ComparisonError, ManifestError, NoSweepError, FileExistsError) as error:
        print(f"ser: {error}", file=sys.stderr)
        sys.exit(2)
    except (ClusterError, FeatureError, LeaseError, LedgerError) as error:
        print(f"ser: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # storage, for the most part
        print(f"ser: {type(error).__name__}: {error}", file=sys.stderr)
        print("what had ended is kept: mend it, and the same command goes on", file=sys.stderr)
        sys.exit(1)
