"""What trials read of a small corpus, with a file that cannot be used, worked out by hand."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from features.context import previous_turns, random_turns
from features.storage import Storage
from orchestrator.config.sections import parse
from orchestrator.data.prepare import context_rows, prepare

CLASSES = ("ang", "neu")


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("model", ["iaan", "bigru_att"])
def test_previous_turns_tell_their_classes_whatever_the_model(
    tmp_path: Path, spoken: Path, model: str
) -> None:
    #            0: F, no turn before      1: M        2: F           3: M, a broken file
    said = [("F", "ang"), ("M", "neu"), ("F", "xxx"), ("M", "ang"), ("F", "neu"), ("M", "ang")]
    waves = sorted(spoken.parent.glob("wav/*/*.wav"))
    rows = []
    for session in ("s1", "s2"):
        for turn, (speaker, emotion) in enumerate(said):
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
    (tmp_path / "s1_3.wav").write_bytes(b"RIFF")
    pacsv.write_csv(pa.Table.from_pylist(rows), tmp_path / "manifest.csv")
    configuration = parse(
        {
            "name": "x",
            "corpus": {"root": str(tmp_path / "manifest.csv"), "classes": list(CLASSES)},
            "model": {"name": model},
            "features": {"max_errors": 1},
            "folds": {"selection": "held_out"},
        }
    )
    prepared = prepare(configuration, Storage.open(str(tmp_path / "runs")), lambda *_: None)
    data = prepared.dataset
    assert [name for name in data.ids if name.startswith("s1")] == [
        f"s1_{t}" for t in (0, 1, 2, 4, 5)
    ]

    def told(name: str) -> tuple[str | None, ...]:
        found = data.previous[:, data.ids.index(name)]
        return tuple(CLASSES[label] if label >= 0 else None for label in found)

    # (the speaker's own last turn, the other's): None where there is none, it has another label,
    # or its file could not be used.
    assert told("s1_0") == (None, None)
    assert told("s1_1") == (None, "ang")
    assert told("s1_2") == ("ang", "neu")
    assert told("s1_4") == (None, None)  # own is `xxx`, the other's file is broken
    assert told("s1_5") == (None, "neu")
    assert told("s2_4") == (None, "ang")
    assert told("s2_5") == ("ang", "neu")
    present = data.own >= 0
    assert present.any() == (model == "iaan")
    speakers = np.asarray(data.speakers)
    assert (speakers[data.own[present]] == speakers[present]).all()


def test_each_model_has_the_context_that_it_is_named_for(table: pa.Table) -> None:
    """IAAN the turns before; RandIAAN turns drawn by the run's seed; BiGRU+ATT none."""
    columns = {name: table[name].to_pylist() for name in ("speaker", "dialogue", "turn")}

    def rows(model: str, seed: int = 0) -> list[list[int]]:
        raw = {
            "name": "x",
            "corpus": {"root": "x.csv", "classes": list(CLASSES)},
            "model": {"name": model},
            "training": {"seed": seed},
        }
        return [part.tolist() for part in context_rows(parse(raw), table)]

    before = [part.tolist() for part in previous_turns(*columns.values())]
    assert rows("iaan") == rows("bigru_iaa", seed=1) == before
    for seed in (0, 1):
        drawn = random_turns(columns["dialogue"], columns["turn"], seed)
        assert rows("rand_iaan", seed) == [part.tolist() for part in drawn]
    assert rows("rand_iaan") not in (rows("rand_iaan", seed=1), before)
    assert rows("bigru_att") == [[-1] * len(table)] * 2
