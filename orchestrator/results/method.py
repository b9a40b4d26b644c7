"""The paragraph "what this number is": how the scores of a study were made, to paste into a paper.

The audit says whether speakers are in several parts, so this is also right for a corpus's own folds
and for groups that the corpus mixes.
"""

import math
from collections.abc import Iterator, Sequence

from orchestrator.ledger.records import SweepRecord
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED
from orchestrator.results.study import Entry, Study


def paragraph(study: Study) -> str:
    """The text, in whole sentences. The same study gives the same text."""
    record = study.record
    sentences = [
        _score(study),
        _corpus(record),
        _scheme(record),
        _speakers(record),
        _selection(study),
        *_searches(study.entries),
        _metric(record),
        *missing_classes(record),
        _seeds(study),
        _versions(study),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _score(study: Study) -> str:
    if not study.ranking:
        return "No sweep has a score."
    best = study.ranking[0]
    pooled, mean = best.score.pooled.ua, best.score.ua
    kind = "optimistic" if best.record.optimistic else "nested"
    sentence = (
        f"The {kind} UA of {best.record.model} is {mean.value:.1%}{_span(mean.low, mean.high, 't')}"
        f" as mean over folds, and {pooled.value:.1%}"
        f"{_span(pooled.low, pooled.high, 'bootstrap')} pooled over all test utterances."
    )
    if len(best.score.side.folds) == 1:
        sentence = (
            f"The {kind} UA of {best.record.model} is {pooled.value:.1%}"
            f"{_span(pooled.low, pooled.high, 'bootstrap')} on the one test part."
        )
    return sentence


def _span(low: float, high: float, kind: str) -> str:
    if math.isnan(low):
        return ""
    return f" (95% {kind} interval: {low:.1%} to {high:.1%})"


def _corpus(record: SweepRecord) -> str:
    corpus = record.configuration["corpus"]
    classes = ", ".join(f"{name} ({record.corpus.classes.get(name, 0)})" for name in record.classes)
    sentence = (
        f"The corpus is {record.corpus.corpus}: {record.corpus.labelled:,} labelled utterances of "
        f"{len(record.corpus.speakers)} speakers in {len(record.classes)} classes: {classes}."
    )
    if merged := corpus.get("merge"):
        listed = ", ".join(f"{label} into {name}" for label, name in merged.items())
        sentence += f" Merged labels: {listed}."
    if only := corpus.get("only"):
        listed = "; ".join(f"{column} {' or '.join(values)}" for column, values in only.items())
        sentence += f" Only these utterances were used: {listed}."
    return sentence


def _scheme(record: SweepRecord) -> str:
    folds, count = record.configuration["folds"], len(record.folds)
    held_out = record.optimistic
    if folds["scheme"] in ("leave_one_session_out", "leave_one_speaker_out"):
        unit = folds["scheme"].split("_")[2]
        sentence = f"Each of the {count} folds tests one {unit}"
        return f"{sentence}." if held_out else f"{sentence}, and the next {unit} validates."
    if folds["scheme"] == "random_repeated":
        return (
            f"Each of the {count} folds tests a random {folds['test_share']:.0%} of the utterances "
            f"of each class (seed {folds['seed']}). Several folds may test the same utterance."
        )
    if folds["scheme"] == "phrase_groups":
        parts = "tests two groups" if held_out else "tests one group, and the next group validates"
        return (
            f"The phrases were divided at random into {count} groups (seed {folds['seed']}). Each "
            f"fold {parts}."
        )
    if folds["scheme"] == "stratified_group_k_fold":
        return (
            f"The {folds['group']}s were divided into {count} parts with similar shares of the "
            f"classes (seed {folds['seed']}). Each fold tests one part"
            f"{'' if held_out else ', and the next part validates'}."
        )
    word = "fold" if count == 1 else "folds"
    return f"The division into {count} {word} is the corpus's own."


def _speakers(record: SweepRecord) -> str:
    folds = record.audit.folds
    known = sum(fold.shared.get("speaker", 0) for fold in folds)
    tested = sum(fold.parts["test"].utterances for fold in folds)
    if not known:
        return "The folds are speaker-independent: no speaker of a test part trains in its fold."
    return (
        f"The folds are speaker-dependent: {known / tested:.0%} of the tested utterances are by "
        f"speakers who also train."
    )


def _selection(study: Study) -> str:
    record = study.record
    metric = record.metric.upper()
    if record.optimistic:
        return (
            f"The epoch and the configuration were selected by {metric} on the test part itself "
            f"(held out). All scores are therefore optimistic: they do not show how well a model "
            f"works on new speech."
        )
    sentence = (
        f"For each test fold, the epoch and the configuration were selected by {metric} on the "
        f"validation part of the same fold, which contains no utterance of the training part or of "
        f"the test part (nested selection)."
    )
    if any(entry.findings.searched for entry in study.entries):
        sentence += (
            " The search itself used the mean over all folds, so a small optimism can remain."
        )
    return sentence


def _searches(entries: Sequence[Entry]) -> Iterator[str]:
    """A sentence for each sampler and set of hyperparameters, with the counts of its sweeps."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        record, counts = entry.record, entry.findings.counts
        name = record.model if entry.label == record.model else f"{record.model} ({entry.label})"
        searched = entry.findings.searched
        if not searched:
            yield f"{name} has one configuration, without a search."
            continue
        finished = len(entry.findings.trials)
        number = f"{finished} of {record.trials} planned" if finished < record.trials else finished
        ended = [f"{counts[status]} {status}" for status in ("pruned", "failed") if counts[status]]
        text = f"{number} for {name}"
        key = (record.configuration["search"]["sampler"], *sorted(searched))
        groups.setdefault(key, []).append(f"{text} ({', '.join(ended)})" if ended else text)
    for (sampler, *searched), texts in groups.items():
        yield (
            f"These configurations were tried with the {sampler} sampler over "
            f"{', '.join(searched)}: {'; '.join(texts)}."
        )


def _metric(record: SweepRecord) -> str:
    sentence = (
        "UA is the mean over classes of recall (also called UAR). Intervals of pooled scores are "
        f"percentile bootstraps over speakers ({BOOTSTRAP_SAMPLES} samples, seed {BOOTSTRAP_SEED})"
    )
    if len(record.folds) > 1:
        sentence += (
            "; intervals over folds are Student's t. Models were compared on the same folds with "
            "the corrected resampled t-test (Nadeau and Bengio 2003)"
        )
    return f"{sentence}."


def missing_classes(record: SweepRecord) -> Iterator[str]:
    """Sentences about the classes that all or some test parts lack, and about UA without them."""
    parts = [fold.parts["test"].classes for fold in record.audit.folds]
    lacking = {name: sum(not part.get(name) for part in parts) for name in record.classes}
    if absent := [name for name, count in lacking.items() if count == len(parts)]:
        present = ", ".join(name for name in lacking if name not in absent)
        yield f"No test utterance is of class {' or '.join(absent)}. UA is the mean over {present}."
    some = {name: count for name, count in lacking.items() if 0 < count < len(parts)}
    if some:
        listed = ", ".join(f"{name} in {count}" for name, count in some.items())
        yield (
            f"Test parts without a class, of {len(parts)}: {listed}. UA of such a part is the mean "
            f"over its other classes."
        )


def _seeds(study: Study) -> str:
    seeds = sorted(
        {trial.record.seed for entry in study.entries for trial in entry.findings.trials}
    )
    if not seeds:
        return ""
    sentence = f"Training seed{'s' * (len(seeds) != 1)}: {', '.join(map(str, seeds))}."
    for label, spread in study.seeds.items():
        listed = ", ".join(str(seed) for seed in sorted(spread.ua) if seed != spread.own)
        sentence += f" The best configuration of {label} was trained again with the seeds {listed}."
    return sentence


def _versions(study: Study) -> str:
    return " ".join(_version_sentences(study))


def _version_sentences(study: Study) -> Iterator[str]:
    """One sentence if all sweeps agree, otherwise one for each sweep."""
    texts = {entry.label: _version(entry.record) for entry in study.entries}
    if len(set(texts.values())) == 1:
        yield f"Versions: {next(iter(texts.values()))}."
        return
    for label, text in texts.items():
        yield f"Versions of {label}: {text}."


def _version(record: SweepRecord) -> str:
    parts = [f"{name} {version}" for name, version in record.versions.items()]
    if record.commit:
        parts.append(f"commit {record.commit}")
    return ", ".join(parts) or "not recorded"
