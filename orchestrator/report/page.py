"""The findings as one HTML file that needs no network."""

import math
from collections.abc import Callable
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from orchestrator.data.audit import audit_rows
from orchestrator.ledger.ledger import LedgerError
from orchestrator.metrics import Interval
from orchestrator.report.figures import figures
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, Findings, mapping
from orchestrator.report.summary import notes, summarise
from orchestrator.report.tables import failures, fold_rows, hyperparameter_keys, searched, shown

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def percent(value: float | None, name: str = "") -> Markup:
    """`value` in 0..1 as per cent to one decimal; the element keeps the exact number."""
    if value is None or math.isnan(value):
        return Markup(DASH)
    return _data(value, f"{100 * value:.1f}%", name)


def points(value: float | None, name: str = "", unit: str = " points") -> Markup:
    """A difference of two scores in percentage points, with its sign."""
    if value is None:
        return Markup(DASH)
    rounded = round(100 * value, 1) + 0.0  # adding 0 turns -0.0 into 0.0
    text = f"{abs(rounded):.1f}{unit}"
    sign = "" if rounded == 0 else "+" if rounded > 0 else MINUS
    return _data(value, sign + text, name)


def large(text: Markup) -> Markup:
    """A card's number with its unit set smaller."""
    for unit in ("%", " points"):
        if text.endswith(f"{unit}</data>"):
            number = Markup(text.removesuffix(f"{unit}</data>"))
            return number + Markup('<span class="unit">{}</span></data>').format(unit)
    return text


def breakable(key: str) -> Markup:
    """A dotted key that may break after its dots."""
    return Markup(".<wbr>").join(key.split("."))


def span(interval: Interval | None) -> str:
    """The ends of an interval, in per cent."""
    if interval is None or math.isnan(interval.low):
        return DASH
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds as the two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def key(value: float | None) -> str:
    """What a table's cell is sorted by: empty where there is no number."""
    return "" if value is None or math.isnan(value) else repr(value)


def words(value: Any) -> str:
    """A configuration's identifier as words."""
    return str(value).replace("_", " ")


def _data(value: float, text: str, name: str) -> Markup:
    identity = Markup(' id="{}"').format(name) if name else ""
    return Markup('<data value="{}"{}>{}</data>').format(repr(float(value)), identity, text)


def render(findings: Findings) -> str:
    """The page; the same findings give the same text."""
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "points": points,
        "large": large,
        "breakable": breakable,
        "span": span,
        "duration": duration,
        "key": key,
        "shown": shown,
        "words": words,
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator.report", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    sweep = findings.sweep
    configuration = mapping(sweep, "configuration")
    drawn = figures(findings)
    return environment.get_template("page.html.j2").render(
        f=findings,
        best=findings.best,
        nested=findings.nested,
        optimism=summarise(findings)["optimism"],
        metric=findings.metric.upper(),
        part="test part" if findings.optimistic else "validation part",
        ended=len(findings.trials),
        notes=notes(findings),
        keys=hyperparameter_keys(findings),
        **_inspected(findings),
        searched=searched(findings),
        folds=fold_rows(findings),
        failures=failures(findings),
        facts=_facts(findings, configuration),
        audit=mapping(sweep, "audit"),
        audit_rows=_audit_rows(findings),
        provenance=_provenance(findings),
        versions=mapping(sweep, "versions"),
        configuration=yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True),
        # plotly writes <, > and / in this JSON as \u escapes: it cannot close its element.
        figures={name: Markup(text) for name, text in drawn.items()},
        plotly=Markup(get_plotlyjs()) if drawn else "",
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def _audit_rows(findings: Findings) -> list[dict[str, Any]]:
    try:
        return audit_rows(mapping(findings.sweep, "audit"))
    except (LookupError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"sweep.yaml is damaged: its audit is not one: {error!r}; delete its key `audit`, and "
            "its first and its last line"
        ) from error


def _inspected(findings: Findings) -> dict[str, Any]:
    """Which fold the pictures of attention are of, and whether two curves share one softmax."""
    if findings.best is None or (table := findings.best.inspection) is None:
        return {"inspected": "", "two_curves": False}
    return {
        "inspected": table["fold"][0].as_py(),
        "two_curves": table["speaker_embedding"].null_count == 0,
    }


def _asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    source, _, _ = jinja2.PackageLoader("orchestrator.report", "assets").get_source(
        jinja2.Environment(autoescape=True), name
    )
    return Markup(source)


def _facts(findings: Findings, configuration: dict[str, Any]) -> list[tuple[str, str]]:
    """What was trained on what, for the top of the page; only what sweep.yaml tells."""
    corpus, counted = mapping(configuration, "corpus"), mapping(findings.sweep, "corpus")
    sizes = [
        f"{value if isinstance(value, int) else len(value):,} {key}"
        for key in ("utterances", "labelled", "speakers", "sessions")
        if isinstance(value := counted.get(key), int | dict) and value
    ]
    if isinstance(counted.get("duration_s"), int | float):
        sizes.append(duration(counted["duration_s"]))
    folds = mapping(configuration, "folds")
    count = len(findings.sweep.get("folds") or [])
    scheme = words(folds.get("scheme", ""))
    chosen = "the reported part (held out)" if findings.optimistic else "a validation part"
    found = [
        ("Model", mapping(configuration, "model").get("name")),
        ("Corpus", ": ".join(filter(None, [str(corpus.get("name", "")), ", ".join(sizes)]))),
        ("Classes", ", ".join(findings.classes)),
        ("Features", mapping(configuration, "features").get("name")),
        ("Folds", ", ".join(filter(None, [scheme, f"{count} folds" if count else ""]))),
        ("Epoch chosen on", chosen),
    ]
    return [(label, str(value)) for label, value in found if value]


def _provenance(findings: Findings) -> list[tuple[str, str]]:
    sweep = findings.sweep
    seeds = sorted({trial.record.seed for trial in findings.trials})
    found = [
        ("Sweep created", sweep.get("created")),
        ("Data fingerprint", sweep.get("fingerprint")),
        ("Git commit", sweep.get("commit") or "not known"),
        ("Training seeds", ", ".join(map(str, seeds))),
        ("Bootstrap", f"{BOOTSTRAP_SAMPLES} samples of speakers, seed {BOOTSTRAP_SEED}"),
    ]
    return [(label, str(value)) for label, value in found if value]
