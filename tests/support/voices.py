"""Corpora of synthetic voices whose class is plain to hear, for tests of normalisation."""

import csv
from pathlib import Path

import numpy as np

from tests.support.signals import RATE, encode

CLASSES = ("ang", "hap", "neu", "sad")
_PITCH = {"ang": 260.0, "hap": 220.0, "neu": 150.0, "sad": 120.0}  # Hz
_LEVEL = {"ang": 0.4, "hap": 0.2, "neu": 0.1, "sad": 0.05}


def voice(emotion: str, speaker: int, take: int, seconds: float = 0.5) -> np.ndarray:
    """A voiced sound with the pitch and the level of an emotion; a speaker shifts the pitch."""
    rng = np.random.default_rng([CLASSES.index(emotion), speaker, take])
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = _PITCH[emotion] * (1 + 0.02 * (speaker % 5) + 0.02 * rng.normal())
    pitch = pitch * (1 + 0.02 * np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 20))
    level = _LEVEL[emotion] * rng.uniform(0.9, 1.1)
    return np.clip(level * sound / 2 + 0.002 * rng.normal(size=len(t)), -1, 1).astype(np.float32)


def make_voices(folder: Path, speakers: list[list[str]], takes: int, unlabelled: int = 0) -> Path:
    """Write `takes` utterances of each speaker in each of the speaker's emotions; return the table.

    speakers : the emotions of each speaker
    unlabelled : further utterances of each speaker, whose label is no class
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, emotions in enumerate(speakers):
        said = [(emotion, emotion, take) for emotion in emotions for take in range(takes)]
        said += [(emotions[0], "xxx", takes + take) for take in range(unlabelled)]
        for emotion, label, take in said:
            file = f"v{number:02d}_{label}_{take}.wav"
            (folder / file).write_bytes(encode(voice(emotion, number, take)))
            rows.append((file, f"v{number:02d}", f"s{number % 4}", label))
    with (folder / "manifest.csv").open("w", newline="") as table:
        csv.writer(table).writerows([("file", "speaker", "session", "emotion"), *rows])
    return folder / "manifest.csv"
