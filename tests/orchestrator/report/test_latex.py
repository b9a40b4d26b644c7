"""tables.tex: escaped names, complete tables, and a compiler if there is one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.report.labels import DASH, MINUS
from orchestrator.report.latex import escaped, tables_tex
from orchestrator.results.study import study
from tests.support.made_study import made, make_study

HOSTILE = [r"a_b & 50% #1 $x$ {y} ~^\input{x}", '[*] <b>"q"</b> | x', f"é ± {MINUS} {DASH}"]
_ESCAPE = re.compile(r"\\(textbackslash\{\}|textasciitilde\{\}|textasciicircum\{\}|text\w+\{\}|.)")


def cells(line: str) -> list[str]:
    """The cells of a row: split at each & that is not escaped."""
    body = line.removesuffix(r"\\").strip()
    return re.split(r"(?<!\\)&", body)


def check(source: str) -> dict[str, list[list[str]]]:
    """The rows of each table by its label. Fails if the source is not well formed."""
    lines = [line for line in source.splitlines() if not line.startswith("%")]
    open_environments: list[str] = []
    tables: dict[str, list[list[str]]] = {}
    label, columns = "", 0
    for line in lines:
        plain = re.sub(r"\$[^$]*\$", "", _ESCAPE.sub("", line))  # without escapes and formulas
        assert plain.count("{") == plain.count("}"), line
        assert not set(plain) & set('$#%~^_\\<>|"'), line
        if begin := re.match(r"\\begin\{(\w+)\}(?:\{(.*)\})?$", line):
            open_environments.append(begin[1])
            if begin[1] == "tabular":
                columns = len(re.findall(r"[lrcp]", re.sub(r"\{.*?\}", "", begin[2])))
        elif end := re.match(r"\\end\{(\w+)\}$", line):
            assert open_environments.pop() == end[1]
        elif found := re.match(r"\\label\{tab:(\w+)\}$", line):
            label = found[1]
            tables[label] = []
        elif line.endswith(r"\\"):
            assert open_environments[-1] == "tabular"
            row = [cell.strip() for cell in cells(line)]
            assert len(row) == columns, (line, columns)
            assert not row[0].startswith(("[", "*"))
            tables[label].append(row)
    assert not open_environments
    for name in ("toprule", "midrule", "bottomrule"):
        assert source.count(f"\\{name}\n") == len(tables)
    return tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% of a_b & c", r"50\% of a\_b \& c"),
        ("\\end{table}", r"\textbackslash{}end\{table\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("$1 #2", r"\$1 \#2"),
        ("[x] first", "{[x] first}"),
        ("two\nlines\x07", "two lines"),
        ("żółw", "żółw"),
    ],
)
def test_no_sign_of_a_name_is_a_command(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_tables_have_the_numbers_of_the_study(tmp_path: Path) -> None:
    found = study("made", make_study(tmp_path))
    tables = check(tables_tex(found))
    assert list(tables) == ["recalls", "context", "folds", "pairs"]
    head, *body = tables["recalls"]
    assert head[:7] == ["Model", "ang", "hap", "neu", "sad", "WA", "UA"]
    for row, entry in zip(body, found.ranking, strict=True):
        pooled = entry.score.pooled
        numbers = [*(r.value for r in pooled.recalls.values()), pooled.wa.value, pooled.ua.value]
        assert row[1:7] == [f"{100 * number:.1f}" for number in numbers]
    published = {row[0]: row[7:9] for row in body}
    assert published[r"iaan"] == ["64.7", "66.3"]
    assert published[r"bigru\_att"] == ["57.6", "58.4"]
    assert "selection on: ours a validation part" in body[0][9]
    assert [row[0] for row in tables["pairs"][1:]] == [
        f"{p.first} $-$ {p.second}".replace("_", r"\_") for p in found.pairs
    ]
    ua = found.ranking[0].score.ua
    half = f"{100 * ua.value:.2f} $\\pm$ {100 * (ua.high - ua.value):.2f}"
    assert tables["folds"][1][1] == half
    for row, entry in zip(tables["context"][1:], found.ranking, strict=True):
        both = entry.score.side.context[0]
        assert row[1] == f"{100 * both.wa:.1f} / {100 * both.ua:.1f}"
    cases = {row[0]: row[4:] for row in tables["context"][1:]}
    assert cases["iaan"] == ["76.0 / 74.4", "64.3 / 66.6", "53.6 / 54.8"]
    assert cases[r"rand\_iaan"] == ["--"] * 3


@pytest.mark.parametrize("case", ["one sweep", "one fold", "failed", "hostile names", "few"])
def test_tables_of_unusual_studies_are_whole(tmp_path: Path, case: str) -> None:
    if case == "failed":
        sweeps = [made(tmp_path, "iaan", statuses=["failed"])]
    elif case == "hostile names":
        # A folder is not named after the sweep, because a name may have a slash.
        classes = [*HOSTILE, "plain"]
        sweeps = [made(tmp_path, "iaan", classes=classes, name=HOSTILE[0], statuses=["complete"])]
    else:
        changes = {"one fold": {"folds": 1}, "few": {"utterances": 5, "seed": 3}}.get(case, {})
        sweeps = make_study(tmp_path, **changes)[: 1 if case == "one sweep" else 4]
    tables = check(tables_tex(study(case, sweeps)))
    assert ("pairs" in tables) == (len(sweeps) > 1)
    assert ("recalls" in tables) == (case != "failed")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_file_compiles(tmp_path: Path) -> None:
    sweeps = make_study(tmp_path / "runs")
    hostile = made(tmp_path / "other", "iaan", name=HOSTILE[0])
    for name, found in (("made", sweeps), ("hostile", [hostile])):
        (tmp_path / f"{name}.tex").write_text(tables_tex(study(name, found)), encoding="utf-8")
    document = (
        r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}"
        r"\input{made}\input{hostile}\end{document}"
    )
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").exists()
