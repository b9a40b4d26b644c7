"""SER Orchestrator: train and tune speech emotion recognition models on a Ray cluster.

    import orchestrator

    sweep = orchestrator.run(orchestrator.load("my.yaml"))
    sweep.scores()["nested"]["pooled"]["ua"]
    sweep.predictions()                        # an Arrow table
    orchestrator.load_model(sweep, fold="1")   # a PyTorch module

The names in `__all__` are the public interface. Importing this package imports neither torch nor
Ray; the functions import the modules that they need.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SerError, translated

if TYPE_CHECKING:
    from orchestrator.config.sections import Configuration
    from orchestrator.config.study import Study
    from orchestrator.inference.model import SpeechModel
    from orchestrator.results.comparison import Comparison
    from orchestrator.results.opened import OpenedSweep
    from orchestrator.study import FinishedStudy

__all__ = [
    "SerError",
    "compare",
    "load",
    "load_model",
    "load_study",
    "open_sweep",
    "run",
    "run_study",
]


def compare(first: "OpenedSweep | str", second: "OpenedSweep | str") -> "Comparison":
    """Compare two sweeps on the same folds. Sweeps are opened ones, folders or URIs.

    Raises ComparisonError if their test parts are not the same.

    >>> compare("runs/bigru", "runs/iaan").t_test.p_value
    """
    from orchestrator.results import comparison

    with translated():
        return comparison.compare(_opened(first).ledger, _opened(second).ledger)


def load(source: str | dict[str, Any], overrides: list[str] | None = None) -> "Configuration":
    """Read a configuration, apply `key=value` overrides, and check it. Raises ConfigError.

    source : the path of a YAML file, or the same as a dictionary

    >>> load("my.yaml", ["training.epochs=5"]).training.epochs
    5
    """
    from orchestrator.config import parsing

    with translated():
        return parsing.load(source, overrides)


def load_model(
    sweep: "OpenedSweep | str",
    trial: str | None = None,
    fold: str | None = None,
    refit: bool = False,
    features: Mapping[str, str] | None = None,
    trust: Sequence[str] = (),
) -> "SpeechModel":
    """A trial's networks with their selected weights, in evaluation mode, as a PyTorch module.

    sweep : an opened sweep, its folder or URI, or a folder that `ser export` wrote
    trial : a trial's id; by default the best trial
    fold : a fold's name; by default the ensemble of all folds, whose posteriors are averaged
    refit : use the networks of `ser refit`; the posteriors of several seeds are averaged
    features : options that name files, as in `{"encoder": "folder"}`. An export needs them
    trust : names of your own code (`my_models:MyNet`) that the sweep may import in this process

    >>> load_model("exported").predict(samples, 16_000)
    {'ang': 0.11, 'hap': 0.06, 'neu': 0.71, 'sad': 0.12}
    >>> load_model("runs/mine", fold="Ses01")(current, own, other).logits
    """
    from orchestrator.inference import model

    with translated():
        return model.load_model(sweep, trial, fold, refit, features, trust)


def load_study(source: str | dict[str, Any], overrides: list[str] | None = None) -> "Study":
    """Read a study, apply `key=value` overrides, and check it. Raises ConfigError.

    source : the path of a YAML file, or the same as a dictionary

    >>> list(load_study("study.yaml", ["training.epochs=5"]).sweeps)
    ['svm', 'iaan']
    """
    from orchestrator.config import study

    with translated():
        return study.load_study(source, overrides)


def open_sweep(path: str) -> "OpenedSweep":
    """Open a sweep's folder or URI. Raises NoSweepError if there is no sweep.

    >>> open_sweep("runs/mine").best.score
    """
    from features.storage import Storage
    from orchestrator.ledger.ledger import Ledger
    from orchestrator.results.opened import OpenedSweep

    with translated():
        return OpenedSweep(Ledger(Storage.open(path)))


def run(configuration: "Configuration", fork: str | None = None) -> "OpenedSweep":
    """Run a sweep to its end, or resume it, and write its report. Events go to standard error.

    Without a `search` section, the one configuration is cross-validated. If Ray is initialised, it
    is used; otherwise the cluster at RAY_ADDRESS, or a local Ray.

    fork : name of a new sweep, which copies the trials of this one that are still valid

    Raises HopelessError if too many trials in a row failed; the report is written all the same.
    """
    from orchestrator import report
    from orchestrator.errors import HopelessError, finished_trials_kept
    from orchestrator.progress import Narrator
    from orchestrator.results.opened import OpenedSweep
    from orchestrator.sweep.run import ledger_of, run_sweep
    from orchestrator.tracking.follow import followed

    failure, narrator = None, Narrator()
    with translated():
        ledger = ledger_of(configuration, fork)
        with followed(configuration.trackers, ledger, narrator.say):
            try:
                with finished_trials_kept():
                    run_sweep(configuration, narrator, fork)
            except HopelessError as error:
                failure = error
            sweep = OpenedSweep(ledger)
            report.build(sweep.ledger, sweep.findings)
    if failure is not None:
        raise failure
    return sweep


def run_study(study: "Study") -> "FinishedStudy":
    """Run a study to its end, or resume it, and write its page. Events go to standard error.

    If Ray is initialised, it is used; otherwise the cluster at RAY_ADDRESS, or a local Ray. If too
    many trials of a sweep in a row fail, the others still run. `failures` of the returned study
    names these sweeps.

    >>> [sweep.best.score for sweep in run_study(load_study("study.yaml")).sweeps]
    """
    from orchestrator import study as studies
    from orchestrator.progress import Narrator

    with translated():
        return studies.run_study(study, Narrator())


def _opened(sweep: "OpenedSweep | str") -> "OpenedSweep":
    return open_sweep(sweep) if isinstance(sweep, str) else sweep
