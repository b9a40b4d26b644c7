"""Speak the plan of the demo corpus with espeak-ng; `make_demo_corpus` runs this as a process.

`python -m features.corpora.demo_speech FOLDER SETTINGS_JSON` writes `wav/…` and `manifest.csv`
into FOLDER and prints `spoken DONE TOTAL` lines.
"""

import csv
import ctypes
import os
import sys
import tempfile
import wave
from pathlib import Path

import espeakng_loader
import numpy as np
import soxr

from features.corpora.demo import SAMPLE_RATE, DemoSettings, Manner, Turn, plan

COLUMNS = ("id", "file", "speaker", "emotion", "session", "dialogue", "turn", "gender", "phrase")
ROOM_NOISE = 8.0
"""Deviation of the noise behind the speech, in steps of 16 bits: about -72 dB. Without noise the
pauses would be digital zeros. No recording has them, and their logarithm is not finite."""

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_LONGEST_PATH = 120  # espeak-ng 1.52 stores the path of its data and a file name in 160 bytes
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """espeak-ng through ctypes. Make one object in a process: the library has one global state.

    The samples of a call depend slightly on the calls before it.
    """

    def __init__(self) -> None:
        data = espeakng_loader.get_data_path()
        if len(os.fsencode(data)) > _LONGEST_PATH:
            self._short = tempfile.TemporaryDirectory()  # kept: voices are read at their first use
            data = os.path.join(self._short.name, "espeak-ng-data")
            os.symlink(espeakng_loader.get_data_path(), data)
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT
        )
        """Hz: 22050."""
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot start with its data in {data}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of breath noise; else the clock
        self._chunks: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library stores only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _: int) -> int:
        if count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        """int16 samples at `sample_rate`; the numbers are those of a `Manner`."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        status = self._library.espeak_Synth(data, size, 0, 1, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._chunks), np.int16)
        if status != 0 or not samples.size:
            raise RuntimeError(f"espeak-ng did not speak {text!r} (status {status})")
        return samples


def render(espeak: Espeak, turn: Turn, noise: np.random.Generator) -> np.ndarray:
    """The turn as int16 samples at `SAMPLE_RATE`, with the noise of a room."""
    parts: list[tuple[str, Manner]] = [(turn.phrase, turn)]
    if turn.later is not None:
        words = turn.phrase.split()
        half = len(words) // 2
        parts = [(" ".join(words[:half]), turn), (" ".join(words[half:]), turn.later)]
    spoken = []
    for text, manner in parts:
        speech = espeak.speak(text, turn.voice, manner.rate, manner.pitch, manner.pitch_range)
        speech = soxr.resample(speech.astype(np.float64), espeak.sample_rate, SAMPLE_RATE)
        spoken.append(speech * 10 ** (manner.level / 20))
    samples = np.concatenate(spoken)
    samples = samples + ROOM_NOISE * noise.standard_normal(samples.shape)
    return np.clip(np.round(samples), -32768, 32767).astype("<i2")


def main(folder: str, settings_json: str) -> None:
    """Write the whole corpus into `folder`."""
    settings = DemoSettings.model_validate_json(settings_json)
    turns = plan(settings)
    espeak = Espeak()
    noise = np.random.default_rng([settings.seed, 3])
    with open(Path(folder, "manifest.csv"), "w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(COLUMNS)
        for done, turn in enumerate(turns, start=1):
            file = f"wav/{turn.session}/{turn.id}.wav"
            path = Path(folder, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as audio:
                audio.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                audio.writeframes(render(espeak, turn, noise).tobytes())
            who = (turn.speaker, turn.label, turn.session, turn.dialogue, turn.turn)
            rows.writerow((turn.id, file, *who, turn.gender, turn.phrase))
            print("spoken", done, len(turns), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
