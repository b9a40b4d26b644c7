"""Reading of a corpus: rows, merged labels and classes, and one line for each wrong key."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.sections import CorpusConfig
from orchestrator.data.corpus import read_corpus
from orchestrator.errors import ConfigError

ROWS = """file,speaker,emotion,style
0.wav,a,ang,improvised
1.wav,b,exc,improvised
2.wav,a,hap,scripted
3.wav,b,,scripted
4.wav,a,xxx,improvised
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = tmp_path / "manifest.csv"
    path.write_text(ROWS)
    return str(path)


def test_labels_are_merged_and_numbered_by_class(root: str) -> None:
    corpus = read_corpus(CorpusConfig(root=root, merge={"exc": "hap"}, classes=("hap", "ang")))
    assert corpus.labels.tolist() == [1, 0, 0, -1, -1]
    assert corpus.classes == ("hap", "ang")
    assert corpus.manifest.table["emotion"].to_pylist() == ["ang", "exc", "hap", None, "xxx"]


def test_other_rows_are_left_out(root: str) -> None:
    section = CorpusConfig(root=root, only={"style": ("improvised",)}, classes=("ang", "exc"))
    corpus = read_corpus(section)
    assert corpus.manifest.table["id"].to_pylist() == ["0", "1", "4"]
    assert corpus.labels.tolist() == [0, 1, -1]


def test_without_classes_every_label_that_occurs_is_a_class(root: str) -> None:
    corpus = read_corpus(CorpusConfig(root=root, merge={"exc": "hap"}))
    assert corpus.classes == ("ang", "hap", "xxx")
    assert corpus.labels.tolist() == [0, 1, 1, -1, 2]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param(
            {"name": "iemocapp"}, r"corpus\.name: no corpus iemocapp; known: att_hack,", id="name"
        ),
        pytest.param({"root": "gone.csv"}, r"corpus\.root: .*gone\.csv", id="no file"),
        pytest.param(
            {"classes": ("ang", "joy")},
            r"corpus\.classes: no utterance has the label joy \(labels: ang \(1\), exc \(1\), .*\)",
            id="class",
        ),
        pytest.param(
            {"only": {"turn": ("1",)}},
            r"corpus\.only: the manifest has no text column turn\. Use one of .*style",
            id="column",
        ),
        pytest.param(
            {"only": {"style": ("read", "sung")}},
            r"corpus\.only: no row has style read or sung\. Values .*: improvised, scripted$",
            id="value",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_a_remedy(
    root: str, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_corpus(CorpusConfig.model_validate({"root": root} | section))
    assert "\n" not in str(caught.value)


def test_a_table_of_a_corpus_that_is_not_csv_is_named(tmp_path: Path) -> None:
    (tmp_path / "1001_DFA_ANG_XX.wav").touch()
    (tmp_path / "VideoDemographics.csv").write_text(f"ActorID,Sex\n1001,{'x' * 200_000}\n")
    with pytest.raises(ConfigError, match=r"corpus\.root: cannot read .* as CSV: field larger"):
        read_corpus(CorpusConfig(name="crema_d", root=str(tmp_path)))
