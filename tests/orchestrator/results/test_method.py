"""The paragraph "what this number is" is right for each scheme and each selection."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.sections import FOLDS
from orchestrator.results.method import paragraph
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.study import study
from tests.support.made_study import STATUSES, made, make_study, with_configuration

SENTENCES = {
    "leave_one_session_out": {
        "validation": "Each of the 5 folds tests one session, and the next session validates.",
        "held_out": "Each of the 5 folds tests one session.",
    },
    "leave_one_speaker_out": {
        "validation": "Each of the 5 folds tests one speaker, and the next speaker validates.",
        "held_out": "Each of the 5 folds tests one speaker.",
    },
    "random_repeated": {
        "validation": "tests a random 20% of the utterances of each class (seed 0). Several folds",
        "held_out": "tests a random 20% of the utterances of each class (seed 0). Several folds",
    },
    "phrase_groups": {
        "validation": "Each fold tests one group, and the next group validates.",
        "held_out": "Each fold tests two groups.",
    },
    "stratified_group_k_fold": {
        "validation": "Each fold tests one part, and the next part validates.",
        "held_out": "Each fold tests one part. ",
    },
    "corpus": {
        "validation": "The division into 5 folds is the corpus's own.",
        "held_out": "The division into 5 folds is the corpus's own.",
    },
}


def with_shared_speakers(sweep: OpenedSweep, known: int) -> OpenedSweep:
    """The sweep with `known` test utterances of each fold by speakers who also train."""
    folds = [f.model_copy(update={"shared": {"speaker": known}}) for f in sweep.record.audit.folds]
    audit = sweep.record.audit.model_copy(update={"folds": folds})
    sweep.ledger.write_sweep(sweep.record.model_copy(update={"audit": audit}))
    return OpenedSweep(sweep.ledger)


def test_every_scheme_has_a_sentence() -> None:
    assert SENTENCES.keys() == FOLDS.keys()


@pytest.mark.parametrize("selection", ["validation", "held_out"])
@pytest.mark.parametrize("scheme", list(SENTENCES))
def test_scheme_and_selection_are_described(tmp_path: Path, scheme: str, selection: str) -> None:
    options: Any = FOLDS[scheme](selection=selection)  # type: ignore[call-arg]
    sweep = made(tmp_path, "iaan", statuses=["complete"], selection=selection)
    sweep.record.configuration["folds"].clear()
    changed = with_configuration(sweep, folds=options.model_dump(mode="json"))
    text = paragraph(study("made", [changed]))
    assert SENTENCES[scheme][selection] in text
    optimistic = selection == "held_out"
    assert ("selected by UA on the test part itself (held out)" in text) == optimistic
    assert ("All scores are therefore optimistic" in text) == optimistic
    assert ("on the validation part of the same fold" in text) == (not optimistic)
    assert text.startswith(f"The {'optimistic' if optimistic else 'nested'} UA of iaan is ")
    for forbidden in ("None", "nan", "{", "}", "  ", ".."):
        assert forbidden not in text


def test_speakers_who_also_train_are_counted(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan", statuses=["complete"])
    assert "speaker-independent: no speaker of a test part trains" in paragraph(study("a", [sweep]))
    text = paragraph(study("a", [with_shared_speakers(sweep, 20)]))
    assert "speaker-dependent: 25% of the tested utterances are by speakers who also train" in text


def test_corpus_classes_and_merges_are_named(tmp_path: Path) -> None:
    changed = {"merge": {"exc": "hap"}, "only": {"style": ["improvised", "scripted"]}}
    sweep = with_configuration(made(tmp_path, "iaan"), corpus=changed)
    text = paragraph(study("a", [sweep]))
    assert "The corpus is iemocap: 5,531 labelled utterances of 10 speakers in 4 classes: " in text
    assert "ang (1382), hap (1382), neu (1382), sad (1382)." in text
    assert "Merged labels: exc into hap." in text
    assert "Only these utterances were used: style improvised or scripted." in text


def test_searches_trials_seeds_and_versions_are_named(tmp_path: Path) -> None:
    sweeps = make_study(tmp_path)
    text = paragraph(study("a", sweeps))
    assert (
        "These configurations were tried with the tpe sampler over "
        "model.dropout, model.hidden_size, training.label_smoothing, training.learning_rate: "
        "5 for iaan (1 pruned, 1 failed); 5 for bigru_iaa (1 pruned, 1 failed); "
        "5 for rand_iaan (1 pruned, 1 failed); 5 for bigru_att (1 pruned, 1 failed)." in text
    )
    assert "Training seed: 0." in text
    assert "Versions: ray 2.60.0, torch 2.13.0." in text
    assert "UA is the mean over classes of recall (also called UAR)." in text
    assert "The search itself used the mean over all folds" in text


def test_unequal_versions_are_named_by_sweep(tmp_path: Path) -> None:
    versions = {"versions": {"torch": "2.13.1"}, "commit": "abc123"}
    sweeps = [made(tmp_path, "iaan"), made(tmp_path, "bigru_att", extra=versions)]
    text = paragraph(study("a", sweeps))
    assert "Versions of iaan: ray 2.60.0, torch 2.13.0." in text
    assert "Versions of bigru_att: torch 2.13.1, commit abc123." in text


def test_one_fold_has_no_interval_over_folds(tmp_path: Path) -> None:
    text = paragraph(study("a", [made(tmp_path, "iaan", folds=1)]))
    assert "on the one test part." in text
    assert "Student" not in text


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        pytest.param({}, "", id="no class"),
        pytest.param(
            {"Ses02": "hap", "Ses04": "sad", "Ses05": "hap"},
            "Test parts without a class, of 5: hap in 2, sad in 1. UA of such a part is the mean "
            "over its other classes.",
            id="some parts",
        ),
        pytest.param(
            {f"Ses{number:02d}": "hap" for number in range(1, 6)},
            "No test utterance is of class hap. UA is the mean over ang, neu, sad.",
            id="all parts",
        ),
    ],
)
def test_classes_that_test_parts_lack_are_named(
    tmp_path: Path, lacking: dict[str, str], sentence: str
) -> None:
    text = paragraph(study("a", [made(tmp_path, "iaan", statuses=["complete"], lacking=lacking)]))
    assert sentence in text
    assert ("without a class" in text or "No test utterance" in text) == bool(lacking)


def test_an_unfinished_search_names_the_planned_trials(tmp_path: Path) -> None:
    sweep = with_configuration(made(tmp_path, "iaan", running=3), search={"trials": 8})
    assert f": {len(STATUSES)} of 8 planned for iaan (1 pruned, 1 failed)." in paragraph(
        study("a", [sweep])
    )


def test_a_study_without_a_score_says_so(tmp_path: Path) -> None:
    text = paragraph(study("a", [made(tmp_path, "iaan", statuses=["failed"])]))
    assert text.startswith("No sweep has a score. The corpus is iemocap")
