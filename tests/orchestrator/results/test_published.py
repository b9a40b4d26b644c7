"""Published scores: shown for their corpora only, and marked with what differs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.parsing import parse
from orchestrator.ledger.records import SweepRecord
from orchestrator.results.published import PUBLISHED, differences, published
from tests.support.made_sweep import CLASSES, sweep_fields

EXAMPLES = Path(__file__).parents[3] / "examples"


def record_of(configuration: dict[str, Any]) -> SweepRecord:
    """The record of a sweep with this configuration, on a corpus that was never read."""
    resolved = parse(configuration).resolved()
    classes = list(resolved["corpus"]["classes"])
    fields = sweep_fields("made", "validation", CLASSES, {}, 1)
    corpus = fields["corpus"].model_copy(update={"corpus": resolved["corpus"]["name"]})
    changed = {"configuration": resolved, "classes": classes, "corpus": corpus}
    return SweepRecord.model_validate(fields | changed)


def example(name: str, **sections: dict[str, Any]) -> SweepRecord:
    raw = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    for section, values in sections.items():
        raw[section] |= values
    return record_of(raw)


@pytest.mark.parametrize(
    "name",
    [
        "iaan",
        "rand_iaan",
        "bigru_iaa",
        "bigru_att",
        "bilstm_att",
        "acrnn_iemocap",
        "acrnn_r_iemocap",
        "ssa_crnn_r_iemocap",
        "acrnn_att_hack",
        "acrnn_r_att_hack",
        "ssa_crnn_r_att_hack",
    ],
)
def test_the_example_of_a_published_row_has_its_protocol(name: str) -> None:
    record = example(name)
    row = published(record)
    assert row is not None
    assert differences(row, record) == []
    text = " ".join((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").split("\n# ")[:3])
    assert f"{row.ua:g}" in text or f"{row.ua:.2f}" in text


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param(
            {"folds": {"selection": "validation"}},
            ["selection on: ours a validation part, published the test part"],
            id="selection",
        ),
        pytest.param(
            {"corpus": {"merge": {}}},
            ["merged labels: ours none, published exc hap"],
            id="merge",
        ),
        pytest.param(
            {"corpus": {"only": {"style": ["improvised"]}}},
            ["utterances: ours style improvised, published all"],
            id="improvised",
        ),
        pytest.param(
            {"corpus": {"classes": ["ang", "neu"]}},
            ["classes: ours ang, neu, published ang, hap, neu, sad"],
            id="classes",
        ),
    ],
)
def test_what_differs_is_named(sections: dict[str, Any], expected: list[str]) -> None:
    record = example("iaan", **sections)
    row = published(record)
    assert row is not None
    assert differences(row, record) == expected


def test_other_corpora_and_models_have_no_published_score() -> None:
    assert published(example("nemo")) is None
    assert published(example("linear_svm")) is None


def test_quoted_numbers_say_what_differs_in_the_paper() -> None:
    remarks = {row.ours: row.remark for row in PUBLISHED if row.remark}
    assert remarks.keys() == {"svm_trees", "cmn", "mdnn", "adrnn"}
    assert "session 5 only" in remarks["cmn"]


def test_recalls_of_the_paper_average_to_its_ua() -> None:
    rows = [row for row in PUBLISHED if row.recalls]
    assert len(rows) == 4
    for row in rows:
        assert row.ua is not None
        # The printed UA may be a mean over folds, and the recalls pooled.
        assert sum(row.recalls) / 4 == pytest.approx(row.ua, abs=0.7)
