"""The demo corpus: its plan, its audio, and the errors of making it."""

import csv
import hashlib
import importlib.util
import json
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chi2_contingency

from features.corpora import demo
from features.corpora.demo import EMOTIONS, SENTENCES, DemoSettings, Turn, make_demo_corpus, plan
from features.errors import DependencyError, FolderError, StorageError

SMALL = DemoSettings(sessions=2, dialogues=1, turns=4, seed=3)
needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeakng_loader"
)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def carried(turns: list[Turn]) -> tuple[float, float, float]:
    """Shares of turns that repeat the speaker's own, the other's, or neither previous emotion.

    Counts only turns for which these two emotions differ.
    """
    counts: Counter[str] = Counter()
    latest: dict[tuple[str, str], str] = {}
    for turn in turns:
        own = latest.get((turn.dialogue, turn.speaker))
        others = [
            emotion
            for (dialogue, who), emotion in latest.items()
            if dialogue == turn.dialogue and who != turn.speaker
        ]
        if own and others and own != others[0]:
            counts[{own: "own", others[0]: "other"}.get(turn.emotion, "neither")] += 1
        latest[turn.dialogue, turn.speaker] = turn.emotion
    return tuple(counts[key] / counts.total() for key in ("own", "other", "neither"))


def independence(first: list[str], second: list[str]) -> float:
    """p of the hypothesis that two labels of the same turns are independent."""
    rows, columns = sorted(set(first)), sorted(set(second))
    table = np.zeros((len(rows), len(columns)))
    for a, b in zip(first, second, strict=True):
        table[rows.index(a), columns.index(b)] += 1
    return float(chi2_contingency(table).pvalue)


@pytest.fixture(scope="module")
def long_plan() -> list[Turn]:
    return plan(DemoSettings(dialogues=100))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "corpus"
    assert make_demo_corpus(str(root), SMALL) == str(root / "manifest.csv")
    return root


def test_default_plan_has_five_sessions_of_two_voices_and_600_utterances() -> None:
    turns = plan(DemoSettings())
    assert len(turns) >= 600
    assert len({turn.id for turn in turns}) == len(turns)
    speakers = {(turn.session, turn.speaker, turn.gender, turn.voice) for turn in turns}
    assert len(speakers) == len({turn.voice for turn in turns}) == 10
    assert Counter(gender for _, _, gender, _ in speakers) == {"female": 5, "male": 5}
    assert set(Counter(session for session, *_ in speakers).values()) == {2}
    withheld = [turn for turn in turns if turn.label != turn.emotion]
    assert {turn.label for turn in withheld} == {"xxx", "fru"}
    assert 0.03 < len(withheld) / len(turns) < 0.1
    assert {turn.label for turn in turns} - {"xxx", "fru"} == set(EMOTIONS)
    assert min(Counter(turn.label for turn in turns if turn.label in EMOTIONS).values()) >= 80


def test_every_session_has_its_own_voices() -> None:
    turns = plan(DemoSettings(sessions=25, dialogues=1, turns=8))
    voices = {turn.speaker: turn.voice for turn in turns}
    assert len(voices) == len(set(voices.values())) == 50


def test_plan_is_a_function_of_its_settings() -> None:
    assert plan(SMALL) == plan(SMALL.model_copy())
    assert plan(SMALL) != plan(SMALL.model_copy(update={"seed": 4}))
    louder = plan(SMALL.model_copy(update={"overlap": 1.0, "speaker_style": 1.0, "bland": 0.9}))
    said = [(turn.id, turn.label, turn.phrase) for turn in plan(SMALL)]
    assert [(turn.id, turn.label, turn.phrase) for turn in louder] == said


@pytest.mark.parametrize(("own", "other"), [(0.5, 0.3), (0.4, 0.25), (0.7, 0.0), (0.0, 0.6)])
def test_emotions_carry_over_as_set(own: float, other: float) -> None:
    turns = plan(DemoSettings(dialogues=100, own=own, other=other))
    chance = (1 - own - other) / 4
    expected = (own + chance, other + chance, 2 * chance)
    assert carried(turns) == pytest.approx(expected, abs=0.02)


def test_without_own_and_other_neighbours_give_no_information() -> None:
    turns = plan(DemoSettings(dialogues=100, own=0, other=0))
    assert carried(turns) == pytest.approx((0.25, 0.25, 0.5), abs=0.02)


def test_prior_sets_the_classes_shares() -> None:
    turns = plan(DemoSettings(dialogues=100, own=0, other=0, prior=(4, 1, 3, 2)))
    shares = Counter(turn.emotion for turn in turns)
    found = [shares[emotion] / len(turns) for emotion in EMOTIONS]
    assert found == pytest.approx([0.4, 0.1, 0.3, 0.2], abs=0.02)


def test_text_is_independent_of_the_emotion() -> None:
    assert len(set(SENTENCES)) >= 40
    # No carry-over, because a chi-squared test needs independent rows.
    turns = plan(DemoSettings(dialogues=100, own=0, other=0))
    emotions, phrases = [turn.emotion for turn in turns], [turn.phrase for turn in turns]
    assert independence(emotions, phrases) > 0.01
    assert independence([turn.voice for turn in turns], phrases) > 0.01


def test_emotions_sound_different_and_overlap(long_plan: list[Turn]) -> None:
    def values(emotion: str, name: str) -> np.ndarray:
        return np.array([getattr(turn, name) for turn in long_plan if turn.emotion == emotion])

    assert values("ang", "level").mean() > values("neu", "level").mean() + 3
    assert values("hap", "pitch").mean() > values("neu", "pitch").mean() + 8
    assert values("hap", "pitch_range").mean() > values("ang", "pitch_range").mean() + 8
    assert values("sad", "rate").mean() < values("neu", "rate").mean() - 10
    for name in ("rate", "pitch", "pitch_range", "level"):
        assert values("sad", name).max() > values("hap", name).min()


def test_without_jitter_a_speaker_has_one_manner_for_each_emotion() -> None:
    turns = plan(DemoSettings(overlap=0, bland=0))
    ways = {(t.speaker, t.emotion): (t.rate, t.pitch, t.pitch_range, t.level) for t in turns}
    assert all(
        ways[t.speaker, t.emotion] == (t.rate, t.pitch, t.pitch_range, t.level) for t in turns
    )
    assert len(set(ways.values())) == len(ways)


@pytest.mark.parametrize(
    "wrong",
    [{"own": 0.7, "other": 0.4}, {"prior": (0, 0, 0, 0)}, {"sessions": 0}, {"no_such": 1}],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DemoSettings.model_validate(wrong)


def test_mixed_turns_have_a_half_of_another_emotion_and_change_nothing_else() -> None:
    settings = DemoSettings(dialogues=40, speaker_style=0.0, overlap=0.0, bland=0.0, mixed=0.4)
    turns, plain = plan(settings), plan(settings.model_copy(update={"mixed": 0.0}))
    assert all(turn.later is None for turn in plain)
    assert 0.35 < sum(turn.later is not None for turn in turns) / len(turns) < 0.45
    manners = ("rate", "pitch", "pitch_range", "level")
    first = 0
    for turn, same in zip(turns, plain, strict=True):
        assert (turn.id, turn.label, turn.emotion, turn.phrase) == (
            (same.id, same.label, same.emotion, same.phrase)
        )
        if turn.later is None:
            assert turn == same
            continue
        felt = [getattr(same, key) for key in manners]
        halves = [[getattr(half, key) for key in manners] for half in (turn, turn.later)]
        assert felt in halves  # one half is the unmixed manner
        assert halves[0] != halves[1]
        first += halves[0] == felt
    mixed = sum(turn.later is not None for turn in turns)
    assert 0.4 < first / mixed < 0.6


@needs_espeak
def test_a_mixed_turn_is_spoken_in_two_halves(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"mixed": 1.0, "overlap": 0.0, "bland": 0.0})
    make_demo_corpus(str(tmp_path / "mixed"), settings)
    checked = 0
    for turn in plan(settings):
        assert turn.later is not None
        if abs(turn.level - turn.later.level) < 8:  # words differ by some decibels anyway
            continue
        with wave.open(str(tmp_path / f"mixed/wav/{turn.session}/{turn.id}.wav")) as audio:
            samples = np.frombuffer(audio.readframes(audio.getnframes()), np.int16).astype(float)
        quarter = len(samples) // 4
        power = [np.mean(part**2) for part in (samples[:quarter], samples[-quarter:])]
        assert (power[0] > power[1]) == (turn.level > turn.later.level), turn.id
        checked += 1
    assert checked


@needs_espeak
def test_same_settings_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    make_demo_corpus(str(tmp_path / "again"), SMALL)
    assert contents(small) == contents(tmp_path / "again")
    make_demo_corpus(str(tmp_path / "other"), SMALL.model_copy(update={"seed": 4}))
    assert contents(small) != contents(tmp_path / "other")


@needs_espeak
def test_manifest_names_every_file(small: Path) -> None:
    with open(small / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == "id,file,speaker,emotion,session,dialogue,turn,gender,phrase"
    assert [row["id"] for row in rows] == [turn.id for turn in plan(SMALL)]
    assert [row["emotion"] for row in rows] == [turn.label for turn in plan(SMALL)]
    assert {row["file"] for row in rows} == {
        path.relative_to(small).as_posix() for path in small.rglob("*.wav")
    }
    assert all(Path(row["file"]).stem == row["id"] for row in rows)
    assert sorted(path.name for path in small.iterdir()) == ["manifest.csv", "settings.json", "wav"]
    stored = json.loads((small / "settings.json").read_text())
    del stored["demo_corpus"]
    assert DemoSettings.model_validate(stored) == SMALL


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(audio.readframes(audio.getnframes()), "<i2").astype(float)


@needs_espeak
def test_audio_is_16_khz_mono_speech_of_the_planned_loudness(small: Path) -> None:
    turns = plan(SMALL)
    signals = [samples(small / "wav" / turn.session / f"{turn.id}.wav") for turn in turns]
    for signal in signals:
        assert 0.5 < len(signal) / 16000 < 4
        assert 100 < np.abs(signal).max() < 32767
        assert np.count_nonzero(signal) > 0.9 * len(signal)  # no digital silence


@needs_espeak
def test_voices_differ(tmp_path: Path) -> None:
    from features.corpora.demo_speech import Espeak

    espeak = Espeak()
    spectra = []
    for voice in sorted({turn.voice for turn in plan(DemoSettings())}):
        signal = espeak.speak(SENTENCES[0], voice, 175, 50, 50).astype(float)
        power = np.abs(np.fft.rfft(signal, 1 << 17)) ** 2
        spectra.append(power[: 1 << 15].reshape(64, -1).mean(1))
    normed = np.log([spectrum / spectrum.sum() for spectrum in spectra])
    apart = np.abs(normed[:, None] - normed[None]).mean(2)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 0.2
    with pytest.raises(RuntimeError, match="no voice 'xx-nowhere'"):
        espeak.speak(SENTENCES[0], "xx-nowhere", 175, 50, 50)


@needs_espeak
def test_a_finished_corpus_is_kept_and_other_folders_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(small)
    monkeypatch.setattr(demo, "_speak", None)  # speaking would fail
    assert make_demo_corpus(str(small), SMALL) == str(small / "manifest.csv")
    with pytest.raises(FolderError, match="other settings"):
        make_demo_corpus(str(small), SMALL.model_copy(update={"seed": 9}))
    assert contents(small) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match="something else"):
        make_demo_corpus(str(tmp_path), SMALL)
    assert contents(tmp_path).keys() == {"notes.txt"}


@needs_espeak
def test_an_interruption_leaves_no_incomplete_corpus(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    target = tmp_path / "corpus"
    target.mkdir()  # an empty folder is accepted

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo_corpus(str(target), SMALL, stop)
    assert calls == [(1, 8), (2, 8)]
    assert list(tmp_path.iterdir()) == [target]
    assert not list(target.iterdir())
    make_demo_corpus(str(target), SMALL, lambda done, total: calls.append((done, total)))
    assert calls[2:] == [(number, 8) for number in range(1, 9)]


@needs_espeak
def test_a_failed_synthesis_is_a_dependency_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo.sys, "path", [])
    monkeypatch.setattr(demo, "find_spec", lambda name: object())
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(DependencyError, match=r"could not speak the demo corpus .*exit code"):
        make_demo_corpus(str(tmp_path / "corpus"), SMALL)
    assert not list(tmp_path.iterdir())


def test_missing_espeak_is_a_dependency_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"pip install ser-orchestrator\[demo\]"):
        make_demo_corpus(str(tmp_path / "corpus"), SMALL)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        StorageError, match=r"cannot write .*/file/corpus: (File exists|Not a directory)"
    ):
        make_demo_corpus(str(tmp_path / "file" / "corpus"), SMALL)
