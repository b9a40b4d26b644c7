"""Writes the page and the files of a study: several sweeps on the same corpus and folds."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from features.errors import shorten
from features.manifest import Manifest
from features.storage import Storage, safe_name
from orchestrator.errors import FolderError
from orchestrator.report import study_files
from orchestrator.report.interpretation import over_turns
from orchestrator.report.labels import DASH
from orchestrator.report.latex import tables_tex
from orchestrator.report.page import environment
from orchestrator.report.players import players
from orchestrator.report.raster import NO_FONT, installed_font, png
from orchestrator.report.search_figures import search_figures
from orchestrator.report.study_figures import MOST_SPEAKERS, confusion_name, study_figures
from orchestrator.report.tables import shown
from orchestrator.report.utterance_figures import examples, inspection_of, utterance_figures
from orchestrator.results.importance import Importances
from orchestrator.results.method import missing_classes, paragraph
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.published import CORPORA, differences, published
from orchestrator.results.searches import SearchCost, search_cost
from orchestrator.results.study import Entry, Study, study
from orchestrator.results.verdict import p_value, verdict

MOST_TRIALS = 3000
"""Rows of the page's table of trials; more would make the page slow."""
TURNS = {"both": "both turns", "one": "one of the two turns", "none": "neither turn"}


def build_study(
    sweeps: Sequence[OpenedSweep],
    target: Storage,
    name: str,
    *,
    seeds: Mapping[str, Sequence[OpenedSweep]] = {},
    recordings: Manifest | None = None,
) -> list[str]:
    """Write the page of a study and its files into `target`. Returns the names of the files.

    The files are `index.html`, `scores.csv`, `pairs.csv`, `trials.csv`, `predictions.parquet` (of
    the best configurations), `tables.tex`, `paragraph.txt`, and each figure in `figures/`, as SVG
    and as PNG. The same sweeps give the same bytes; those of PNG also depend on the machine's
    fonts. Without a font there are no PNG files (`orchestrator.report.raster`).

    name : the page's title
    seeds : name of a sweep -> sweeps that trained its best configuration again with other seeds;
        the seed of the search itself is counted with them
    recordings : the corpus, if the page shall play a few utterances; the page then has audio of at
        most 1 MB. The sweeps' own records are not asked, because a folder that somebody else made
        could name any file of this machine

    Raises ComparisonError if a sweep occurs twice, or if corpora, classes or folds differ, and
    FolderError if `target` is the folder of a sweep.
    """
    return write_study(study(name, sweeps, seeds), target, recordings)


def write_study(found: Study, target: Storage, recordings: Manifest | None = None) -> list[str]:
    """Write the page and the files of a study, as `build_study` does.

    Raises FolderError if `target` is the folder of a sweep.
    """
    if target.exists("sweep.json"):
        raise FolderError(
            f"{target.root} is the folder of a sweep, so the page of a study cannot be there. "
            f"Choose another folder"
        )
    costs = {entry.label: search_cost(entry.findings) for entry in found.entries}
    searches, importances = search_figures(found, costs)
    figures = study_figures(found, costs) | utterance_figures(found) | searches
    audio = {} if recordings is None else players(recordings, examples(found))
    files = {
        "scores.csv": study_files.scores_csv(found, costs),
        "pairs.csv": study_files.pairs_csv(found),
        "trials.csv": study_files.trials_csv(found),
        "predictions.parquet": study_files.predictions_parquet(found),
        "tables.tex": tables_tex(found).encode(),
        "paragraph.txt": f"{paragraph(found)}\n".encode(),
        **{f"figures/{figure}.svg": drawn.encode() for figure, drawn in figures.items()},
    }
    if (font := installed_font()) is not None:
        files |= {f"figures/{figure}.png": png(drawn, font) for figure, drawn in figures.items()}
    page = render_study(found, costs, figures, importances, audio, sorted(files))
    files["index.html"] = page.encode()
    for file, data in files.items():
        target.write(file, data)
    return sorted(files)


@dataclass(frozen=True)
class Paper:
    """A published row as the page shows it: numbers as printed, a dash for a missing one.

    mark : `same protocol`, or what differs
    """

    wa: float | str
    ua: float | str
    half: float | str
    recalls: dict[str, float]
    cases: Mapping[str, tuple[float, float]]
    mark: str


def render_study(
    found: Study,
    costs: dict[str, SearchCost],
    figures: dict[str, str],
    importances: dict[str, Importances],
    audio: dict[str, str],
    files: list[str],
) -> str:
    """The page. The same study gives the same text.

    audio : utterance -> a data URI to play
    """
    templates, assets = environment()
    templates.filters.update(p_value=p_value, unbroken=unbroken, width=width, listed=listed)
    record, ranked = found.record, found.ranking
    papers = _papers(found)
    rows = study_files.trial_rows(found)
    kept = sorted(rows, key=lambda row: -1.0 if row["score"] is None else -1 - row["score"])
    cases = ranked[0].score.side.context if ranked else []
    return templates.get_template("study.html.j2").render(
        study=found,
        sweep=record,
        ranked=ranked,
        ordered=[*ranked, *(entry for entry in found.entries if entry.scored is None)],
        renamed=any(entry.label != entry.record.model for entry in found.entries),
        folds=len(record.folds),
        chance=ranked[0].findings.best.chance_ua if ranked and ranked[0].findings.best else None,
        verdict=list(verdict(found)),
        labels=ranked[0].findings.labels if ranked else None,
        above=[e.label for e in ranked if e.findings.labels and e.findings.labels.beaten],
        below=[e.label for e in ranked if e.findings.labels and not e.findings.labels.beaten],
        alarms={e.label: e.findings.alarm for e in found.entries if e.findings.alarm},
        configurations={entry.label: _configuration(entry) for entry in found.entries},
        failed={e.label: _why(costs[e.label]) for e in found.entries if e.scored is None},
        papers=papers,
        uar_papers=_with_intervals(papers),
        paper_cases=any(paper and paper.cases for paper in papers.values()),
        cases=cases,
        contexts={e.label: {case.same: case for case in e.score.side.context} for e in ranked},
        turns=TURNS,
        confusions={entry.label: confusion_name(entry) for entry in ranked},
        speakers=found.speakers,
        most_speakers=MOST_SPEAKERS,
        costs=costs,
        seconds={label: sum(cost.seconds.values()) for label, cost in costs.items()},
        importances=importances,
        players=[(n, truth, audio[n]) for n, truth in examples(found).items() if n in audio],
        inspected=[e.label for e in ranked if _looks(figures, e)],
        turn_attention=[
            e.label for e in ranked if (look := inspection_of(e)) is not None and over_turns(look)
        ],
        names={entry.label: safe_name(entry.label) for entry in found.entries},
        trials=rows if len(rows) <= MOST_TRIALS else kept[:MOST_TRIALS],
        hidden_trials=max(0, len(rows) - MOST_TRIALS),
        paragraph=paragraph(found),
        missing=list(missing_classes(record)),
        notes=list(dict.fromkeys(note for e in found.entries for note in e.record.notes)),
        no_font=NO_FONT if installed_font() is None else "",
        facts=_facts(found),
        files=files,
        # Our own drawings, whose texts are escaped already.
        figures={name: Markup(drawn) for name, drawn in figures.items()},
        **assets,
    )


def unbroken(text: str) -> str:
    """`text` with p-values that stay in one line."""
    return re.sub(r"\bp ([=<]) ", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)


def width(value: float) -> str:
    """A deviation of UA in points, without a sign."""
    return DASH if math.isnan(value) else f"{100 * value:.2f}"


def listed(numbers: list[int]) -> str:
    """The first of many numbers of trials."""
    return shorten([str(number) for number in numbers])


def _looks(figures: dict[str, str], entry: Entry) -> bool:
    """Whether a sweep has a figure of its attention or of its embeddings."""
    name = safe_name(entry.label)
    return f"attention-{name}" in figures or f"embeddings-{name}" in figures


def _configuration(entry: Entry) -> str:
    if entry.findings.best is None:
        return ""
    chosen = entry.findings.best.trial.record.hyperparameters
    return ", ".join(f"{key}: {shown(value)}" for key, value in chosen.items())


def _why(cost: SearchCost) -> str:
    if not cost.failures:
        return "no trial has finished yet"
    return "; ".join(f"trials {listed(n)}: {reason}" for reason, n in cost.failures.items())


def _papers(found: Study) -> dict[str, Paper | None]:
    """Published rows by label; empty if no paper has scores of this corpus."""
    if found.record.corpus.corpus not in CORPORA:
        return {}
    papers: dict[str, Paper | None] = {}
    for entry in found.ranking:
        papers[entry.label] = None
        if (row := published(entry.record)) is not None:
            wa, ua, half = (DASH if n is None else n for n in (row.wa, row.ua, row.half))
            papers[entry.label] = Paper(
                wa=wa,
                ua=ua,
                half=half,
                recalls=dict(zip(row.protocol.corpus["classes"], row.recalls, strict=False)),
                cases=row.cases,
                mark="; ".join(differences(row, entry.record)) or "same protocol",
            )
    return papers


def _with_intervals(papers: dict[str, Paper | None]) -> dict[str, Paper | None]:
    """The rows that have an interval over folds; empty if no row has one.

    Only one of the two papers gives such intervals.
    """
    kept = {label: row if row and row.half != DASH else None for label, row in papers.items()}
    return kept if any(kept.values()) else {}


def _facts(found: Study) -> list[tuple[str, Any]]:
    record = found.record
    scheme = record.configuration["folds"]["scheme"].replace("_", " ")
    selected = "the test part (held out)" if record.optimistic else "the validation part"
    corpus = record.corpus
    return [
        ("Sweeps", ", ".join(entry.label for entry in found.entries)),
        (
            "Corpus",
            f"{corpus.corpus}: {corpus.labelled:,} labelled utterances of "
            f"{len(corpus.speakers)} speakers",
        ),
        ("Classes", ", ".join(record.classes)),
        ("Folds", f"{scheme}, {len(record.folds)} fold{'s' * (len(record.folds) != 1)}"),
        ("Selected on", selected),
    ]
