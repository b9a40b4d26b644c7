"""Renders the findings as one HTML file that works without a network."""

import math
from collections.abc import Callable
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from orchestrator.data.baselines import baselines_over_folds
from orchestrator.metrics import Interval
from orchestrator.report import tables
from orchestrator.report.figures import figures
from orchestrator.report.interpretation import over_turns
from orchestrator.report.labels import DASH, MINUS
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, Findings
from orchestrator.results.summary import summarise


def percent(value: float | None, name: str = "") -> Markup:
    """A number in 0..1 as per cent with one decimal. The element holds the exact number."""
    if value is None or math.isnan(value):
        return Markup(DASH)
    return _data(value, f"{100 * value:.1f}%", name)


def points(value: float, name: str = "", unit: str = " points") -> Markup:
    """A difference of two scores in percentage points, with its sign."""
    rounded = round(100 * value, 1) + 0.0  # adding 0 turns -0.0 into 0.0
    text = f"{abs(rounded):.1f}{unit}"
    sign = "" if rounded == 0 else "+" if rounded > 0 else MINUS
    return _data(value, sign + text, name)


def large(text: Markup) -> Markup:
    """The number of a card, with its unit in smaller type."""
    for unit in ("%", " points"):
        if text.endswith(f"{unit}</data>"):
            number = Markup(text.removesuffix(f"{unit}</data>"))
            return number + Markup('<span class="unit">{}</span></data>').format(unit)
    return text


def breakable(key: str) -> Markup:
    """A dotted key that the browser may break after each dot."""
    return Markup(".<wbr>").join(key.split("."))


def span(interval: Interval) -> str:
    """The two ends of an interval, in per cent."""
    if math.isnan(interval.low):
        return DASH
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds in the two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def key(value: float | None) -> str:
    """The value by which the page sorts a cell; empty if there is no number."""
    return "" if value is None or math.isnan(value) else repr(value)


_FILTERS: list[Callable[..., Any]] = [percent, points, large, breakable, span, duration, key]


def _data(value: float, text: str, name: str) -> Markup:
    identity = Markup(' id="{}"').format(name) if name else ""
    return Markup('<data value="{}"{}>{}</data>').format(repr(float(value)), identity, text)


def environment() -> tuple[jinja2.Environment, dict[str, Markup]]:
    """The templates with their filters, and our own style and script for a page."""
    loader = jinja2.PackageLoader("orchestrator.report", "assets")
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    filters = (*_FILTERS, tables.shown, tables.lacking)
    made.filters.update({function.__name__: function for function in filters})
    # Files of our own, which go into the page without escapes.
    style, script = (Markup(loader.get_source(made, name)[0]) for name in ("page.css", "page.js"))
    return made, {"style": style, "script": script}


def render(findings: Findings) -> str:
    """The page. The same findings give the same text."""
    templates, assets = environment()
    sweep, drawn = findings.sweep, figures(findings)
    inspection = findings.best.inspection if findings.best else None
    return templates.get_template("page.html.j2").render(
        f=findings,
        sweep=sweep,
        best=findings.best,
        nested=findings.nested,
        units=[each.given for each in baselines_over_folds(sweep.audit.folds)],
        optimism=summarise(findings)["optimism"],
        metric=sweep.metric.upper(),
        part="test part" if sweep.optimistic else "validation part",
        finished=len(findings.trials),
        sizes={fold.name: fold for fold in sweep.folds},
        inspected="" if inspection is None else inspection["fold"][0].as_py(),
        # Whether the attention figure has two curves, which share one softmax.
        two_curves=inspection is not None and not inspection["speaker_embedding"].null_count,
        over_turns=inspection is not None and over_turns(inspection),
        searched=tables.searched(findings),
        failures=tables.failures(findings),
        facts=_facts(findings),
        provenance=_provenance(findings),
        configuration=yaml.safe_dump(sweep.configuration, sort_keys=False, allow_unicode=True),
        # plotly writes <, > and / in this JSON as \u escapes, so it cannot close its element.
        figures={name: Markup(text) for name, text in drawn.items()},
        plotly=Markup(get_plotlyjs()) if drawn else "",
        **assets,
    )


def _facts(findings: Findings) -> list[tuple[str, str]]:
    """The model, the data and the method, for the top of the page."""
    sweep, corpus = findings.sweep, findings.sweep.corpus
    counts = [(corpus.utterances, "utterances"), (corpus.labelled, "labelled")]
    counts += [(len(corpus.speakers), "speakers"), (len(corpus.sessions), "sessions")]
    sizes = [f"{count:,} {name}" for count, name in counts if count]
    if corpus.duration_s is not None:
        sizes.append(duration(corpus.duration_s))
    scheme = sweep.configuration["folds"]["scheme"].replace("_", " ")
    features = {
        key: "searched" if f"features.{key}" in findings.searched else sweep.feature_set.get(key)
        for key in ("name", "normalize")
    }
    if features["name"] == "searched":  # every set may have another default of `normalize`
        features["normalize"] = "searched"
    selected = "the test part (held out)" if sweep.optimistic else "the validation part"
    return [
        ("Model", sweep.model),
        ("Corpus", f"{sweep.configuration['corpus']['name']}: {', '.join(sizes)}"),
        ("Classes", ", ".join(sweep.classes)),
        ("Features", f"{features['name']}, normalize: {features['normalize']}"),
        ("Folds", f"{scheme}, {len(sweep.folds)} folds"),
        ("Epoch selected on", selected),
    ]


def _provenance(findings: Findings) -> list[tuple[str, str]]:
    sweep = findings.sweep
    seeds = sorted({trial.record.seed for trial in findings.trials})
    facts = [
        ("Sweep created", sweep.created),
        ("Data fingerprint", sweep.fingerprint),
        ("Git commit", sweep.commit or "unknown"),
        ("Training seeds", ", ".join(map(str, seeds))),
        ("Bootstrap", f"{BOOTSTRAP_SAMPLES} samples of speakers, seed {BOOTSTRAP_SEED}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sweep.versions.items())),
    ]
    return [(label, value) for label, value in facts if value]
