"""IEMOCAP, the full release: English dialogues of two, 5 sessions, 10 speakers, 10,039 turns.

Busso, Bulut, Lee, Kazemzadeh, Mower, Kim, Chang, Lee and Narayanan, "IEMOCAP: interactive
emotional dyadic motion capture database", Language Resources and Evaluation 42(4), 2008. Free
for research, on request to its makers; not to be passed on. Layout, of which this is read:

    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M012.wav   one file a turn
    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt                labels, one talker after
                                                                    the other
    Session1/dialog/transcriptions/Ses01F_impro01.txt               lines in the order spoken

The letter after `Ses01` is who wears the markers of the motion capture, in half of a session's
dialogues the woman and in the others the man. Who talks is the letter after the last underscore.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from features.corpora.tree import Tree, base, by_id, expect, is_audio, shown
from features.manifest import Manifest, ManifestError

_TURN = re.compile(r"Ses0[1-5][FM]_(impro|script)\w*_[FM][^_\W]+")
_LABEL = re.compile(r"\[(\d+\.?\d*)\s*-\s*(\d+\.?\d*)\]\s+(\S+)\s+(\S+)\s+\[.*")
_LINE = re.compile(r"(Ses\w+)\s*\[(\d+\.?\d*)\s*-\s*(\d+\.?\d*)\]\s*:?\s*(.*)")
_GENDERS = {"F": "female", "M": "male"}
_PARTS = {
    "labels": ("dialog", "EmoEvaluation"),
    "lines": ("dialog", "transcriptions"),
    "wav": ("sentences", "wav"),
}
_WHOLE = 10_039


class _Turn(NamedTuple):
    """A label or a line of a transcription: what it says, and where it stands."""

    start: float
    end: float
    said: str
    place: str


def read_iemocap(root: str) -> Manifest:
    """The manifest of IEMOCAP at `root`: the folder of `Session1` to `Session5`, or one above.

    Every labelled turn is a row, whatever its label (`xxx`, where the judges did not agree, too),
    and so is a recorded turn of the transcriptions without a label: it can be context. Lines of
    the transcriptions that were neither labelled nor recorded (ids such as `…_FXX0`) are counted
    and left out; they take no place among the turns.

    Columns: speaker (`Ses01F`: session and talker), gender, session (`1`), dialogue
    (`Ses01F_impro01`), turn (0, 1, … in the order of the transcription), style (`improvised`,
    `scripted`), emotion (as labelled), text. A turn has a file of its own, so start and end are
    empty; the labels' times are dialogue_start and dialogue_end.
    """
    tree = Tree(root)
    sessions = _sessions(tree)
    parts = _parts(tree, sessions)
    labels = _labels(tree, parts["labels"])
    if not labels:
        raise ManifestError(
            f"{root} is not IEMOCAP: no label in dialog/EmoEvaluation of its sessions; unpack the "
            "full release again"
        )
    lines = _lines(tree, parts["lines"])
    recordings = (n for f in parts["wav"] for n in tree.walk(f, depth=2) if is_audio(n))
    wav = by_id(tree, recordings, "IEMOCAP")
    rows = [
        _row(name, turn, labels.get(name), lines.get(name), wav.get(name) or _place(name, sessions))
        for turns in _dialogues(labels, lines, wav)
        for turn, name in enumerate(turns)
    ]
    tree.problems.add(
        (row["file"] for row in rows if row["id"] not in wav),
        "labelled, and not on the disk",
        "unpack sentences/wav again, or the turn fails at extraction",
    )
    _compare(tree, labels, lines, wav)
    if len(labels) < _WHOLE:
        tree.problems.add(
            ".", f"{len(labels)} of {_WHOLE} labelled turns", "unpack the rest", "folder"
        )
    return tree.manifest(rows)


def _sessions(tree: Tree) -> dict[str, str]:
    """The folder of each session that is there, by its number."""
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
            "below; give the folder that holds them (IEMOCAP_full_release)"
        )
    if len(set(numbers)) < len(numbers):
        raise ManifestError(
            f"{tree.root} holds a session twice ({shown(sessions)}); give the folder of one copy"
        )
    expect(tree, "session", [f"Session{n}" for n in range(1, 6)], [f"Session{n}" for n in numbers])
    return dict(zip(numbers, sessions, strict=True))


def _parts(tree: Tree, sessions: dict[str, str]) -> dict[str, list[str]]:
    """The folders that are read."""
    parts: dict[str, list[str]] = {key: [] for key in _PARTS}
    for session in sessions.values():
        for key, names in _PARTS.items():
            folder = tree.find(*session.split("/"), *names)
            if folder is not None:
                parts[key].append(folder)
            else:
                missing = "/".join((session, *names))
                tree.problems.add(missing, "missing", "unpack the rest of the session", "folder")
    return parts


def _texts(tree: Tree, folders: list[str]) -> Iterator[tuple[str, int, str]]:
    """File, number and text of each line of the texts in `folders`, not below them."""
    for folder in folders:
        for name in tree.entries(folder)[0]:
            if name.lower().endswith(".txt"):
                yield from ((name, number, line) for number, line in tree.lines(name))


def _labels(tree: Tree, folders: list[str]) -> dict[str, _Turn]:
    """The label of each turn. Raises ManifestError where a turn has two."""
    labels: dict[str, _Turn] = {}
    twice: list[str] = []
    for file, number, line in _texts(tree, folders):
        if not line.startswith("["):  # the head, and what each judge said
            continue
        place = f"{file}:{number}"
        match = _LABEL.fullmatch(line)
        if match is None or not _TURN.fullmatch(match[3]):
            tree.problems.add(
                place,
                "a label that cannot be read, left out",
                "compare it with the release",
                "line",
            )
            continue
        label = _Turn(float(match[1]), float(match[2]), match[4], place)
        if labels.setdefault(match[3], label) is not label:
            twice.append(f"{match[3]} in {labels[match[3]].place} and {place}")
    if twice:
        raise ManifestError(
            f"{tree.root}: {len(twice)} turns are labelled twice ({shown(twice)}); delete one of "
            "the lines, or the file that is a copy"
        )
    return labels


def _lines(tree: Tree, folders: list[str]) -> dict[str, _Turn]:
    """The transcription of each turn, in the order of the lines."""
    lines: dict[str, _Turn] = {}
    for file, number, text in _texts(tree, folders):
        place = f"{file}:{number}"
        match = _LINE.fullmatch(text)
        if match is None or not _TURN.fullmatch(match[1]):
            tree.problems.add(
                place,
                "a line of a transcription without a turn's id and times, left out",
                "nothing to do: the release has some",
                "line",
            )
        elif match[1] in lines:
            tree.problems.add(
                place, "a turn transcribed a second time", "nothing to do: its first place counts"
            )
        else:
            lines[match[1]] = _Turn(float(match[2]), float(match[3]), match[4], place)
    return lines


def _dialogues(
    labels: dict[str, _Turn], lines: dict[str, _Turn], wav: dict[str, str]
) -> Iterator[list[str]]:
    """The turns of each dialogue in the order spoken: transcribed ones as their lines are, the
    others before the first that starts after them."""
    turns: dict[str, list[str]] = {}
    for name in lines:
        if name in labels or name in wav:
            turns.setdefault(name.rpartition("_")[0], []).append(name)
    for name in sorted(labels.keys() - lines.keys(), key=lambda n: (labels[n].start, n)):
        said = turns.setdefault(name.rpartition("_")[0], [])
        starts = ((labels.get(other) or lines[other]).start for other in said)
        place = next((i for i, t in enumerate(starts) if t > labels[name].start), len(said))
        said.insert(place, name)
    for dialogue in sorted(turns, key=lambda n: (n[:5], n)):
        yield turns[dialogue]


def _place(name: str, sessions: dict[str, str]) -> str:
    """Where the recording of a turn belongs."""
    folder = sessions.get(name[4], f"Session{name[4]}")
    return f"{folder}/sentences/wav/{name.rpartition('_')[0]}/{name}.wav"


def _row(
    name: str, turn: int, label: _Turn | None, line: _Turn | None, file: str
) -> dict[str, Any]:
    dialogue, _, rest = name.rpartition("_")
    times = label or line
    return {
        "id": name,
        "file": file,
        "speaker": name[:5] + rest[0],
        "emotion": label.said if label else None,
        "session": name[4],
        "dialogue": dialogue,
        "turn": turn,
        "gender": _GENDERS[rest[0]],
        "style": "improvised" if "_impro" in dialogue else "scripted",
        "text": line.said if line else None,
        "dialogue_start": times.start if times else None,
        "dialogue_end": times.end if times else None,
    }


def _compare(
    tree: Tree, labels: dict[str, _Turn], lines: dict[str, _Turn], wav: dict[str, str]
) -> None:
    """Note where labels, transcriptions and recordings do not name the same turns."""

    def note(places: Iterable[str], what: str, remedy: str) -> None:
        tree.problems.add(places, what, remedy, "turn")

    note(
        (labels[n].place for n in labels if n not in lines),
        "labelled, and not in the transcriptions",
        "its place in the dialogue is by its time; unpack dialog/transcriptions again",
    )
    note(
        (lines[n].place for n in lines if n not in labels and n not in wav),
        "transcribed, and neither labelled nor recorded, left out",
        "nothing to do: the release has some, with ids such as …_FXX0",
    )
    note(
        (wav[n] for n in wav if n not in labels and n in lines),
        "recorded and transcribed, and not labelled",
        "it is context only; unpack dialog/EmoEvaluation again if it should have a label",
    )
    note(
        (wav[n] for n in wav if n not in labels and n not in lines),
        "a recording that no label and no transcription names, left out",
        "move it away, or unpack the session's dialog again",
    )
