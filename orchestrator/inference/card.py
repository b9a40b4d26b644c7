"""The model card of an export: a README.md for the people who get the folder."""

import math

from orchestrator.config import registry
from orchestrator.inference.model import Description, SpeechModel
from orchestrator.inference.refit import honest_score
from orchestrator.inference.speakers import ENOUGH
from orchestrator.metrics import Interval, Scores
from orchestrator.results.below_chance import below_chance
from orchestrator.results.findings import Best, cautions, in_detail
from orchestrator.results.method import paragraph
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.study import study

CARD = "README.md"
LICENCES = {
    "crema_d": "Open Database License",
    "iemocap": "an agreement with the University of Southern California, for research",
    "nemo": "CC BY-NC-SA 4.0, which forbids commercial use",
    "ravdess": "CC BY-NC-SA 4.0, which forbids commercial use",
}
"""Licences of corpora. A reader that is not here reads corpora of several licences."""


def card(sweep: OpenedSweep, model: SpeechModel, onnx: bool) -> str:
    """The card, as Markdown. The same sweep gives the same text.

    onnx : whether the folder has an ONNX file
    """
    described = model.description
    networks = len(model.networks)
    trial = _in_detail(sweep, described.trial)
    point = trial.trial.record.hyperparameters
    notes = [
        *below_chance(trial.pooled.ua, trial.chance_ua, sweep.record, point),
        *cautions(trial, sweep.record.epochs, "this trial"),
    ]
    needed, options, python = _needed(described)
    members = f"the mean of {networks} networks" if networks > 1 else "one network"
    origin = "that trained on all labelled utterances" if described.refit else "of cross-validation"
    lines = [
        f"# {_text(described.name)}: emotion in speech",
        "",
        f"`{described.model.name}` on `{described.features.name}`, {members} "
        f"{origin} ({_listed(model.networks)}). Classes: {_listed(model.classes)}.",
        "",
        "```python",
        "import orchestrator",
        "",
        f'model = orchestrator.load_model("THIS FOLDER"{python})',
        "model.predict(samples, 16_000)  # posteriors by class; samples: float, mono, in -1..1",
        "```",
        "",
        f"Or `ser predict THIS_FOLDER FILE...{options}`. {_normalisation(model)}",
        "",
        *needed,
        *(_onnx(model) if onnx else []),
        "## Score",
        "",
        *_scores(sweep, model, trial),
        "## How the score was made",
        "",
        _text(paragraph(study(sweep.name, [sweep]))),
        "",
        *([f"- {_text(note)}" for note in notes] or ["No warnings."]),
        "",
        "## Intended use and limits",
        "",
        "For research on speech like that of its corpus: the same language, the same way of "
        "recording, and the same kind of emotion, acted or not. On other speech the score is "
        "unknown, and usually lower. The posteriors are not calibrated. The model has no class for "
        "other emotions: each utterance gets one of its classes. Do not use it to judge people.",
        "",
        "## Licences",
        "",
        _licence(sweep.record.corpus.corpus),
    ]
    if any("opensmile" in text for text in described.features.load().identity()):
        lines += [
            "",
            "The features come from openSMILE, whose licence allows research and personal use, and "
            "forbids commercial use without an agreement with audEERING.",
        ]
    if "encoder" in described.features.files():
        lines += [
            "",
            "The features come from a pretrained encoder, which has a licence of its own. Some "
            "encoders are for non-commercial use only.",
        ]
    return "\n".join(lines) + "\n"


def _needed(described: Description) -> tuple[list[str], str, str]:
    """The files and the code that this folder needs and lacks.

    Returns the lines that name them, and how a command and a call of `load_model` name them.
    """
    lines, options, python = [], "", ""
    contents = described.features.load().contents
    for key, value in described.features.files().items():
        kind = "the pretrained encoder" if key == "encoder" else "a configuration file of openSMILE"
        lines += [
            f"This folder needs {kind} that trained it, which is not part of it: {_text(value)}. "
            f"Give the path of your copy as `--feature {key}=PATH`. Other contents are refused. "
            f"Contents (SHA-256): {_listed(contents)}.",
            "",
        ]
        options += f" --feature {key}=PATH"
        python += f', features={{"{key}": "PATH"}}'
    sections = (("model", described.model.name), ("features", described.features.name))
    own = [name for section, name in sections if registry.is_own(section, name)]
    if own:
        lines += [
            f"This folder needs code that is not part of it: {_listed(own)}. Install its package, "
            "or run the program in the folder of its files.",
            "",
        ]
        options += "".join(f" --trust {name}" for name in own if registry.PATH.fullmatch(name))
        python += f", trust={[name for name in own if registry.PATH.fullmatch(name)]}"
    return lines, options, python


def _licence(corpus: str) -> str:
    known = LICENCES.get(corpus)
    name = "a manifest of its user" if corpus == "manifest" else _text(corpus)
    return (
        f"The corpus is {name}. {f'Its licence: {known}.' if known else 'Ask for its licence.'} "
        "The licence may restrict uses of weights that it trained. Read it before you share or "
        "sell this folder."
    )


def _normalisation(model: SpeechModel) -> str:
    features = model.description.features
    if features.normalize == "train":
        return "The networks have the mean and deviation of their training parts."
    if features.group is None:
        return "The features are not normalised."
    return (
        "Features are normalised by speaker: give all recordings of a speaker together. If there "
        f"are less than {ENOUGH:g} s, the statistics are shrunk towards a typical training speaker."
    )


def _onnx(model: SpeechModel) -> list[str]:
    shape = model.description.features.load().shape
    rows = {
        "frames": "a sequence, and `lengths` says how many of its frames are real",
        "vector": "one vector",
        "maps": "a segment, and `lengths` says how many of its frames are real",
    }[shape]
    return [
        "`model.onnx` takes features that are cut, normalised by speaker and pooled. Each row is "
        f"{rows}. It returns posteriors.",
        "",
    ]


def _in_detail(sweep: OpenedSweep, trial: str) -> Best:
    """The scores of the folder's trial, which is perhaps not the best one."""
    best = sweep.findings.best
    if best is not None and best.trial.record.id == trial:
        return best
    chosen = next(each for each in sweep.findings.trials if each.record.id == trial)
    return in_detail(chosen, sweep.predictions(trial), None, sweep.record.classes)


def _scores(sweep: OpenedSweep, model: SpeechModel, trial: Best) -> list[str]:
    """The nested estimate if there is one, and the scores of the folder's trial by speaker."""
    findings, identity = sweep.findings, model.description.trial
    is_best = trial is findings.best
    lines = []
    if model.description.refit:
        lines += [f"{honest_score(sweep, identity)}.", ""]
    if findings.nested is not None:
        nested = findings.nested
        lines.append(
            f"Nested UA **{nested.pooled.ua:.3f}** pooled over test utterances; mean over folds "
            f"{_interval(nested.ua)}. For each test fold, the configuration was chosen on that "
            "fold's own validation part, so this is the honest score of the search."
        )
    else:
        lines.append(f"There is no nested estimate: {_text(findings.nested_reason)}")
    if not is_best:
        lines += [
            "",
            f"This folder has trial {identity}, not the best trial, so the nested estimate does "
            "not describe it. Its scores below are optimistic if they led to the choice.",
        ]
    kind = "**Optimistic** UA" if sweep.record.optimistic else "UA"
    called = "the best trial" if is_best else f"trial {identity}"
    return [
        *lines,
        "",
        f"{kind} of {called}: {_interval(trial.pooled.ua)} pooled, with a bootstrap over "
        f"speakers. Chance is {trial.chance_ua:.3f}. Each network of "
        "cross-validation was tested on its own fold. The mean of several networks has no test "
        "part, and its score is not known.",
        "",
        "| speaker | test utterances | UA | WA |",
        "|---|---|---|---|",
        *[_row(name, *values) for name, values in trial.by_speaker.items()],
        "",
    ]


def _row(speaker: str, count: int, scores: Scores) -> str:
    return f"| {_text(speaker)} | {count} | {scores.ua:.3f} | {scores.wa:.3f} |"


def _interval(interval: Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} (95 %: {interval.low:.3f} to {interval.high:.3f})"


def _listed(texts: object) -> str:
    return ", ".join(_text(str(text)) for text in texts)  # type: ignore[attr-defined]


def _text(text: str) -> str:
    """A text without characters that Markdown or HTML would read as more than text."""
    kept = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in kept)
