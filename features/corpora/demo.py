"""A small spoken corpus that anyone can make: invented dialogues, spoken by espeak-ng.

`plan` decides who says what, when and how: pure, quick, and the same for the same settings.
`make_demo_corpus` has a fresh process speak it (`demo_speech.py`) and writes 16 kHz wav files
with a manifest. The speech is synthetic and the turn-taking is drawn by chance: scores on it
show that the program works, and say nothing about people.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

EMOTIONS = ("ang", "hap", "neu", "sad")
SENTENCES = tuple(
    Path(__file__).with_name("demo_sentences.txt").read_text(encoding="utf-8").splitlines()
)
SAMPLE_RATE = 16_000
"""Hz."""

_VERSION = 1  # of plan and speech together: raise it when either makes other audio

# Where an emotion lies, in units of one class's distance: rate, pitch, pitch range, level.
# Anger is loud, joy is high and lively, sadness is slow, low, flat and soft, as in the
# literature on acted speech; anger and joy are the nearest pair, and neutral is in the middle.
_PROFILES = np.array(
    [
        [0.7, 0.1, 0.1, 1.4],
        [0.3, 1.3, 1.3, 0.2],
        [0.0, 0.0, -0.1, 0.0],
        [-1.1, -0.7, -0.8, -1.0],
    ]
)
# espeak's own scales: words a minute (as a logarithm), 0 to 100, 0 to 100; then decibels.
_UNITS = np.array([0.2, 18.0, 24.0, 6.0])
_BLAND = 0.15  # of an emotion's distance from the voice at rest: hardly shown
_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc")
_VARIANTS = {
    "female": ("f2", "Annie", "f4", "linda", "steph"),
    "male": ("m3", "david", "m1", "Mike", "m7"),
}


class DemoSettings(BaseModel):
    """What the demo corpus holds. The defaults give 960 utterances, about 24 minutes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int = Field(default=5, ge=1, le=25)
    """Sessions, each a woman and a man who occur in no other: 5, as in IEMOCAP."""
    dialogues: int = Field(default=8, ge=1)
    """Dialogues in a session."""
    turns: int = Field(default=24, ge=1)
    """Turns in a dialogue: long enough that few lack the context of both speakers."""
    seed: int = Field(default=0, ge=0)
    """Of every draw."""
    own: float = Field(default=0.55, ge=0, le=1)
    """Probability that a turn takes over the emotion of its speaker's previous turn. Strong on
    purpose: a network must gain by context visibly when it has learned from some 700 turns."""
    other: float = Field(default=0.35, ge=0, le=1)
    """Probability that it takes over that of the other speaker's previous turn. Where neither
    happens the emotion is drawn from `prior`; at `own = other = 0` context tells nothing."""
    bland: float = Field(default=0.2, ge=0, le=1)
    """Share of turns that hardly show their emotion and sound nearly neutral. Clear neighbours
    tell what they are, so this, more than `overlap`, is what context can make good."""
    overlap: float = Field(default=0.15, ge=0)
    """Deviation of one utterance from its speaker's way of showing the emotion, in units in
    which classes lie about 1 to 2 apart: 0 leaves only `bland` and `speaker_style` to confuse
    them, 2 is near chance."""
    speaker_style: float = Field(default=0.2, ge=0)
    """Deviation of a speaker's way of showing an emotion from everybody's, in the same units:
    what is learned from some speakers fits new ones less well."""
    mixed: float = Field(default=0, ge=0, le=1)
    """Share of turns said in two parts, one in the tone of what is felt and one in that of
    another emotion, in either order. Such a turn does not tell which of its two tones is meant,
    and its neighbours do. Where none is mixed, a turn sounds the same from its first frame to its
    last, and attention that knows the context has nothing to choose between."""
    prior: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    """Shares of ang, hap, neu and sad in the draws that no context decides; any scale."""
    unlabelled: float = Field(default=0.06, ge=0, lt=1)
    """Share of turns whose emotion is heard but not labelled: `fru` where it is ang or sad,
    else `xxx`. Real corpora have them; they are context for their neighbours."""

    @model_validator(mode="after")
    def _check(self) -> "DemoSettings":
        if self.own + self.other > 1:
            raise ValueError("own + other must be at most 1: they are shares of the turns")
        if min(self.prior) < 0 or sum(self.prior) <= 0:
            raise ValueError("prior must hold no negative share and one above 0")
        return self


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How something is said."""

    rate: int
    """Words a minute."""
    pitch: int
    """espeak's scale, 0 to 100; 50 is the voice's own."""
    pitch_range: int
    """espeak's scale, 0 to 100; 0 is monotone, 50 the voice's own."""
    level: float
    """Gain on what espeak speaks at its normal volume, in decibels."""


@dataclass(frozen=True, kw_only=True)
class Turn(Manner):
    """One utterance: who says what, and how."""

    id: str
    session: str
    dialogue: str
    turn: int
    """Order in the dialogue, from 0."""
    speaker: str
    gender: str
    emotion: str
    """What is felt: always one of `EMOTIONS`."""
    label: str
    """What the manifest says: `emotion`, or `xxx` or `fru` where that is withheld."""
    phrase: str
    voice: str
    """espeak's name of the voice, `accent+variant`."""
    later: Manner | None = None
    """How the second half of the phrase is said, where it is said otherwise."""


def plan(settings: DemoSettings) -> list[Turn]:
    """Every turn of the corpus, in order. The same settings give the same list.

    Dialogues, ways of speaking, jitter and second tones are drawn from generators of their own, so
    a change of `overlap`, `speaker_style` or `mixed` alters how the turns sound and not who feels
    what. The room's noise has the number 3.
    """
    talk, style, jitter, mixing = (
        np.random.default_rng([settings.seed, part]) for part in (0, 1, 2, 4)
    )
    prior = np.array(settings.prior) / sum(settings.prior)
    genders = ("female", "male")
    turns = []
    for session in range(settings.sessions):
        # Per speaker: where the voice rests, and its shift of each emotion's profile.
        rest = style.uniform(-1, 1, (2, 4)) * [0.12, 10.0, 8.0, 2.0] + [np.log(175), 45, 45, -12]
        shift = settings.speaker_style * style.standard_normal((2, *_PROFILES.shape))
        profiles = _PROFILES + shift  # (speaker, emotion, parameter)
        for dialogue in range(settings.dialogues):
            name = f"Ses{session + 1:02d}_D{dialogue + 1:02d}"
            sentences = talk.permutation(len(SENTENCES))
            for number, (who, emotion) in enumerate(_dialogue(settings, prior, talk)):
                shown = _BLAND if jitter.random() < settings.bland else 1.0
                z = shown * profiles[who, emotion] + settings.overlap * jitter.standard_normal(4)
                manners = [_manner(rest[who] + _UNITS * z)]
                if mixing.random() < settings.mixed:
                    second = (emotion + int(mixing.integers(1, len(EMOTIONS)))) % len(EMOTIONS)
                    z = shown * profiles[who, second]
                    z += settings.overlap * mixing.standard_normal(4)
                    manners.insert(int(mixing.integers(2)), _manner(rest[who] + _UNITS * z))
                felt = EMOTIONS[emotion]
                hidden = talk.random() < settings.unlabelled
                gender = genders[who]
                turns.append(
                    Turn(
                        id=f"{name}_T{number:03d}_{gender[0].upper()}",
                        session=f"Ses{session + 1:02d}",
                        dialogue=name,
                        turn=number,
                        speaker=f"Ses{session + 1:02d}{gender[0].upper()}",
                        gender=gender,
                        emotion=felt,
                        label=("fru" if felt in ("ang", "sad") else "xxx") if hidden else felt,
                        phrase=SENTENCES[sentences[number % len(SENTENCES)]],
                        voice=_voice(session, gender),
                        **asdict(manners[0]),
                        later=manners[1] if manners[1:] else None,
                    )
                )
    return turns


def _manner(place: np.ndarray) -> Manner:
    """espeak's numbers from a logarithm of the rate, pitch, pitch range and level, (4,)."""
    rate, pitch, spread, level = place
    return Manner(
        rate=int(np.clip(np.exp(rate), 90, 380)),
        pitch=int(np.clip(pitch, 0, 99)),
        pitch_range=int(np.clip(spread, 0, 99)),
        level=round(float(np.clip(level, -30, 6)), 2),
    )


def _dialogue(
    settings: DemoSettings, prior: np.ndarray, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """(speaker 0 or 1, emotion's index) of each turn; every sixth or so keeps the floor."""
    turns: list[tuple[int, int]] = []
    latest: dict[int, int] = {}
    who = int(generator.integers(2))
    for _ in range(settings.turns):
        emotion = int(generator.choice(len(EMOTIONS), p=prior))
        source = generator.random()
        if source < settings.own:
            emotion = latest.get(who, emotion)
        elif source < settings.own + settings.other:
            emotion = latest.get(1 - who, emotion)
        latest[who] = emotion
        turns.append((who, emotion))
        if generator.random() < 5 / 6:
            who = 1 - who
    return turns


def _voice(session: int, gender: str) -> str:
    """A variant and an accent: 25 different pairs for each gender."""
    step, lap = session % 5, session // 5
    return f"{_ACCENTS[(step + lap) % 5]}+{_VARIANTS[gender][step]}"


def make_demo_corpus(
    root: str,
    settings: DemoSettings = DemoSettings(),  # noqa: B008  (frozen)
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Make the corpus in the local folder `root`; returns the path of its `manifest.csv`.

    A folder that holds the corpus of these settings is left as it is, at no cost. `progress`
    is given (utterances spoken, utterances in all). The folder appears when it is complete.
    The same settings give the same bytes, on one machine with the same espeak-ng and soxr:
    espeak's state carries over from call to call, so one fresh process speaks the whole plan.

    Raises ImportError without `espeakng_loader`, FileExistsError where `root` holds anything
    else, RuntimeError where the synthesis fails.
    """
    target = Path(root).expanduser().absolute()
    if _holds(target, settings):
        return str(target / "manifest.csv")
    if find_spec("espeakng_loader") is None:
        raise ImportError(
            "The demo corpus is spoken by espeak-ng: pip install ser-orchestrator[demo]"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir()
        _speak(temporary, settings, progress)
        (temporary / "settings.json").write_text(_signature(settings), encoding="utf-8")
        try:
            if target.is_dir():
                target.rmdir()  # empty, as checked above: not every system renames onto it
            temporary.rename(target)
        except OSError:  # somebody else was quicker
            if not _holds(target, settings):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(target / "manifest.csv")


def _signature(settings: DemoSettings) -> str:
    record = {"demo_corpus": _VERSION, **settings.model_dump(mode="json")}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def _holds(target: Path, settings: DemoSettings) -> bool:
    """Whether `target` is this corpus; False where it is absent or empty."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    stored = target / "settings.json"
    if stored.is_file() and (target / "manifest.csv").is_file():
        # What an older signature does not name has its default, which changes no audio.
        older = _signature(settings).replace('  "mixed": 0.0,\n', "")
        if stored.read_text(encoding="utf-8") in (_signature(settings), older):
            return True
        reason = "holds a corpus of other settings"
    else:
        reason = "holds something else"
    raise FileExistsError(f"{target} {reason}: choose another folder, or remove it first")


def _speak(folder: Path, settings: DemoSettings, progress: Callable[[int, int], None]) -> None:
    """Run `demo_speech` in a fresh process with this one's import path."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    command = [sys.executable, "-m", "features.corpora.demo_speech", str(folder)]
    with subprocess.Popen(
        [*command, settings.model_dump_json()],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        said = []
        try:
            for line in process.stdout:
                if line.startswith("spoken "):
                    done, total = line.split()[1:]
                    progress(int(done), int(total))
                else:
                    said.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise RuntimeError(
            f"espeak-ng could not speak the corpus (exit code {process.returncode}):\n"
            + "".join(said[-20:])
        )
