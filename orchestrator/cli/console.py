"""Tables and lines that the commands print for people."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from features.errors import shorten
from orchestrator.data.baselines import NOTHING, baselines_over_folds
from orchestrator.ledger.records import Audit, CorpusSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.results.comparison import Comparison
    from orchestrator.study import FinishedStudy


def print_corpus(summary: CorpusSummary, root: str, notes: list[str]) -> None:
    """A corpus's counts, notes about it, and its problems by reason."""
    table = Table("item", "count", title=f"{summary.corpus}: {root}", title_justify="left")
    labelled = summary.labelled or 1
    seconds = summary.duration_s
    duration = "not known without fetching the recordings" if seconds is None else _clock(seconds)
    context = (
        name.replace("_", " ") + (f" {value:.1%}" if isinstance(value, float) else f" {value:,}")
        for name, value in summary.context
    )
    rows = {
        "utterances": f"{summary.utterances:,}",
        "labelled": f"{summary.labelled:,}",
        "duration": duration,
        "sample rates": _listed(summary.sample_rates, " Hz"),
        "channels": _listed(summary.channels),
        "formats": _listed(summary.formats),
        "classes": ", ".join(f"{k} {v} ({v / labelled:.1%})" for k, v in summary.classes.items()),
        "speakers": _counts(summary.speakers),
        "sessions": _counts(summary.sessions),
        "dialogues": f"{summary.dialogues:,}",
        "context": ", ".join(context),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(markup=False, emoji=False).print(table)  # names may hold brackets and colons
    for note in notes:
        print(f"note: {note}")
    if not summary.problems:
        print("no problems")
        return
    print(f"{len(summary.problems)} problems:")  # on whole lines, because they have text to copy
    for reason in sorted({problem.reason for problem in summary.problems}):
        files = [problem.file for problem in summary.problems if problem.reason == reason]
        print(f"  {shorten(files, 3)}: {reason}")


def print_labels(table: "pa.Table") -> None:
    """The recognised utterances of `ser predict`. Long file names take several lines."""
    if not table.num_rows:  # all inputs are named as left out
        return
    classes = [name for name in table.column_names if name.startswith("posterior_")]
    names = [name.removeprefix("posterior_") for name in classes]
    shown = Table("file", "seconds", "emotion", *names, "statistics")
    shown.columns[0].overflow = "fold"
    for row in table.to_pylist():
        part = "" if row["end"] is None else f"{row['start'] or 0:.2f} to {row['end']:.2f}"
        used = row["statistics"]
        if used in ("speaker", "shrunk"):
            used += f" ({row['speaker_seconds']:.1f} s"
            used += ")" if used.startswith("speaker") else f", weight {row['speaker_weight']:.2f})"
        values = [f"{row[name]:.3f}" for name in classes]
        shown.add_row(row["file"], part, row["emotion"], *values, used)
    Console(markup=False, emoji=False).print(shown)


def _counts(counts: dict[str, int]) -> str:
    names = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{len(counts)}: {names}" if counts else "none"


def _listed(recordings: dict[str, int], unit: str = "") -> str:
    """How many recordings have each value, for example "16000 Hz (24), 8000 Hz (1)"."""
    names = ", ".join(f"{name}{unit} ({count:,})" for name, count in recordings.items())
    return names or "not known without fetching the recordings"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min {rest:02d} s"


def print_folds(folds: Audit) -> None:
    """The scores of labels alone in the folds."""
    title = f"{folds.scheme}: UA of labels alone, without any sound"
    table = Table("given", "UA", "95 %", "above chance", title=title, title_justify="left")
    for each in baselines_over_folds(folds.folds):
        between = _span({"low": each.ua.low, "high": each.ua.high})
        table.add_row(each.given, f"{each.ua.value:.3f}", between, "yes" if each.leaks else "no")
    Console().print(table)


def folds_values(folds: Audit) -> dict[str, Any]:
    """As `print_folds`, as plain values: `scheme` and `label_baselines`."""
    given = {
        each.given: {
            "ua": each.ua._asdict(),
            "leaks": each.leaks,
            "folds": {fold.name: fold.label_baselines[each.given] for fold in folds.folds},
        }
        for each in baselines_over_folds(folds.folds)
    }
    return {"scheme": folds.scheme, "label_baselines": given}


def print_scores(scores: dict[str, Any], page: str) -> None:
    """The page's place, the best trial's UA, and the nested estimate.

    scores : as `orchestrator.results.summary.summarise` returns them
    """
    print(f"report: {page}")
    best, nested = scores["best"], scores["nested"]
    if best is None:
        print("no trial has a score; the report names each reason")
        return
    pooled = best["pooled"]["ua"]
    print(
        f"best UA: {pooled['value']:.3f} pooled over test utterances "
        f"(95 % by speakers {_span(pooled)}), trial {best['number']} ({best['trial']})"
    )
    if nested:
        mean = nested["mean_over_folds"]["ua"]
        print(
            f"nested UA: {nested['pooled']['ua']:.3f} pooled, {mean['value']:.3f} mean over folds; "
            f"chance {scores['chance']['ua']:.3f}"
        )
    if labels := scores["label_baselines"]:
        print_labels_alone(labels)
    if scores["optimistic"]:
        print(_OPTIMISTIC)
    for sentence in scores["alarm"]:
        print(sentence)


def print_labels_alone(labels: dict[str, Any]) -> None:
    """The highest label-only baseline, and a sentence if the model is not clearly better."""
    given, highest = max(labels["given"].items(), key=lambda item: item[1]["ua"]["value"])
    if given != NOTHING:
        print(f"labels alone: {highest['ua']['value']:.3f} UA given the {given}, without any sound")
    if not labels["beaten"]:
        other = "chance" if given == NOTHING else "what labels alone give"
        print(f"the model's UA is not clearly above {other}: the report says more")


_OPTIMISTIC = "optimistic: epochs and configuration were selected on the part that is reported"


def _span(interval: dict[str, float | None]) -> str:
    low, high = interval["low"], interval["high"]
    return "not known" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def print_comparison(comparison: "Comparison") -> None:
    """Two sweeps, the difference between them, and both tests."""
    for side in (comparison.first, comparison.second):
        cases = "".join(
            f"\n  same class as {case.same} of the previous turns ({case.share:.0%} of utterances):"
            f" WA {case.wa:.3f}, UA {case.ua:.3f}"
            for case in side.context
        )
        print(f"{side.name} ({side.model}): UA {side.ua:.3f} mean over folds{cases}")
    test = comparison.t_test
    print(
        f"difference: {test.mean:+.3f} (95 % {test.low:+.3f} to {test.high:+.3f}, corrected "
        f"resampled t over {len(comparison.first.folds)} folds, p = {test.p_value:.3g})"
    )
    if comparison.mcnemar is None:
        print("McNemar's test is left out, because utterances are tested in several folds")
    else:
        first_only, second_only, p_value = comparison.mcnemar
        print(
            f"McNemar, exact: {first_only} utterances are right only in {comparison.first.name}, "
            f"{second_only} only in {comparison.second.name}, p = {p_value:.3g}"
        )
    if comparison.first.optimistic:
        print(_OPTIMISTIC)


def print_costs(costs: dict[str, Any]) -> None:
    """The runs of a study and their costs.

    costs : as `orchestrator.study.study_costs` returns them
    """
    title = f"{costs['study']}: {costs['folder']}"
    table = Table(title=title, title_justify="left")
    for column in ("run", "model", "trials x folds x epochs", "finished", "left"):
        table.add_column(column, overflow="fold")
    for row in costs["runs"]:
        seed = "" if row["seed"] is None else f", seed {row['seed']}"
        size = f"{row['trials']} x {row['folds']} x {row['epochs']} = {row['fold_epochs']:,}"
        done = (f"{row['finished']} of {row['trials']}", f"{row['fold_epochs_left']:,}")
        table.add_row(row["sweep"] + seed, row["model"], size, *done)
    Console(markup=False, emoji=False).print(table)
    print(
        f"at most {costs['fold_epochs']:,} fold-epochs, of which {costs['fold_epochs_left']:,} are "
        f"left. Patience and pruning stop training early"
    )


def print_study(study: "FinishedStudy") -> None:
    """The scores of the sweeps of a study, and the place of its page.

    Nested UA is the mean over folds with its t interval, best UA is pooled over test utterances.
    """
    columns = ("sweep", "model", "trials", "nested UA (95 %)", "best UA")
    table = Table(*columns, title=study.name, title_justify="left")
    for sweep in study.sweeps:
        scores = sweep.scores()
        best, nested = scores["best"], scores["nested"]
        mean = nested["mean_over_folds"]["ua"] if nested else None
        table.add_row(
            sweep.name,
            sweep.record.model,
            ", ".join(f"{count} {status}" for status, count in scores["trials"].items() if count),
            f"{mean['value']:.3f} ({_span(mean)})" if mean else "",
            f"{best['pooled']['ua']['value']:.3f}" if best else "",
        )
    Console(markup=False, emoji=False).print(table)
    print("nested UA: mean over folds. Best UA: of the best configuration, pooled")
    print(f"report: {study.storage.root}")
