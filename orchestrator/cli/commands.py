"""The commands of `ser`. Results go to standard output, progress to standard error."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, ConfigFile, Overrides, SweepFolder
from orchestrator.cli.using import export, predict, refit
from orchestrator.errors import ConfigError, HopelessError, SerError, UsageError, translated

if TYPE_CHECKING:
    from features.extract import Compute
    from orchestrator.config.sections import Configuration

app = typer.Typer(
    name="ser",
    help="Train and tune speech emotion recognition models on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"ser {version('ser-orchestrator')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def init(
    corpus: Annotated[str, typer.Argument(help="A corpus reader, or `manifest` for your table.")],
    root: Annotated[str, typer.Argument(help="The corpus's folder, or your CSV or Parquet file.")],
    model: Annotated[str, typer.Option(help="A model, as in docs/models.md.")] = "linear_svm",
    file: Annotated[str, typer.Option(help="The file to write.")] = "ser.yaml",
) -> None:
    """Write a commented configuration for a corpus and a model."""
    from orchestrator.cli.starter import starter

    text = starter(corpus, root, model)
    if Path(file).exists():
        raise ConfigError(f"--file: {file} exists already. Choose another name, or remove it first")
    Path(file).write_text(text, encoding="utf-8")
    print(f"{file}\nCheck it with `ser corpus {file}`, then run `ser sweep {file}`")


@app.command()
def corpus(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|NAME", help="A configuration, or a corpus reader.")
    ],
    root: Annotated[
        str | None, typer.Argument(metavar="[ROOT]", help="With NAME: the corpus's folder or file.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Check and summarise a corpus. Reads labels and audio headers only; needs no model.

    If CONFIG describes a run, also check that its scheme can make the folds, and print what labels
    alone score in them.
    """
    from features.sets.base import by_speaker
    from orchestrator.cli.console import folds_values, print_corpus, print_folds
    from orchestrator.config.parsing import corpus_section, load_corpus, load_folds, load_normalize
    from orchestrator.data.corpus import read_corpus
    from orchestrator.data.coverage import coverage_notes, speaker_coverage
    from orchestrator.data.folds import scheme_problems
    from orchestrator.data.statistics import audit_of_corpus, summarise_corpus

    if root is None:
        section = load_corpus(config, overrides)
    elif overrides:
        raise ConfigError("--set: works only with a CONFIG. With NAME and ROOT, leave it out")
    else:
        section = corpus_section({"name": config, "root": root})
    read = read_corpus(section)
    manifest, folds = read.manifest, None
    if root is None:
        try:
            if (scheme := load_folds(config, overrides)) is not None:
                folds = audit_of_corpus(read, scheme)
        except ConfigError as error:  # the counts of the corpus help to correct the folds
            found = scheme_problems(str(error), config)
            manifest = replace(manifest, problems=(*manifest.problems, *found))
    summary = summarise_corpus(section.name, manifest, read.labels, read.classes)
    coverage = speaker_coverage(manifest, read.labels)
    normalize = load_normalize(config, overrides) if root is None else None
    notes = [] if normalize and not by_speaker(normalize) else list(coverage_notes(coverage))
    if as_json:
        values = {"folds": folds and folds_values(folds), "notes": notes}
        print(json.dumps({**summary.model_dump(), **values, "coverage": coverage.model_dump()}))
    else:
        print_corpus(summary, section.root, notes)
        if folds:
            print_folds(folds)


@app.command()
def extract(config: ConfigFile, overrides: Overrides = []) -> None:  # noqa: B006
    """Compute the missing features of all feature sets that the run reads, and nothing else."""
    from orchestrator.sweep.extraction import early_extraction

    with early_extraction() as compute:
        _extract(config, overrides, compute)


def _extract(config: str, overrides: list[str], compute: "Compute") -> None:
    from features.extract import extract as extract_features
    from features.extract import extraction_hash
    from features.storage import Storage
    from features.store import check_errors
    from orchestrator.config.parsing import load_extraction
    from orchestrator.config.searched import load_searched, searched_features
    from orchestrator.data.corpus import read_corpus
    from orchestrator.progress import Narrator

    read = load_extraction(config, overrides)
    sets = searched_features(read.model["name"], read.features, load_searched(read.search))
    manifest = read_corpus(read.corpus).manifest
    narrator = Narrator()
    storage = Storage.open(read.storage).child("features")

    def progress(done: int, total: int, error: str | None) -> None:
        narrator.bar("features", done, total)

    for features in {extraction_hash(each): each for each in sets}.values():
        with narrator.bars():
            store = extract_features(manifest, features, storage, progress, compute=compute)
        errors = store.errors()
        count = len(manifest.table) - len(errors)
        print(f"{count} utterances have features in {store.storage.root}")
        check_errors(store, features)
        for name, file, reason in errors:
            narrator.say(f"no features: {name} ({file}): {reason}")


@app.command()
def train(config: ConfigFile, overrides: Overrides = []) -> None:  # noqa: B006
    """Cross-validate the one configuration, without its `search` section, as <name>-train."""
    from orchestrator import load

    configuration = load(config, overrides)
    if configuration.search is not None:
        name = f"{configuration.name}-train"  # beside the sweep of the same file, not inside it
        configuration = configuration.model_copy(update={"search": None, "name": name})
    _run(configuration)


@app.command()
def sweep(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006
    fork: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Start a new sweep NAME that copies the valid trials of this one."
        ),
    ] = None,
) -> None:
    """Search, and write the report. Run the same command again to resume."""
    from orchestrator import load

    configuration = load(config, overrides)
    if configuration.search is None:
        raise ConfigError(
            f"{config}: search: this section is required. `ser train` works without it"
        )
    _run(configuration, fork)


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Folder for the corpus and the results.")] = "demo",
) -> None:
    """Make a small spoken corpus, extract features, search, and write a report."""
    from features.corpora.demo import make_demo_corpus
    from orchestrator import load
    from orchestrator.progress import Narrator

    narrator = Narrator()
    narrator.say("corpus: ten voices, five sessions, four emotions, spoken by espeak-ng")
    with narrator.bars():
        manifest = make_demo_corpus(
            f"{folder}/corpus", progress=lambda done, total: narrator.bar("corpus", done, total)
        )
    example = Path(__file__).parent / "demo.yaml"
    _run(load(str(example), [f"corpus.root={manifest}", f"storage={folder}/runs"]))


@app.command()
def status(
    folder: SweepFolder,
    live: Annotated[
        bool, typer.Option("--watch", help="Show it until the sweep ends. Ctrl-C ends the view.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a sweep."""
    from features.storage import Storage
    from orchestrator.cli.watch import print_status, watch
    from orchestrator.ledger.ledger import Ledger
    from orchestrator.results.status import StatusReader

    if live and as_json:
        raise UsageError("--json: prints one object, so it does not work with --watch")
    reader = StatusReader(Ledger(Storage.open(folder)))
    if live:
        watch(reader, folder)
    elif as_json:
        print(json.dumps(reader.read()))
    else:
        print_status(reader.read(), folder)


@app.command()
def report(
    folders: Annotated[
        list[str], typer.Argument(metavar="SWEEP...", help="Folders or URIs of sweeps.")
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write one page that compares the sweeps, here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a sweep into report/ inside its folder; with --to, that of a study."""
    from orchestrator import open_sweep
    from orchestrator.report import build

    if to is not None:
        _study_report(folders, to, as_json)
        return
    if len(folders) > 1:
        raise UsageError(
            f"--to: {len(folders)} sweeps make one page. Say where to write it, as in --to FOLDER"
        )
    opened = open_sweep(folders[0])
    names = build(opened.ledger, opened.findings)
    if as_json:
        print(json.dumps(opened.scores()))
    else:
        print("\n".join(opened.ledger.storage.path(name) for name in names))
        for sentence in opened.findings.alarm:  # standard output has the names of the files only
            print(sentence, file=sys.stderr)


@app.command()
def compare(first: SweepFolder, second: SweepFolder, as_json: AsJson = False) -> None:
    """Compare two sweeps on the same folds: the difference of their nested UA, with tests."""
    from orchestrator import compare as compare_sweeps
    from orchestrator.cli.console import print_comparison

    comparison = compare_sweeps(first, second)
    if as_json:
        print(json.dumps(comparison.as_dict()))
    else:
        print_comparison(comparison)


@app.command()
def study(
    config: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file of a study.")],
    overrides: Overrides = [],  # noqa: B006
    only_list: Annotated[
        bool, typer.Option("--list", help="Show the runs and their costs, and run nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run several sweeps on the same folds, and write one page. Run it again to resume."""
    from orchestrator.cli.console import print_costs, print_study
    from orchestrator.config.study import load_study

    if as_json and not only_list:
        raise ConfigError("--json: works only with --list. Add --list, or leave out --json")
    loaded = load_study(config, overrides)
    if only_list:
        from orchestrator.study import study_costs

        costs = study_costs(loaded)
        if as_json:
            print(json.dumps(costs))
        else:
            print_costs(costs)
        return
    from orchestrator import run_study

    finished = run_study(loaded)
    print_study(finished)
    if finished.failures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in finished.failures.items())
        raise SerError(f"{len(finished.failures)} runs failed. {reasons}")


def _study_report(folders: list[str], to: str, as_json: bool) -> None:
    """Write the page of a study of these sweeps into the folder `to`."""
    from features.storage import Storage
    from orchestrator import open_sweep
    from orchestrator.report.study import write_study
    from orchestrator.results.study import study
    from orchestrator.results.verdict import study_values

    target = Storage.open(to)
    name = target.root.rstrip("/").rsplit("/", 1)[-1] or "study"
    found = study(name, [open_sweep(folder) for folder in folders])
    names = write_study(found, target)
    values = study_values(found)
    if as_json:
        print(json.dumps(values))
    else:
        print("\n".join(target.path(file) for file in names))
        for sentence in values["verdict"]:  # standard output has the names of the files only
            print(sentence, file=sys.stderr)


def _run(configuration: "Configuration", fork: str | None = None) -> None:
    """Run a configuration to its end, and print the scores."""
    from orchestrator import run
    from orchestrator.cli.console import print_scores
    from orchestrator.results.opened import OpenedSweep
    from orchestrator.sweep.run import ledger_of

    failure = None
    try:
        finished = run(configuration, fork)
    except HopelessError as error:  # the report is written, and says more
        finished, failure = OpenedSweep(ledger_of(configuration, fork)), error
    scores = finished.scores()
    print_scores(scores, finished.ledger.storage.path("report/index.html"))
    if failure is not None:
        raise failure
    if scores["best"] is None or scores["trials"]["unfinished"]:
        sys.exit(1)  # the driver has printed the reasons


for command in (predict, refit, export):
    app.command()(command)


def main() -> None:
    """Run `ser`. Exit code 0: done, 1: failed, 2: wrong use."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may take only ASCII, and names have any sign
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with translated():
            app()
    except SerError as error:
        print(f"ser: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
