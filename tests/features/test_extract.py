"""Extraction: it resumes, it is exact, and it names each failed utterance.

Tests of the storage's content extract in this process, because other processes start slowly.
"""

import dataclasses
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from features.errors import FeatureError, StorageError
from features.extract import EXTRACTION_VERSION, extract, extraction_hash, shards_folder
from features.extractor import Extractor, Status
from features.manifest import Manifest, normalise, read_manifest
from features.recordings import Recordings
from features.sets import EXTRACTED, FEATURES
from features.sets.emobase_lld45 import EmobaseConfig
from features.shards import read_index
from features.storage import Storage
from features.store import FeatureStore, check_errors
from tests.support.encoders import usable
from tests.support.extraction import CONFIG, here, run, samples_of
from tests.support.signals import tone


def corpus(root: Path, speakers: int = 3, each: int = 4) -> Manifest:
    """Noisy tones of increasing length; the order of ids is not the order of speakers."""
    rng = np.random.default_rng(0)
    names = [f"s{s}_u{u}" for u in range(each) for s in range(speakers)]
    for i, name in enumerate(names):
        samples = tone(0.2 + 0.05 * i) + rng.normal(size=len(tone(0.2 + 0.05 * i))) * 0.01
        soundfile.write(root / f"{name}.wav", samples, 16_000)
    return manifest_of(root, [f"{name}.wav" for name in names], [n[:2] for n in names])


def manifest_of(root: Path, files: list[str], speakers: list[str]) -> Manifest:
    columns = {"file": files, "speaker": speakers, "emotion": ["neu"] * len(files)}
    return Manifest(normalise(pa.table(columns)), str(root))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("speaker=*/*.parquet"))


def raw(store: FeatureStore, manifest: Manifest) -> np.ndarray:
    return store.load(manifest, EmobaseConfig(pool=1, normalize="none")).frames


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table, list]:
    """A folder with `audio` and `store`, the manifest's table, and the calls of `progress`."""
    folder = tmp_path_factory.mktemp("extracted")
    (folder / "audio").mkdir()
    manifest = corpus(folder / "audio")
    return folder, manifest.table, run(manifest, folder / "store")[1]


@pytest.fixture
def copy(extracted: tuple[Path, pa.Table, list], tmp_path: Path) -> Manifest:
    """The manifest of a copy that a test may change, beside its store; file times are the same."""
    shutil.copytree(extracted[0], tmp_path, dirs_exist_ok=True)
    old, new = (shards_folder(CONFIG, str(f / "audio")) for f in (extracted[0], tmp_path))
    (tmp_path / "store" / old).rename(tmp_path / "store" / new)
    return Manifest(extracted[1], str(tmp_path / "audio"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    return tmp_path / "audio"


class TestExtraction:
    def test_shards_that_a_worker_wrote_elsewhere_are_not_in_the_store(
        self, root: Path, tmp_path: Path
    ) -> None:
        """As a node of a cluster does if the storage is a folder of its own disk."""
        manifest = corpus(root, speakers=1, each=2)

        def elsewhere(extractor: Extractor, batches: list, workers: int | None) -> Iterator[Status]:
            extractor.shards = Storage.open(str(tmp_path / "other"))
            return here(extractor, batches)

        store, _ = run(manifest, tmp_path / "store", compute=elsewhere)
        reasons = [reason for *_, reason in store.errors()]
        assert reasons == ["its features are not in the store"] * 2
        assert shards(tmp_path / "other")

    def test_values_are_those_of_the_file(
        self, extracted: tuple[Path, pa.Table, list], copy: Manifest, tmp_path: Path
    ) -> None:
        calls = extracted[2]
        assert [call[0] for call in calls] == list(range(1, 13))
        assert {call[1:] for call in calls} == {(12, None)}
        store, calls = run(copy, tmp_path / "store")
        assert calls == []
        features = store.load(copy, EmobaseConfig(pool=1, normalize="none"))
        assert features.ids == copy.table["id"].to_pylist()
        assert features.errors == store.errors() == []
        for i, name in enumerate(features.ids):
            want = CONFIG.load().extract(samples_of(copy.root, f"{name}.wav"), 16_000)
            got = features.frames[features.offsets[i] : features.offsets[i + 1]]
            np.testing.assert_array_equal(got, want)

    def test_the_division_of_the_work_changes_no_bit(self, copy: Manifest, tmp_path: Path) -> None:
        one, _ = run(copy, tmp_path / "store")
        half = Manifest(copy.table.slice(5, 4), copy.root)
        run(half, tmp_path / "two", compute=here)
        two, calls = run(copy, tmp_path / "two")
        assert len(calls) == 8
        assert len(shards(tmp_path / "two")) > len(shards(tmp_path / "store"))
        a, b = one.load(copy, CONFIG), two.load(copy, CONFIG)
        np.testing.assert_array_equal(a.frames, b.frames)
        assert a.fingerprint == b.fingerprint

    def test_lost_and_damaged_shards_are_extracted_again(
        self, copy: Manifest, tmp_path: Path
    ) -> None:
        first, _ = run(copy, tmp_path / "store")
        want = raw(first, copy)
        lost, cut, torn = shards(tmp_path / "store")
        lost.unlink()  # as if the run had been killed before
        cut.write_bytes(cut.read_bytes()[:-100])
        torn.write_bytes(b"PAR1" + b"\0" * 500 + b"PAR1")
        second, calls = run(copy, tmp_path / "store", compute=here)
        assert [call[1] for call in calls] == [12] * 12
        np.testing.assert_array_equal(raw(second, copy), want)
        assert len(list((tmp_path / "store").rglob("*.damaged-*"))) == 2

    def test_a_flipped_bit_is_detected(self, copy: Manifest, tmp_path: Path) -> None:
        first, _ = run(copy, tmp_path / "store")
        want = raw(first, copy)

        def flip() -> None:
            shard = shards(tmp_path / "store")[1]
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1  # inside the values
            shard.write_bytes(bytes(data))

        flip()
        second, calls = run(copy, tmp_path / "store", compute=here)
        assert len(calls) == 4
        np.testing.assert_array_equal(raw(second, copy), want)
        flip()  # while the store is open
        with pytest.raises(FeatureError, match="damaged: run the extraction again"):
            raw(second, copy)
        third, calls = run(copy, tmp_path / "store", compute=here)
        assert len(calls) == 4
        np.testing.assert_array_equal(raw(third, copy), want)

    def test_a_changed_file_is_extracted_again(self, copy: Manifest, tmp_path: Path) -> None:
        first, _ = run(copy, tmp_path / "store")
        changed = Path(copy.root) / "s0_u0.wav"
        soundfile.write(changed, tone(0.9), 16_000)
        os.utime(Path(copy.root) / "s0_u1.wav", (1, 1))
        second, calls = run(copy, tmp_path / "store", compute=here)
        assert len(calls) == 2
        part = Manifest(copy.table.slice(1), copy.root)
        assert copy.table["id"][0].as_py() == "s0_u0"
        before, after = (store.load(part, CONFIG) for store in (first, second))
        assert before.fingerprint == after.fingerprint  # the content is the same
        np.testing.assert_array_equal(before.frames, after.frames)
        before, after = (store.load(copy, CONFIG) for store in (first, second))
        assert before.fingerprint != after.fingerprint
        want = CONFIG.load().extract(samples_of(copy.root, changed.name), 16_000)
        np.testing.assert_array_equal(raw(second, copy)[: len(want)], want)

    def test_the_fingerprint_does_not_depend_on_the_path(
        self, copy: Manifest, tmp_path: Path
    ) -> None:
        first, _ = run(copy, tmp_path / "store")
        moved = Path(copy.root).rename(tmp_path / "elsewhere")
        there = Manifest(copy.table, str(moved))
        second, calls = run(there, tmp_path / "store", compute=here)
        assert len(calls) == 12
        assert first.load(copy, CONFIG).fingerprint == second.load(copy, CONFIG).fingerprint

    def test_corpora_with_equal_names_sizes_and_times_are_separate(
        self, copy: Manifest, tmp_path: Path
    ) -> None:
        louder = tmp_path / "louder"
        shutil.copytree(copy.root, louder)
        for path in louder.iterdir():
            before = path.stat()
            samples, rate = soundfile.read(path)
            soundfile.write(path, samples * 2, rate)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert path.stat().st_size == before.st_size
        first, _ = run(copy, tmp_path / "store")
        other = Manifest(copy.table, str(louder))
        second, calls = run(other, tmp_path / "store", compute=here)
        assert len(calls) == 12
        assert not np.array_equal(raw(first, copy), raw(second, copy))

    def test_every_bad_file_is_reported_with_its_reason(
        self, root: Path, tmp_path: Path, bad_files: dict[str, tuple[bytes | None, str]]
    ) -> None:
        bad = bad_files
        for name, (data, _) in bad.items():
            if data is not None:
                (root / name).write_bytes(data)
        soundfile.write(root / "good.wav", tone(), 16_000)
        files = [*bad, "good.wav", "good.wav"]
        columns = {
            "file": files,
            "speaker": ["s"] * len(files),
            "emotion": [None] * len(files),
            "start": [None] * len(bad) + [0.5, 0.5],
            "end": [None] * len(bad) + [1.0, 1.5],
        }
        manifest = Manifest(normalise(pa.table(columns)), str(root))
        store, calls = run(manifest, tmp_path / "store")
        reasons = {file: reason for _, file, reason in store.errors()}
        assert len(store.errors()) == len(bad) + 1
        for name, (_, words) in bad.items():
            assert words in reasons[name]
        assert "wrong length" in reasons["good.wav"]
        assert sum(call[2] is not None for call in calls) == len(bad) + 1
        features = store.load(manifest, CONFIG)
        assert features.ids == ["good_0.500_1.000"]
        assert features.errors == store.errors()
        with pytest.raises(FeatureError) as caught:
            check_errors(store, CONFIG)
        for name, (_, words) in bad.items():
            assert any(name in line and words in line for line in str(caught.value).splitlines())
        check_errors(store, EmobaseConfig(max_errors=len(bad) + 1))
        # Only the missing file is tried again.
        _, calls = run(manifest, tmp_path / "store", compute=here)
        assert calls == [(1, 1, "missing: missing")]
        soundfile.write(root / "missing.wav", tone(), 16_000)
        store, calls = run(manifest, tmp_path / "store", compute=here)
        assert calls == [(1, 1, None)]
        assert len(store.errors()) == len(bad)

    def test_files_in_any_place(self, root: Path, tmp_path: Path) -> None:
        for name in ("audio/a.wav", "b.wav", "c.wav"):
            soundfile.write(tmp_path / name, tone(), 16_000)
        (root / "dead.wav").symlink_to("../.git/annex/objects/x")
        (root / "m.csv").write_text(
            f"file,speaker,emotion\na.wav,s,x\n../b.wav,s,x\n{tmp_path}/c.wav,t,x\n"
            f"dead.wav,s,x\nA.WAV,s,x\n{tmp_path}/gone.wav,t,x\n"
        )
        manifest = read_manifest(str(root / "m.csv"))
        store, calls = run(manifest, tmp_path / "store", compute=here)
        features = store.load(manifest, EmobaseConfig(normalize="none"))
        assert features.ids == ["a", "b", "c"]
        frames = np.split(features.frames, features.offsets[1:-1])
        assert np.array_equal(frames[0], frames[1])
        assert np.array_equal(frames[0], frames[2])
        reasons = {name: reason for name, _, reason in features.errors}
        assert "`git annex get`" in reasons["dead"]
        assert reasons["A"] == (
            "missing: written in another upper and lower case than on the disk: write a.wav"
        )
        assert reasons["gone"] == "missing"
        failed = [f"{name}: {reason}" for name, reason in reasons.items()]
        assert [call[2] for call in calls] == [*failed, None, None, None]
        _, calls = run(manifest, tmp_path / "store", compute=here)
        assert [call[2] for call in calls] == failed  # nothing is extracted again
        corpus = dataclasses.replace(manifest, own=False)
        with pytest.raises(ValueError, match="not a name inside"):
            run(corpus, tmp_path / "store", compute=here)

    def test_segments_of_one_file(self, root: Path, tmp_path: Path) -> None:
        soundfile.write(root / "long.wav", tone(70), 16_000)
        columns = {
            "file": ["long.wav"] * 4,
            "speaker": ["a", "b", "a", "b/../c"],
            "emotion": [None] * 4,
            "start": [0.0, 1.0, 2.0, None],
            "end": [1.0, 2.0, 3.5, None],
        }
        manifest = Manifest(normalise(pa.table(columns)), str(root))
        store, _ = run(manifest, tmp_path / "store", compute=here)
        features = store.load(manifest, EmobaseConfig(pool=1))
        assert np.diff(features.offsets).tolist() == [99, 99, 149, 2500]
        assert features.cut == {"long_0.000_end": 6999}
        assert store.load(manifest, EmobaseConfig(max_frames=99)).cut == {
            "long_2.000_3.500": 149,
            "long_0.000_end": 6999,
        }
        assert store.load(manifest, EmobaseConfig(max_frames=6999)).cut == {}
        assert np.diff(store.load(manifest, CONFIG).offsets).tolist() == [20, 20, 30, 500]
        assert {path.parent.parent.parent.parent for path in shards(tmp_path)} == {
            tmp_path / "store"
        }

    def test_a_storage_that_cannot_be_written_is_a_storage_error(
        self, root: Path, tmp_path: Path
    ) -> None:
        soundfile.write(root / "a.wav", tone(), 16_000)
        folder = tmp_path / "store" / shards_folder(CONFIG, str(root))
        folder.mkdir(parents=True)
        (folder / "speaker=s").write_bytes(b"a file instead of a folder")
        storage = dataclasses.replace(Storage.open(str(tmp_path / "store")), waits=())
        with pytest.raises(StorageError, match=r"cannot write .*speaker=s.*: File exists"):
            extract(manifest_of(root, ["a.wav"], ["s"]), CONFIG, storage, compute=here)

    def test_real_speech(self, nemo: Path, tmp_path: Path) -> None:
        manifest = read_manifest(str(nemo / "manifest.csv"))
        manifest = Manifest(manifest.table.slice(0, 12), manifest.root)
        store, _ = run(manifest, tmp_path / "store")
        check_errors(store, CONFIG)
        features = store.load(manifest, CONFIG)
        assert len(features.ids) == 12
        assert np.isfinite(features.frames).all()
        assert np.abs(features.frames).max() < 50


def test_a_second_run_starts_nothing(copy: Manifest, tmp_path: Path) -> None:
    first, _ = run(copy, tmp_path / "store")
    pq.write_table(copy.table, f"{copy.root}/manifest.parquet")
    code = f"""
import sys
from features.sets.emobase_lld45 import EmobaseConfig
from features.extract import extract
from features.manifest import read_manifest
from features.storage import Storage
manifest = read_manifest({copy.root + "/manifest.parquet"!r})
store = extract(manifest, EmobaseConfig(), Storage.open({str(tmp_path / "store")!r}))
assert not {{"ray", "opensmile", "joblib"}} & set(sys.modules)
print(store.load(manifest, EmobaseConfig()).fingerprint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [first.load(copy, CONFIG).fingerprint]


@pytest.mark.usefixtures("no_ffmpeg")
def test_a_missing_decoder_is_no_fault_of_the_file(root: Path, tmp_path: Path) -> None:
    (root / "a.m4a").write_bytes(
        struct.pack(">I", 16) + b"ftypM4A \0\0\0\0" + b"\0\0\0\x08moov" + b"\0\0\0\x09mdat\0"
    )
    (root / "b.m4a").write_bytes(struct.pack(">I", 16) + b"ftypM4A \0\0\0\0")
    shards_storage = Storage.open(str(tmp_path / "store"))
    tasks = [
        {"id": f"{n}", "file": f"{n}.m4a", "start": None, "end": None, "speaker": "s", "source": n}
        for n in "ab"
    ]
    status = Extractor(CONFIG, Recordings.open(str(root)), shards_storage)(tasks)
    assert [row.entry is not None for row in status] == [False, True]
    assert "MP4 or M4A needs ffmpeg, which is not installed" in str(status[0].error)
    assert "truncated" in str(status[1].error)
    assert [key.file for key in read_index(shards_storage)] == ["b.m4a"]


def test_the_extraction_hash_depends_on_extracted_values_only() -> None:
    assert extraction_hash(CONFIG) == extraction_hash(EmobaseConfig(pool=1, normalize="none"))
    hashes = {extraction_hash(usable(name)) for name in FEATURES}
    assert len(hashes) == len(FEATURES)
    assert len(extraction_hash(CONFIG)) == 16


class WidthConfig(EmobaseConfig):
    """A set with an option that decides its values, and one that a search may set besides."""

    width: Annotated[int, EXTRACTED] = 3
    pool: int = 2


def test_an_option_that_decides_values_is_part_of_the_hash() -> None:
    assert WidthConfig().extracted() == {"width": 3}
    assert extraction_hash(WidthConfig()) != extraction_hash(CONFIG)
    assert extraction_hash(WidthConfig()) != extraction_hash(WidthConfig(width=4))
    assert extraction_hash(WidthConfig()) == extraction_hash(WidthConfig(pool=3, max_errors=1))


def test_the_hash_of_a_set_without_such_options_has_no_trace_of_them() -> None:
    """Features that earlier versions extracted stay valid."""
    for name in FEATURES:
        if not (config := usable(name)).extracted():
            parts = [config.name, *config.load().identity(), str(EXTRACTION_VERSION)]
            digest = hashlib.sha1("\0".join(parts).encode()).hexdigest()
            assert extraction_hash(config) == digest[:16]
