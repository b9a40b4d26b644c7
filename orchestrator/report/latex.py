"""The tables of a study in LaTeX, with booktabs. `\\usepackage{booktabs}` is all they need."""

import math
from collections.abc import Iterable, Sequence

from orchestrator.metrics import Interval
from orchestrator.report.labels import DASH, MINUS
from orchestrator.results.published import Published, differences, published
from orchestrator.results.study import Study

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    MINUS: "$-$",
    "±": r"$\pm$",
    DASH: "--",
}
_HEAD = r"""% Tables of a study. Put \usepackage{booktabs} into the preamble, then \input this file.
% With pdflatex, also \usepackage[T1]{fontenc} for names with special letters.
"""


def escaped(text: str) -> str:
    """A text as LaTeX prints it, in one line. No sign of it is a command."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # A bracket behind a line's end would be its optional argument.
    words = "".join(_SPECIAL.get(letter, letter) for letter in words)
    return f"{{{words}}}" if words.startswith(("[", "*")) else words


def tables_tex(study: Study) -> str:
    """The tables: recalls, WA and UA; context cases; UAR over folds; pairs."""
    if not study.ranking:
        return f"{_HEAD}% No sweep has a score.\n"
    parts = [_recalls(study), _cases(study), _folds(study), _pairs(study)]
    return "\n".join([_HEAD, *(part for part in parts if part)])


def _tabular(
    caption: str, label: str, columns: str, head: Sequence[str], rows: Iterable[Sequence[str]]
) -> str:
    """A table environment. Cells are LaTeX already."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "--" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _paper(value: float | None) -> str:
    if value is None:
        return "--"
    return f"{value:.1f}" if round(value, 1) == value else f"{value:.2f}"


def _signed(value: float) -> str:
    rounded = round(100 * value, 1) + 0.0
    return f"${rounded:+.1f}$" if rounded else "$0.0$"


def _kind(study: Study) -> str:
    return (
        "selected on the test part (optimistic)"
        if study.record.optimistic
        else "nested selection on the validation part of each fold"
    )


def _mark(row: Published | None, study: Study) -> str:
    if row is None:
        return "--"
    return escaped("; ".join(differences(row, study.record)) or "same protocol")


def _recalls(study: Study) -> str:
    classes = study.record.classes
    papers = {entry.label: published(entry.record) for entry in study.ranking}
    any_paper = any(papers.values())
    head = ["Model", *map(escaped, classes), "WA", "UA"]
    columns = "l" + "r" * (len(classes) + 2)
    if any_paper:
        head += ["WA publ.", "UA publ.", "Protocol"]
        columns += "rrp{4cm}"
    rows = []
    for entry in study.ranking:
        pooled = entry.score.pooled
        row = [escaped(entry.label), *(_percent(pooled.recalls[name].value) for name in classes)]
        row += [_percent(pooled.wa.value), _percent(pooled.ua.value)]
        if any_paper:
            paper = papers[entry.label]
            row += [_paper(paper and paper.wa), _paper(paper and paper.ua), _mark(paper, study)]
        rows.append(row)
    caption = (
        rf"Recall of each class, WA and UA in \%, pooled over test utterances, {_kind(study)}."
    )
    return _tabular(caption, "recalls", columns, head, rows)


def _cases(study: Study) -> str:
    names = [case.same for case in study.ranking[0].score.side.context]
    if not names:
        return ""
    shares = {case.same: case.share for case in study.ranking[0].score.side.context}
    head = ["Model"] + [rf"{name} ({_percent(shares[name])}\,\%)" for name in names]
    papers = {entry.label: published(entry.record) for entry in study.ranking}
    given = {label: row.cases for label, row in papers.items() if row is not None and row.cases}
    if given:
        head += [f"{name} publ." for name in names]
    rows = []
    for entry in study.ranking:
        cases = {case.same: case for case in entry.score.side.context}
        cells = [f"{_percent(cases[n].wa)} / {_percent(cases[n].ua)}" for n in names]
        if given:
            theirs = [given.get(entry.label, {}).get(name) for name in names]
            cells += ["--" if each is None else f"{each[0]:.1f} / {each[1]:.1f}" for each in theirs]
        rows.append([escaped(entry.label), *cells])
    made = study.ranking[0].score.side.context[-1]
    listed = ", ".join(
        rf"{escaped(str(name))} {_percent(count / made.utterances)}\,\%"
        for name, count in made.classes.items()
    )
    caption = (
        r"WA / UA in \% of test utterances whose class is that of both, one or none of their two "
        rf"previous turns, with the share of utterances. The case ``{made.same}'' is made of "
        f"{listed}."
    )
    return _tabular(caption, "context", "l" + "r" * (len(head) - 1), head, rows)


def _folds(study: Study) -> str:
    count = len(study.record.folds)
    papers = {entry.label: published(entry.record) for entry in study.ranking}
    # Only one of the two papers gives an interval over folds.
    given = {label: row for label, row in papers.items() if row is not None and row.half}
    head, columns = ["Model", "UAR"], "lr"
    if given:
        head, columns = [*head, "UAR publ.", "Protocol"], "lrrp{6cm}"
    rows = []
    for entry in study.ranking:
        row = [escaped(entry.label), plus_minus(entry.score.ua)]
        if given:
            paper = given.get(entry.label)
            theirs = "--" if paper is None else rf"{paper.ua:.2f} $\pm$ {paper.half:.2f}"
            row += [theirs, _mark(paper, study)]
        rows.append(row)
    interval = r" $\pm$ half the 95\,\% t interval" if count > 1 else ""
    word = "folds" if count != 1 else "fold"
    caption = rf"UAR in \%, mean over {count} {word}{interval}, {_kind(study)}."
    return _tabular(caption, "folds", columns, head, rows)


def plus_minus(interval: Interval) -> str:
    """An interval over folds as LaTeX: its mean and half its width, in per cent."""
    if math.isnan(interval.low):
        return f"{100 * interval.value:.2f}"
    return rf"{100 * interval.value:.2f} $\pm$ {100 * (interval.high - interval.value):.2f}"


def _pairs(study: Study) -> str:
    if not study.pairs:
        return ""
    head = ["Pair", "Difference", r"95\,\%", "$p_t$", "Holm", "$p_{McN}$", "Holm"]
    rows = []
    for pair in study.pairs:
        row = [escaped(f"{pair.first} {MINUS} {pair.second}")]
        if pair.t_test is None:
            row += ["--"] * 4
        else:
            low, high = _signed(pair.t_test.low), _signed(pair.t_test.high)
            row += [_signed(pair.t_test.mean), f"{low} to {high}"]
            row += [_p(pair.t_test.p_value), _p(pair.t_holm)]
        row += [_p(pair.mcnemar.p_value if pair.mcnemar else None), _p(pair.mcnemar_holm)]
        rows.append(row)
    caption = (
        r"Differences of UA in points on common folds: corrected resampled t-test, exact McNemar "
        r"test, and p-values corrected by Holm over all pairs."
    )
    return _tabular(caption, "pairs", "lrrrrrr", head, rows)


def _p(value: float | None) -> str:
    if value is None:
        return "--"
    return "$<$0.001" if value < 0.001 else f"{value:.3f}"
