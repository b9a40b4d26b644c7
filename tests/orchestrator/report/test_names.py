"""Names from corpora and configurations are text: never markup, and never formulas."""

import json
from pathlib import Path

from orchestrator.report import build
from orchestrator.results.findings import gather
from tests.support.made_sweep import make_sweep
from tests.support.report_page import page_of

SCRIPT = "</script><script>alert(1)</script>"


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    classes = ["<img src=x onerror=alert(1)>", "<b>hap</b>", SCRIPT, "{{ 7*7 }} & 'x' \"y\""]
    speaker = "<i onclick=alert(1)>Ses{:02d}{}</i>"
    ledger = make_sweep(
        tmp_path,
        ["complete", "failed"],
        folds=2,
        utterances=24,
        classes=classes,
        speaker=speaker,
        name=SCRIPT,
        extra={
            "notes": ["<iframe src=javascript:alert(1)>"],
            "commit": SCRIPT,
            "versions": {"<u>": "</footer>"},
        },
    )
    record = ledger.record("0000000001")
    assert record is not None
    chosen = {SCRIPT: SCRIPT, "<em>": ["<u>"]}
    ledger.write_trial(
        record.model_copy(update={"reason": SCRIPT, "model": SCRIPT, "hyperparameters": chosen})
    )
    page = page_of(ledger)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b", "em", "iframe", "u"}
    assert not any(key.startswith("on") for _, known in page.elements for key in known)
    assert [row[0] for row in page.tables["classes"][1:]] == classes
    assert page.tables["speakers"][1][0] == speaker.format(1, "F")
    assert SCRIPT in page.words()
    # Four figures, plotly and our own script. No name became a script.
    assert len(page.scripts) == 6
    # The labels of plotly may contain HTML, so the names in them have a second escape.
    assert page.figure("confusion")["data"][0]["x"][1] == "&lt;b&gt;hap&lt;/b&gt;"
    for name in ("search", "recalls", "confusion", "curves"):
        labels = json.dumps(page.figure(name))
        for ours in ("<br>", "<extra>", "</extra>"):
            labels = labels.replace(ours, "")
        assert "<" not in labels


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    classes = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3"]
    ledger = make_sweep(tmp_path, ["complete", "failed"], folds=2, utterances=24, classes=classes)
    record = ledger.record("0000000001")
    assert record is not None
    chosen = {"=a": "=HYPERLINK(1)", "b": -0.5, "c": "-1e-05", "d": "\t=1", "e": "-x"}
    ledger.write_trial(record.model_copy(update={"reason": "=1", "hyperparameters": chosen}))
    build(ledger, gather(ledger))
    lines = ledger.storage.read("report/trials.csv").decode().splitlines()
    assert '"\'=a"' in lines[0]
    for cell in ('"\'=1"', '"\'=HYPERLINK(1)"', '"-0.5"', '"-1e-05"', '"\'\t=1"', '"\'-x"'):
        assert f",{cell}" in lines[2]
    numbers = ledger.storage.read("report/folds.csv").decode()
    assert '"recall_=1+1"' in numbers
    assert "'0." not in numbers
