"""IEMOCAP, the full release: English dialogues of two speakers, 5 sessions, 10,039 turns.

Busso, Bulut, Lee, Kazemzadeh, Mower, Kim, Chang, Lee and Narayanan, "IEMOCAP: interactive
emotional dyadic motion capture database", Language Resources and Evaluation 42(4), 2008. Free
for research, on request to its authors; redistribution is not allowed. The reader uses:

    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M012.wav   one file for each turn
    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt                labels, sorted by speaker
    Session1/dialog/transcriptions/Ses01F_impro01.txt               lines in the spoken order

The letter after `Ses01` is the person with the motion capture markers: the woman in half of a
session's dialogues, the man in the others. The letter after the last underscore is the speaker.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from features.corpora.tree import Tree, base, by_id, is_audio
from features.errors import ManifestError, shorten
from features.manifest import Manifest

_TURN = re.compile(r"Ses0[1-5][FM]_(impro|script)\w*_[FM][^_\W]+")
_TIMES = r"\[(?P<start>\d+\.?\d*)\s*-\s*(?P<end>\d+\.?\d*)\]"
_LABEL = re.compile(rf"{_TIMES}\s+(?P<name>\S+)\s+(?P<content>\S+)\s+\[.*")
_LINE = re.compile(rf"(?P<name>Ses\w+)\s*{_TIMES}\s*:?\s*(?P<content>.*)")
_GENDERS = {"F": "female", "M": "male"}
_PARTS = {
    "labels": ("dialog", "EmoEvaluation"),
    "lines": ("dialog", "transcriptions"),
    "wav": ("sentences", "wav"),
}
_WHOLE = 10_039


class _Turn(NamedTuple):
    """A label, or a line of a transcription."""

    start: float
    end: float
    content: str
    """The emotion, or the words."""
    place: str
    """File and line number."""


def read_iemocap(root: str) -> Manifest:
    """Read the manifest of IEMOCAP at `root`: the folder of `Session1` to `Session5`, or a folder
    up to three levels above.

    Each labelled turn is a row, for any label (also `xxx`: the annotators did not agree). A turn
    that is recorded and transcribed but has no label is a row too, because it can be context.
    Transcribed lines without a label and a recording (ids such as `…_FXX0`) are skipped and
    counted; they have no turn number.

    Columns: speaker (`Ses01F`: session and speaker), gender, session (`1`), dialogue
    (`Ses01F_impro01`), turn (0, 1, … in the order of the transcription), style (`improvised`,
    `scripted`), emotion (the label), text. Each turn has its own file, so start and end are
    empty; dialogue_start and dialogue_end are the times of the label.
    """
    tree = Tree(root)
    sessions = _sessions(tree)
    parts = _parts(tree, sessions)
    labels = _labels(tree, parts["labels"])
    if not labels:
        raise ManifestError(
            f"{root} is not IEMOCAP: dialog/EmoEvaluation of its sessions has no label: unpack "
            f"the full release again{tree.dead_links()}"
        )
    lines = _lines(tree, parts["lines"])
    recordings = (n for f in parts["wav"] for n in tree.walk(f, depth=2) if is_audio(n))
    wav = by_id(tree, recordings, "IEMOCAP")
    rows = [
        _row(name, turn, labels.get(name), lines.get(name), wav.get(name), sessions)
        for turns in _dialogues(labels, lines, wav)
        for turn, name in enumerate(turns)
    ]
    absent = (row["file"] for row in rows if row["id"] not in wav)
    remedy = "unpack sentences/wav again, or the turn fails at extraction"
    tree.add_problem(absent, "a labelled turn without its recording", remedy)
    _compare(tree, labels, lines, wav)
    tree.expect_count(len(labels), _WHOLE, "labelled turns")
    return tree.manifest(rows)


def _sessions(tree: Tree) -> dict[str, str]:
    """The folder of each session that exists, by number."""
    level = [""]
    sessions: list[str] = []
    for _ in range(4):
        below = [folder for name in level for folder in tree.entries(name)[1]]
        sessions = [n for n in below if re.fullmatch(r"session[1-5]", base(n).lower())]
        if sessions:
            break
        level = below
    numbers = [base(name)[-1] for name in sessions]
    if not sessions:
        raise ManifestError(
            f"{tree.root} is not IEMOCAP: no folder Session1 to Session5 in it or three folders "
            "below. Give the folder that holds them (IEMOCAP_full_release)"
        )
    if len(set(numbers)) < len(numbers):
        raise ManifestError(
            f"{tree.root} holds a session twice ({shorten(sessions)}): give the folder of one copy"
        )
    tree.expect("session", (f"Session{n}" for n in range(1, 6)), (f"Session{n}" for n in numbers))
    return dict(zip(numbers, sessions, strict=True))


def _parts(tree: Tree, sessions: dict[str, str]) -> dict[str, list[str]]:
    """The folders to read, by kind."""
    parts: dict[str, list[str]] = {key: [] for key in _PARTS}
    for session in sessions.values():
        for key, names in _PARTS.items():
            folder = tree.find(*session.split("/"), *names)
            if folder is not None:
                parts[key].append(folder)
            else:
                missing = "/".join((session, *names))
                tree.add_problem(missing, "missing", "unpack the rest of the session", "folder")
    return parts


def _turns(
    tree: Tree, folders: list[str], pattern: re.Pattern[str], start: str, wrong: str, remedy: str
) -> Iterator[tuple[str, _Turn]]:
    """Id and content of each line that starts with `start`, in the texts of `folders`.

    Subfolders do not count. A line that is not a turn by `pattern` is the problem `wrong`.
    """
    files = (n for f in folders for n in tree.entries(f)[0] if n.lower().endswith(".txt"))
    for file in files:
        for number, line in tree.lines(file):
            place, match = f"{file}:{number}", pattern.fullmatch(line)
            if match and _TURN.fullmatch(match["name"]):
                times = float(match["start"]), float(match["end"])
                yield match["name"], _Turn(*times, match["content"], place)
            elif line.startswith(start):
                tree.add_problem(place, wrong, remedy, "line")


def _labels(tree: Tree, folders: list[str]) -> dict[str, _Turn]:
    """The label of each turn. Raises ManifestError if a turn has two."""
    labels: dict[str, _Turn] = {}
    repeated: list[str] = []
    wrong = "a label with a wrong format, skipped"
    # Other lines are the header, and the labels of single annotators.
    for name, label in _turns(tree, folders, _LABEL, "[", wrong, "compare it with the release"):
        if labels.setdefault(name, label) is not label:
            repeated.append(f"{name} in {labels[name].place} and {label.place}")
    if repeated:
        raise ManifestError(
            f"{tree.root}: {len(repeated)} turns have two labels ({shorten(repeated)}): delete "
            "one of the lines, or the file that is a copy"
        )
    return labels


def _lines(tree: Tree, folders: list[str]) -> dict[str, _Turn]:
    """The transcription of each turn, in the order of the lines."""
    lines: dict[str, _Turn] = {}
    wrong = "a transcribed line without a turn's id and times, skipped"
    remedy = "nothing to do: the release has such lines"
    for name, line in _turns(tree, folders, _LINE, "", wrong, remedy):
        if lines.setdefault(name, line) is not line:
            problem = "a turn that is transcribed twice"
            tree.add_problem(line.place, problem, "nothing to do: the first line counts")
    return lines


def _dialogues(
    labels: dict[str, _Turn], lines: dict[str, _Turn], wav: dict[str, str]
) -> Iterator[list[str]]:
    """The turns of each dialogue in the spoken order.

    Transcribed turns keep the order of their lines. Any other turn is inserted before the first
    turn that starts after it.
    """
    turns: dict[str, list[str]] = {}
    for name in lines:
        if name in labels or name in wav:
            turns.setdefault(name.rpartition("_")[0], []).append(name)
    for name in sorted(labels.keys() - lines.keys(), key=lambda n: (labels[n].start, n)):
        spoken = turns.setdefault(name.rpartition("_")[0], [])
        starts = ((labels.get(other) or lines[other]).start for other in spoken)
        place = next((i for i, t in enumerate(starts) if t > labels[name].start), len(spoken))
        spoken.insert(place, name)
    for dialogue in sorted(turns, key=lambda n: (n[:5], n)):
        yield turns[dialogue]


def _row(
    name: str,
    turn: int,
    label: _Turn | None,
    line: _Turn | None,
    file: str | None,
    sessions: dict[str, str],
) -> dict[str, Any]:
    """The row of a turn. If it has no recording, `file` is the path that it should have."""
    dialogue, _, rest = name.rpartition("_")
    folder = sessions.get(name[4], f"Session{name[4]}")
    times = label or line
    return {
        "id": name,
        "file": file or f"{folder}/sentences/wav/{dialogue}/{name}.wav",
        "speaker": name[:5] + rest[0],
        "emotion": label.content if label else None,
        "session": name[4],
        "dialogue": dialogue,
        "turn": turn,
        "gender": _GENDERS[rest[0]],
        "style": "improvised" if "_impro" in dialogue else "scripted",
        "text": line.content if line else None,
        "dialogue_start": times.start if times else None,
        "dialogue_end": times.end if times else None,
    }


def _compare(
    tree: Tree, labels: dict[str, _Turn], lines: dict[str, _Turn], wav: dict[str, str]
) -> None:
    """Add the problems of turns that labels, transcriptions and recordings do not all name."""
    for places, problem, remedy in (
        (
            (labels[n].place for n in labels if n not in lines),
            "a labelled turn without a transcription",
            "its time decides its place in the dialogue; unpack dialog/transcriptions again",
        ),
        (
            (lines[n].place for n in lines if n not in labels and n not in wav),
            "a transcribed turn without a label and a recording, skipped",
            "nothing to do: the release has such turns, with ids such as …_FXX0",
        ),
        (
            (wav[n] for n in wav if n not in labels and n in lines),
            "a recorded and transcribed turn without a label",
            "it can only be context; unpack dialog/EmoEvaluation again if it should have a label",
        ),
        (
            (wav[n] for n in wav if n not in labels and n not in lines),
            "a recording without a label and a transcription, skipped",
            "move it elsewhere, or unpack the session's dialog again",
        ),
    ):
        tree.add_problem(places, problem, remedy, "turn")
