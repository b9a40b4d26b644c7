"""A small spoken corpus that anyone can make: invented dialogues, spoken by espeak-ng.

`plan` decides the speaker, the words and the manner of each turn. It is a pure, fast function of
the settings. `make_demo_corpus` speaks the plan in a new process (`demo_speech.py`) and writes
16 kHz wav files and a manifest. The speech is synthetic and the turns are random: scores on this
corpus show that the program works, and say nothing about people.
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

from features.errors import DependencyError, FolderError, StorageError

EMOTIONS = ("ang", "hap", "neu", "sad")
SENTENCES = tuple(
    Path(__file__).with_name("demo_sentences.txt").read_text(encoding="utf-8").splitlines()
)
SAMPLE_RATE = 16_000
"""Hz."""

_VERSION = 1  # of plan and speech together: raise it if a change of either changes the audio

# The place of each emotion, in units of the distance between classes: rate, pitch, pitch range,
# level. As in the literature on acted speech, anger is loud, joy is high and lively, and sadness
# is slow, low, flat and soft. Anger and joy are the nearest pair; neutral is in the middle.
_PROFILES = np.array(
    [
        [0.7, 0.1, 0.1, 1.4],
        [0.3, 1.3, 1.3, 0.2],
        [0.0, 0.0, -0.1, 0.0],
        [-1.1, -0.7, -0.8, -1.0],
    ]
)
# espeak's scales: words per minute (as a logarithm), 0 to 100, 0 to 100; then decibels.
_UNITS = np.array([0.2, 18.0, 24.0, 6.0])
_BLAND = 0.15  # share of an emotion's distance from the resting voice: hardly audible
_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc")
_VARIANTS = {
    "female": ("f2", "Annie", "f4", "linda", "steph"),
    "male": ("m3", "david", "m1", "Mike", "m7"),
}


class DemoSettings(BaseModel):
    """The content of the demo corpus. The defaults give 960 utterances, about 24 minutes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: int = Field(default=5, ge=1, le=25)
    """Sessions, each with its own woman and man: 5, as in IEMOCAP."""
    dialogues: int = Field(default=8, ge=1)
    """Dialogues in a session."""
    turns: int = Field(default=24, ge=1)
    """Turns in a dialogue: enough that few turns lack the context of both speakers."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random draws."""
    own: float = Field(default=0.55, ge=0, le=1)
    """Probability that a turn repeats the emotion of its speaker's previous turn. The default is
    high: context then visibly helps a network that learns from about 700 turns."""
    other: float = Field(default=0.35, ge=0, le=1)
    """Probability that a turn repeats the emotion of the other speaker's previous turn. All other
    turns draw their emotion from `prior`. If own and other are 0, context gives no information."""
    bland: float = Field(default=0.2, ge=0, le=1)
    """Share of turns that sound nearly neutral. Context helps mainly with these turns."""
    overlap: float = Field(default=0.15, ge=0)
    """Deviation of an utterance from its speaker's usual expression of the emotion. Classes are
    about 1 to 2 apart. At 0 only `bland` and `speaker_style` mix the classes; 2 is near chance."""
    speaker_style: float = Field(default=0.2, ge=0)
    """Deviation of a speaker's expression of an emotion from the average, in the same units."""
    mixed: float = Field(default=0, ge=0, le=1)
    """Share of turns with two halves in either order: one in the tone of the felt emotion, one in
    the tone of another emotion. Only the neighbours of such a turn reveal its emotion. At 0 each
    turn sounds the same throughout, so attention that uses context has nothing to select."""
    prior: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    """Weights of ang, hap, neu and sad in the draws without context; any scale."""
    unlabelled: float = Field(default=0.06, ge=0, lt=1)
    """Share of turns whose emotion is audible but not labelled: `fru` if it is ang or sad, else
    `xxx`. Real corpora have such turns; they are context for their neighbours."""

    @model_validator(mode="after")
    def _check(self) -> "DemoSettings":
        if self.own + self.other > 1:
            raise ValueError(f"own + other is {self.own + self.other:g}: it must be at most 1")
        if min(self.prior) < 0 or sum(self.prior) <= 0:
            raise ValueError(f"prior is {self.prior}: weights must be positive or 0, not all 0")
        return self


@dataclass(frozen=True, kw_only=True)
class Manner:
    """The manner of speaking."""

    rate: int
    """Words per minute."""
    pitch: int
    """espeak's scale, 0 to 100; 50 is the voice's own."""
    pitch_range: int
    """espeak's scale, 0 to 100; 0 is monotone, 50 the voice's own."""
    level: float
    """Gain on espeak's normal volume, in decibels."""


@dataclass(frozen=True, kw_only=True)
class Turn(Manner):
    """One utterance: speaker, words and manner."""

    id: str
    session: str
    dialogue: str
    turn: int
    """Position in the dialogue, from 0."""
    speaker: str
    gender: str
    emotion: str
    """The felt emotion, one of `EMOTIONS`."""
    label: str
    """The emotion in the manifest: the felt emotion, or `xxx` or `fru`."""
    phrase: str
    voice: str
    """espeak's name of the voice, `accent+variant`."""
    later: Manner | None = None
    """The manner of the second half of the phrase, if it differs."""


def plan(settings: DemoSettings) -> list[Turn]:
    """All turns of the corpus, in order. The same settings give the same list.

    Dialogues, speaking styles, jitter and second tones have their own random generators. A change
    of `overlap`, `speaker_style` or `mixed` therefore changes the sound of turns, but not their
    emotions. Generator 3 is the noise of the room.
    """
    talk, style, jitter, mixing = (
        np.random.default_rng([settings.seed, part]) for part in (0, 1, 2, 4)
    )
    prior = np.array(settings.prior) / sum(settings.prior)
    genders = ("female", "male")
    turns = []
    for session in range(settings.sessions):
        # For each speaker: the resting voice, and its shift of each emotion's profile.
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
    """espeak's values from (4,): the logarithm of the rate, pitch, pitch range, level."""
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
    """(speaker 0 or 1, index of the emotion) of each turn. 5 of 6 turns change the speaker."""
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
    """An accent and a variant: 25 different pairs for each gender."""
    step, lap = session % 5, session // 5
    return f"{_ACCENTS[(step + lap) % 5]}+{_VARIANTS[gender][step]}"


def make_demo_corpus(
    root: str,
    settings: DemoSettings = DemoSettings(),  # noqa: B008  (frozen)
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Make the corpus in the local folder `root`; return the path of its `manifest.csv`.

    A folder that already holds the corpus of these settings stays as it is. `progress` receives
    the numbers of spoken and of all utterances. The folder appears when it is complete. The same
    settings give the same bytes on a machine with the same espeak-ng and soxr. espeak keeps a
    state between calls, so one new process speaks the whole plan.

    Raises DependencyError if espeak-ng is not installed or fails, FolderError if `root` holds
    something else, StorageError if the folder cannot be written.
    """
    target = Path(root).expanduser().absolute()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        if _holds(target, settings):
            return str(target / "manifest.csv")
        if find_spec("espeakng_loader") is None:
            remedy = "pip install ser-orchestrator[demo]"
            raise DependencyError(f"the demo corpus needs espeak-ng: {remedy}")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        _speak(temporary, settings, progress)
        (temporary / "settings.json").write_text(_signature(settings), encoding="utf-8")
        try:
            if target.is_dir():
                target.rmdir()  # empty, as checked above; some systems cannot rename onto a folder
            temporary.rename(target)
        except OSError:  # another process may have made the corpus first
            if not _holds(target, settings):
                raise
    except FolderError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(target / "manifest.csv")


def _signature(settings: DemoSettings) -> str:
    record = {"demo_corpus": _VERSION, **settings.model_dump(mode="json")}
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def _holds(target: Path, settings: DemoSettings) -> bool:
    """Whether `target` holds this corpus; False if it does not exist or is empty."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    content = "something else"
    stored = target / "settings.json"
    if stored.is_file() and (target / "manifest.csv").is_file():
        if stored.read_text(encoding="utf-8", errors="replace") == _signature(settings):
            return True
        content = "a corpus of other settings"
    raise FolderError(f"{target} holds {content}: choose another folder, or delete it first")


def _speak(folder: Path, settings: DemoSettings, progress: Callable[[int, int], None]) -> None:
    """Run `demo_speech` in a new process with the import path of this process."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    module = "features.corpora.demo_speech"
    with subprocess.Popen(
        [sys.executable, "-m", module, str(folder), settings.model_dump_json()],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        output = [""]
        try:
            for line in process.stdout:
                if line.startswith("spoken "):
                    done, total = line.split()[1:]
                    progress(int(done), int(total))
                elif line.strip():
                    output.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise DependencyError(
            f"espeak-ng could not speak the demo corpus (exit code {process.returncode}): "
            f"{output[-1]}. Install it again: pip install --force-reinstall espeakng-loader"
        )
