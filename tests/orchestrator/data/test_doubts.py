"""Doubts about a corpus: probable mistakes are named with their remedy, and nothing else is."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from features.manifest import Problem
from orchestrator.config.parsing import load_corpus
from orchestrator.config.sections import CorpusConfig
from orchestrator.data.corpus import Corpus, read_corpus
from orchestrator.errors import ConfigError


def corpus(folder: Path, config: dict[str, Any], **columns: list[Any]) -> Corpus:
    """A corpus of one-second utterances with these columns; the others have different values."""
    rows = len(next(iter(columns.values())))
    plain = {
        "file": [f"{i}.wav" for i in range(rows)],
        "speaker": ["s"] * rows,
        "emotion": ["ang"] * rows,
    }
    pacsv.write_csv(pa.table(plain | columns), folder / "m.csv")
    return read_corpus(CorpusConfig.model_validate({"root": str(folder / "m.csv"), **config}))


def doubt(of: Corpus, place: str) -> str:
    """The reason of the only doubt, which is at `place`. It is a problem of the corpus too."""
    (found,) = of.doubts
    assert found in of.manifest.problems
    assert found.file == place
    return found.reason


ALIKE = {
    "case": ("ang", "Ang", "merge: {Ang: ang}"),
    "spaces": ("very sad", "very  sad", "merge: {very  sad: very sad}"),
    "no-break space": ("very sad", "very\xa0sad", r'merge: {"very\_sad": very sad}'),
    "zero width": ("ang", "a\u200bng", r'merge: {"a\u200Bng": ang}'),
    "byte order mark": ("ang", "\ufeffang", r'merge: {"\uFEFFang": ang}'),
    "decomposed": ("fröhlich", "fro\u0308hlich", r'merge: {"fro\u0308hlich": "fr\xF6hlich"}'),
    "composed": ("ärger", "Ärger", "merge: {Ärger: ärger}"),
    "leading zero": ("1", "01", "merge: {'01': '1'}"),
    "point zero": ("0", "0.0", "merge: {'0.0': '0'}"),
    "yaml": ("no", "No", "merge: {'No': 'no'}"),
}


@pytest.mark.parametrize(("name", "other", "line"), ALIKE.values(), ids=list(ALIKE))
def test_labels_that_look_like_a_class_are_named_with_a_merge_to_copy(
    tmp_path: Path, name: str, other: str, line: str
) -> None:
    emotion = [name, other, "neu", name, other, "xxx", None]
    read = corpus(tmp_path, {"classes": [name, "neu"]}, emotion=emotion)
    assert read.labels.tolist() == [0, -1, 1, 0, -1, -1, -1]
    reason = doubt(read, "corpus.classes")
    assert reason.startswith("2 utterances have no class, because their label differs from a class")
    assert reason.endswith(f"If they mean the class, write `{line}` in the section corpus")
    everything = corpus(tmp_path, {}, emotion=emotion)
    reason = doubt(everything, "corpus.classes")
    assert reason.startswith("the classes ")
    assert f"write `{line}` in the section corpus" in reason or other < name

    # The line can be copied into the file as it is.
    path = tmp_path / "c.yaml"
    root = tmp_path / "m.csv"
    text = f"corpus:\n  root: {root}\n  {line}\n  classes: ['{name}', neu]\n"
    path.write_text(text, encoding="utf-8")
    merged = read_corpus(load_corpus(str(path)))
    assert merged.labels.tolist() == [0, 0, 1, 0, 0, -1, -1]
    assert merged.doubts == ()


@pytest.mark.parametrize(
    ("config", "emotion", "count", "line"),
    [
        (  # of a merged label
            {"classes": ["hap", "neu"], "merge": {"exc": "hap"}},
            ["hap", "exc", "Exc", "neu"],
            1,
            "merge: {exc: hap, Exc: hap}",
        ),
        (  # of the new label
            {"classes": ["hap", "neu"], "merge": {"exc": "Hap"}},
            ["hap", "exc", "exc", "neu"],
            2,
            "merge: {exc: hap}",
        ),
        (  # several at once, with the most frequent first
            {"classes": ["hap", "neu"]},
            ["hap", "neu", "Neu", "HAP", "Neu"],
            3,
            "merge: {Neu: neu, HAP: hap}",
        ),
    ],
)
def test_the_merge_to_copy_has_the_merges_of_the_file(
    tmp_path: Path, config: dict[str, Any], emotion: list[str], count: int, line: str
) -> None:
    read = corpus(tmp_path, config, emotion=emotion)
    reason = doubt(read, "corpus.classes")
    assert reason.startswith(f"{count} utterances have no class")
    assert reason.endswith(f", write `{line}` in the section corpus")


@pytest.mark.parametrize(
    ("classes", "line"),
    [(["ang", "Ang"], "{Ang: ang}"), (["Ang", "ang", "neu"], "{Ang: ang}"), (None, "{Ang: ang}")],
)
def test_classes_that_look_alike_are_named(
    tmp_path: Path, classes: list[str] | None, line: str
) -> None:
    read = corpus(tmp_path, {"classes": classes}, emotion=["ang", "Ang", "ang", "neu"])
    reason = doubt(read, "corpus.classes")
    assert reason.startswith("the classes 'ang' (2), 'Ang' (1) differ only in case, spaces, ")
    assert reason.endswith(f"write `merge: {line}` in the section corpus")
    assert ("name it once" in reason) == (classes is not None)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"merge": {"exc": "ang"}}, "no utterance has the label 'exc', so this merge does nothing"),
        (
            {"merge": {"exc": "ang", "hapy": "hap"}},
            "no utterance has the label 'exc' or 'hapy', so",
        ),
        ({"merge": {"2": "ang", "hap": "ang"}}, "no utterance has the label '2', so"),
        (
            {"merge": {"hap": "joy"}, "classes": ["ang", "neu"]},
            "2 utterances have no class, because corpus.merge renames their label to 'joy' (2), ",
        ),
        (
            {"merge": {"ang": "hap", "hap": "joy"}, "classes": ["neu", "hap"]},
            "2 utterances have no class, because corpus.merge renames their label to 'joy' (2), ",
        ),
        (
            {"merge": {"neu": "calm", "hap": "joy"}, "classes": ["ang", "calm"]},
            "2 utterances have no class, because corpus.merge renames their label to 'joy' (2), ",
        ),
    ],
)
def test_a_merge_that_matches_nothing_is_named(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    read = corpus(tmp_path, config, emotion=["ang", "hap", "neu", "hap"])
    assert doubt(read, "corpus.merge").startswith(words)


@pytest.mark.parametrize(
    ("name", "labels", "example"),
    [
        ("anger", ["Anger", "neu"], ", as in {Anger: anger}"),
        ("0", ["0.0", "neu"], ", as in {'0.0': '0'}"),
        ("sad", ["s\u00adad", "neu"], r', as in {"s\xADad": sad}'),
        ("joy", ["sad", "neu"], ""),
    ],
)
def test_a_class_that_matches_nothing_is_refused_with_the_label_that_looks_like_it(
    tmp_path: Path, name: str, labels: list[str], example: str
) -> None:
    with pytest.raises(ConfigError, match=f"no utterance has the label {name}") as caught:
        corpus(tmp_path, {"classes": [name, "neu"]}, emotion=labels)
    assert str(caught.value).endswith(f"rename a label with corpus.merge{example}")


@pytest.mark.parametrize(
    ("only", "kept", "words"),
    [
        (["read", "sung"], 2, "no row has style 'sung' (values: 'read' (2), 'Free' (1)). Correct "),
        (["read", "sung", "said"], 2, "no row has style 'sung' or 'said' (values: "),
        (["NaN", "Free"], 1, "no row has style 'NaN' (values: "),
    ],
)
def test_a_chosen_value_that_matches_nothing_is_named(
    tmp_path: Path, only: list[str], kept: int, words: str
) -> None:
    read = corpus(tmp_path, {"only": {"style": only}}, style=["read", "Free", "read", None])
    assert len(read.manifest.table) == kept
    assert doubt(read, "corpus.only").startswith(words)


@pytest.mark.parametrize(
    ("only", "other", "line"),
    [
        ("read", "Read", "style: [read, Read]"),
        ("1", "01", "style: ['1', '01']"),
        ("free talk", "free\xa0talk", r'style: [free talk, "free\_talk"]'),
    ],
)
def test_rows_whose_value_looks_like_a_chosen_one_are_named(
    tmp_path: Path, only: str, other: str, line: str
) -> None:
    read = corpus(tmp_path, {"only": {"style": [only]}}, style=[only, other, other, "x"])
    reason = doubt(read, "corpus.only")
    assert reason.startswith("2 rows are left out, because their style differs from a chosen value")
    assert reason.endswith(f"write `{line}` in corpus.only")


@pytest.mark.parametrize("column", ["speaker", "session", "dialogue", "phrase", "split", "fold"])
@pytest.mark.parametrize(
    "names",
    [("F1", "f1"), ("Jose\u0301", "José"), ("1", "01"), ("a b", "a\xa0b"), ("x", "x\u200b")],
)
def test_units_that_look_alike_are_named(
    tmp_path: Path, column: str, names: tuple[str, str]
) -> None:
    columns = {column: [names[0], names[0], names[1], "other"]}
    reason = doubt(corpus(tmp_path, {}, **columns), f"column {column}")
    assert reason.startswith(f"some {column}s differ only in case, spaces, ")
    assert " (2), " in reason
    assert reason.endswith(f"If they are the same {column}, write one name")


SAME = {
    "a file twice": {"file": ["a.wav", "a.wav", "b.wav"]},
    "a file by two paths": {"file": ["./a.wav", "b.wav", "a.wav"]},
    "a segment twice": {"file": ["a.wav"] * 3, "start": [0, None, 2], "end": [1, 1, 3]},
}


@pytest.mark.parametrize("columns", SAME.values(), ids=list(SAME))
def test_a_recording_in_two_rows_is_named(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    ids = {"id": ["u", "v", "w"]}
    same = corpus(tmp_path, {}, **columns, **ids)
    reason = doubt(same, columns["file"][0])
    assert reason.startswith("1 recordings are in several rows with the same label, and each ")
    assert "The ids of the first: u (ang), " in reason
    differs = corpus(tmp_path, {}, **columns, **ids, emotion=["ang", "neu", "sad"])
    reason = doubt(differs, columns["file"][0])
    assert reason.startswith("1 recordings are in several rows with different labels, and each ")
    assert reason.endswith("Keep the row with the right label")


@pytest.mark.parametrize(
    ("dialogues", "sessions", "turns", "words"),
    [
        (["1", "1"], ["1", "2"], [0, 1], "1 dialogues have .*: '1'. .*, as in '1_1'$"),
        (["1", "1", "2"], ["Ses02", "Ses01", "Ses01"], [None] * 3, "1 dialogues .*'Ses01_1'$"),
        (["a", "b", "b", "a"], ["1", "1", "2", "2"], [0, 0, 1, 1], "2 dialogues .*: 'a', 'b'. If"),
    ],
)
def test_dialogues_that_are_numbered_anew_in_each_session_are_named(
    tmp_path: Path,
    dialogues: list[str],
    sessions: list[str],
    turns: list[int | None],
    words: str,
) -> None:
    read = corpus(tmp_path, {}, dialogue=dialogues, session=sessions, turn=turns)
    reason = doubt(read, "column dialogue")
    assert pytest.raises(AssertionError, match=words).matches(AssertionError(reason))
    assert "write the session into the name" in reason


@pytest.mark.parametrize("label", ["nan", "NA", "None"])
def test_a_label_that_means_no_value_stays_and_is_named_if_it_would_be_a_class(
    tmp_path: Path, label: str
) -> None:
    emotion = ["ang", label, label, None]
    read = corpus(tmp_path, {}, emotion=emotion)
    assert label in read.classes
    reason = doubt(read, "corpus.classes")
    assert reason.startswith(f"2 utterances have a label that means no value: '{label}' (2). If it")
    chosen = corpus(tmp_path, {"classes": ["ang", label]}, emotion=emotion)
    assert chosen.labels.tolist() == [0, 1, 1, -1]
    assert chosen.doubts == ()


def test_an_ordinary_corpus_has_no_doubts(tmp_path: Path) -> None:
    config = {
        "classes": ["ang", "hap"],
        "merge": {"exc": "hap"},
        "only": {"style": ["read", "free"]},
    }
    read = corpus(
        tmp_path,
        config,
        file=["a.wav", "a.wav", "b.wav", "c.wav"],
        start=[0, 1, None, None],
        end=[1, 2, None, None],
        emotion=["ang", "exc", "hap", "xxx"],
        speaker=["1", "2", "10", "spk01"],
        session=["1", "1", "2", "2"],
        dialogue=["1", "1", "2", "2"],
        phrase=["a", "á", "b", "b"],
        style=["read", "free", "read", "free"],
    )
    assert read.doubts == ()
    assert all(isinstance(problem, Problem) for problem in read.manifest.problems)
