"""The plan and the arrays of a small corpus, compared with values by hand."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import soundfile

from features.cache import CachedFrames
from features.context import previous_turns, random_turns, turns_before
from features.corpora import CORPORA
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data import prepare as module
from orchestrator.data.prepare import Prepared, context_rows, plan_folds, prepare
from orchestrator.data.schemes import SCHEMES
from orchestrator.errors import ConfigError

CLASSES = ("ang", "neu")
SCHEME = "leave_one_session_out"
TURNS = [("F", "ang"), ("M", "neu"), ("F", "xxx"), ("M", "ang"), ("F", "neu"), ("M", "ang")]
BROKEN = "s1_3"


def configured(root: Path, model: str, **training: Any) -> Configuration:
    return parse(
        {
            "name": "x",
            "corpus": {"root": str(root), "classes": list(CLASSES)},
            "model": {"name": model},
            "features": {"max_errors": 1},
            "folds": {"selection": "held_out"},
            "training": training,
        }
    )


@pytest.fixture
def corpus(tmp_path: Path, spoken: Path) -> Path:
    """The folder of two dialogues of TURNS. `whole.csv` is without the broken file of `all.csv`."""
    waves = sorted(spoken.parent.glob("wav/*/*.wav"))
    rows = []
    for session in ("s1", "s2"):
        for turn, (speaker, emotion) in enumerate(TURNS):
            file = f"{session}_{turn}.wav"
            shutil.copy(waves[len(rows)], tmp_path / file)
            rows.append(
                {
                    "file": file,
                    "speaker": f"{session}{speaker}",
                    "session": session,
                    "dialogue": session,
                    "turn": turn,
                    "emotion": emotion,
                }
            )
    (tmp_path / f"{BROKEN}.wav").write_bytes(b"RIFF")
    pacsv.write_csv(pa.Table.from_pylist(rows), tmp_path / "all.csv")
    whole = [row for row in rows if row["file"] != f"{BROKEN}.wav"]
    pacsv.write_csv(pa.Table.from_pylist(whole), tmp_path / "whole.csv")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Number of real calls of the corpus reader, of the scheme and of the audit."""
    counts: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            counts[name] += 1
            return function(*arguments)

        return wrapper

    scheme = SCHEMES[SCHEME]
    counted = scheme._replace(make=counting("make", scheme.make))
    monkeypatch.setitem(SCHEMES, SCHEME, counted)
    monkeypatch.setitem(CORPORA, "manifest", counting("read", CORPORA["manifest"]))
    monkeypatch.setattr(module, "audit", counting("audit", module.audit))
    return counts


@pytest.mark.usefixtures("ray_cluster")
def test_data_are_read_once_and_put_into_arrays(corpus: Path, calls: Counter[str]) -> None:
    """One test for all cases, because they share the extracted features."""

    def prepared(file: str, model: str, **merge: str) -> Prepared:
        configuration = configured(corpus / file, model).with_values({"corpus.merge": merge})
        plan = plan_folds(configuration)
        return prepare(plan, Storage.open(str(corpus / "runs")), lambda *_: None)

    iaan = prepared("all.csv", "iaan")
    # One utterance is dropped, so the folds are made and audited again.
    assert calls == {"read": 1, "make": 2, "audit": 2}
    check_arrays(iaan)
    # A worker gets no frames, and the driver has none.
    assert isinstance(iaan.dataset.frames, CachedFrames)
    assert iaan.dataset.frames._map is None
    assert len(iaan.notes) == len(iaan.audit.notes) + 1
    assert iaan.notes[-1].startswith(f"1 utterances have no features: {BROKEN}.wav: ")

    calls.clear()
    whole = prepared("whole.csv", "iaan")
    assert calls == {"read": 1, "make": 1, "audit": 1}
    assert whole.notes == whole.audit.notes
    assert whole.dataset.ids == iaan.dataset.ids
    assert [fold.test.tolist() for fold in whole.folds] == [f.test.tolist() for f in iaan.folds]
    assert whole.audit.labelled == iaan.audit.labelled == whole.summary.labelled == 9
    assert whole.fingerprint != iaan.fingerprint  # the context of s1_4 and s1_5 is another turn

    doubtful = prepared("all.csv", "iaan", exc="ang")
    assert doubtful.notes[0].startswith("corpus.merge: no utterance has the label 'exc', so this ")
    assert doubtful.notes[0].endswith(" Correct the label, or remove it from corpus.merge.")
    assert doubtful.notes[1:] == iaan.notes
    assert [problem.file for problem in doubtful.summary.problems][-1:] == ["corpus.merge"]
    assert doubtful.fingerprint == iaan.fingerprint

    configuration = configured(corpus / "whole.csv", "iaan")
    samples = [soundfile.info(corpus / f"{name}.wav").frames for name in whole.dataset.ids]
    frames = [(count - 480) // 160 + 2 for count in samples]
    cap = sorted(frames)[3]
    short = configuration.features.model_copy(update={"max_frames": cap})
    plan = plan_folds(configuration.model_copy(update={"features": short}))
    cut = prepare(plan, Storage.open(str(corpus / "runs")), lambda *_: None)
    lost = sum(max(count - cap, 0) for count in frames) / 100
    assert max(np.diff(cut.dataset.offsets)) == -(-cap // 5)
    assert cut.notes == [
        *cut.audit.notes,
        f"{sum(count > cap for count in frames)} of 11 utterances are longer than "
        f"features.max_frames ({cap} frames, {cap / 100:g} s) and are cut there: {lost:.1f} s are "
        f"left out, and the longest utterance has {max(frames) / 100:.1f} s. Raise "
        "features.max_frames to keep more.",
    ]

    without_context = prepared("all.csv", "bigru_att")
    check_arrays(without_context)
    assert not len(without_context.dataset.own.rows)
    speakers = np.asarray(iaan.dataset.speakers)
    own = iaan.dataset.own
    assert len(own.rows)
    assert (speakers[own.rows] == speakers[own.takers]).all()


def check_arrays(prepared: Prepared) -> None:
    """Classes of the previous turns, which do not depend on the model, and the rows of the folds.

    A class is None if there is no such turn, if its label is no class, or if its file is broken.
    """
    data = prepared.dataset
    names = [f"{session}_{turn}" for session in ("s1", "s2") for turn in range(len(TURNS))]
    assert data.ids == [name for name in names if name != BROKEN]
    expected = {  # class of the last turn of the same speaker, and of the other speaker
        "s1_0": (None, None),
        "s1_1": (None, "ang"),
        "s1_2": ("ang", "neu"),
        "s1_4": (None, None),  # `xxx`, and the broken file
        "s1_5": (None, "neu"),
        "s2_4": (None, "ang"),
        "s2_5": ("ang", "neu"),
    }
    for name, classes in expected.items():
        labels = data.previous[:, data.ids.index(name)]
        assert tuple(CLASSES[label] if label >= 0 else None for label in labels) == classes, name
    for fold in prepared.folds:
        assert {data.ids[row].partition("_")[0] for row in fold.test} == {fold.name}


def test_each_model_reads_the_context_of_its_paper(table: pa.Table) -> None:
    """IAAN: the previous turns. RandIAAN: turns drawn with the seed. BiGRU+ATT: no context.

    CMN: all of the 40 turns before.
    """
    columns = {name: table[name].to_pylist() for name in ("speaker", "dialogue", "turn")}

    def rows(model: str, seed: int = 0) -> list[list[int]]:
        configuration = configured(Path("x.csv"), model, seed=seed)
        return [part.newest.tolist() for part in context_rows(configuration, table)]

    before = [part.newest.tolist() for part in previous_turns(*columns.values())]
    assert rows("iaan") == rows("bigru_iaa", seed=1) == before
    for seed in (0, 1):
        drawn = random_turns(columns["dialogue"], columns["turn"], seed)
        assert rows("rand_iaan", seed) == [part.newest.tolist() for part in drawn]
    assert rows("rand_iaan") not in (rows("rand_iaan", seed=1), before)
    assert rows("bigru_att") == [[-1] * len(table)] * 2
    expected = turns_before(*columns.values(), 40)
    for part, whole in zip(context_rows(configured(Path("x.csv"), "cmn"), table), expected,
                           strict=True):  # fmt: skip
        assert np.array_equal(part.rows, whole.rows)
        assert np.array_equal(part.offsets, whole.offsets)
    assert expected[0].counts.max() > 1


def test_a_corpus_without_any_features_is_refused(tmp_path: Path, table: pa.Table) -> None:
    """No file exists, and so many errors are allowed. Ray is not needed, as there is no work."""
    pacsv.write_csv(table.select(["file", "speaker", "session", "emotion"]), tmp_path / "m.csv")
    raw = configured(tmp_path / "m.csv", "linear_svm").resolved()
    raw["features"]["max_errors"] = len(table)
    raw["folds"] = {"scheme": "random_repeated"}
    with pytest.raises(ConfigError, match=r"features\.max_errors: no labelled utterance"):
        prepare(plan_folds(parse(raw)), Storage.open(str(tmp_path / "runs")), lambda *_: None)
