"""What a corpus holds, for `ser corpus` and the report."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

from features.context import ABSENT, WINDOW, previous_turns
from features.manifest import Manifest, Problem
from features.storage import Storage

Indices = NDArray[np.int64]


def summarise_corpus(
    corpus: str,
    manifest: Manifest,
    labels: Indices,
    classes: Sequence[str],
    window: int = WINDOW,
    audio: bool = True,
) -> dict[str, Any]:
    """Counts of a corpus, ready for JSON.

    corpus : the reader's name
    labels : (utterances,) position in `classes`, or -1 for another label or none
    window : turns before an utterance in which its context is looked for
    audio : read the headers of local recordings where nothing else tells how long they are

    `labelled` are those in the chosen classes; `classes` and `context` are of them, all else is
    of every utterance. `duration_s` is None where it cannot be told without fetching recordings.
    """
    table = manifest.table

    def counts(column: str) -> dict[str, int]:
        values = (value for value in table[column].to_pylist() if value is not None)
        return dict(sorted(Counter(values).items()))

    seconds, unreadable = duration(manifest) if audio else (None, [])
    return {
        "corpus": corpus,
        "utterances": len(table),
        "labelled": int((labels >= 0).sum()),
        "duration_s": None if seconds is None else round(seconds, 3),
        "classes": {name: int((labels == index).sum()) for index, name in enumerate(classes)},
        "speakers": counts("speaker"),
        "sessions": counts("session"),
        "dialogues": len(counts("dialogue")),
        "context": context_counts(manifest, labels, window),
        "problems": [problem._asdict() for problem in (*manifest.problems, *unreadable)],
    }


def context_counts(
    manifest: Manifest, labels: Indices, window: int = WINDOW
) -> dict[str, float | int]:
    """How the classes of the labelled utterances agree with those of their context.

    both_same, one_same, none_same : shares of the labelled utterances by whether both, one or
        none of the speaker's own previous turn and the other's have the same class. Context that
        is absent, or in no chosen class, has no class and agrees with nothing
    no_previous_own, no_previous_other : labelled utterances without such a turn in the window
    """
    speakers, dialogues, turns = (
        manifest.table[name].to_pylist() for name in ("speaker", "dialogue", "turn")
    )
    labelled = np.flatnonzero(labels >= 0)
    agree = np.zeros(len(labelled), dtype=np.int64)
    absent = []
    for context in previous_turns(speakers, dialogues, turns, window):
        before = context[labelled]
        agree += (before != ABSENT) & (labels[before] == labels[labelled])
        absent.append(int((before == ABSENT).sum()))
    both, one, none = (
        float((agree == number).mean()) if len(labelled) else 0.0 for number in (2, 1, 0)
    )
    return {
        "both_same": both,
        "one_same": one,
        "none_same": none,
        "no_previous_own": absent[0],
        "no_previous_other": absent[1],
    }


def duration(manifest: Manifest) -> tuple[float | None, list[Problem]]:
    """Seconds of all utterances, and the recordings whose header does not tell their length.

    From start and end, else from the dialogue's times, else from the headers of local files;
    missing files count nothing. None where headers would have to be fetched from elsewhere.
    """
    names = ("file", "start", "end", "dialogue_start", "dialogue_end")
    columns = (manifest.table[name].to_pylist() for name in names)
    storage = Storage.open(manifest.root)
    local = isinstance(storage.filesystem, pafs.LocalFileSystem)
    headers: dict[str, float | None] = {}
    problems: list[Problem] = []
    total = 0.0
    for file, start, end, dialogue_start, dialogue_end in zip(*columns, strict=True):
        if end is not None:
            total += end - (start or 0.0)
        elif start is None and dialogue_start is not None and dialogue_end is not None:
            total += dialogue_end - dialogue_start
        elif not local:
            return None, []
        else:
            if file not in headers:
                headers[file] = _length(storage.path(file), file, problems)
            length = headers[file]
            total += 0.0 if length is None else max(length - (start or 0.0), 0.0)
    return total, problems


def _length(path: str, file: str, problems: list[Problem]) -> float | None:
    """Seconds of a recording, by its header; None of one that is missing or cannot be read."""
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        if Storage.open(path).filesystem.get_file_info(path).type == pafs.FileType.File:
            reason = f"its length is not known: {getattr(error, 'error_string', error)}"
            problems.append(Problem(file, reason))
        return None
    return float(info.frames / info.samplerate)


def render(summary: dict[str, Any], root: str) -> Group:
    """A summary as tables to print: the counts, and the problems by reason."""
    table = Table("what", "count", title=f"{summary['corpus']}: {root}", title_justify="left")
    labelled = summary["labelled"] or 1
    for key, value in summary.items():
        match key:
            case "corpus" | "problems":
                continue
            case "duration_s":
                shown = "not known without fetching it" if value is None else _clock(value)
            case "classes":
                parts = (f"{k} {v} ({v / labelled:.1%})" for k, v in value.items())
                shown = ", ".join(parts)
            case "context":
                parts = (
                    f"{k.replace('_', ' ')} {v:.1%}"
                    if isinstance(v, float)
                    else f"{k.replace('_', ' ')} {v:,}"
                    for k, v in value.items()
                )
                shown = ", ".join(parts)
            case "speakers" | "sessions":
                names = ", ".join(f"{k} {v}" for k, v in value.items())
                shown = f"{len(value)}: {names}" if value else "none"
            case _:
                shown = f"{value:,}"
        table.add_row("duration" if key == "duration_s" else key, shown)
    problems = summary["problems"]
    if not problems:
        return Group(table, "no problems")
    found = Table("problem", "where", title=f"{len(problems)} problems", title_justify="left")
    by_reason = sorted(problems, key=lambda problem: problem["reason"])
    for reason, alike in groupby(by_reason, key=lambda problem: problem["reason"]):
        files = [problem["file"] for problem in alike]
        more = f" and {len(files) - 3:,} more" if len(files) > 3 else ""
        found.add_row(reason, ", ".join(files[:3]) + more)
    return Group(table, found)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min {rest:02d} s"
