"""Frames in a file: the bytes of the array in memory, whatever happens to the builder or the file.

The store holds invented values. `FeatureStore.load` is checked in tests/features/sets.
"""

import copy
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import cache
from features.cache import HEADER, CachedFrames, folder_of
from features.errors import CacheError, FeatureError
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.sets.emobase_lld45 import EmobaseConfig
from features.sets.logmel3d import LogMelConfig
from tests.support.stores import SPEAKERS, made_store

LIMIT = 10**9
LOGMEL = LogMelConfig(normalize="band")


def cached(
    tmp_path: Path, config: FeatureConfig = LOGMEL, limit: int = LIMIT, seed: int = 0
) -> tuple[CachedFrames, np.ndarray]:
    """Frames in the folder `cache`, and the same frames in memory."""
    store, manifest = made_store(tmp_path / f"store-{seed}", config, seed)
    frames = CachedFrames(store.layout(manifest, config).source, str(tmp_path / "cache"), limit)
    return frames, store.load(manifest, config).frames


def built(frames: CachedFrames) -> int:
    """Open the file. Returns the number of utterances that were written for that."""
    calls: list[tuple[int, int]] = []
    frames.array(lambda *counts: calls.append(counts))
    return len(calls)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    "config",
    [
        LogMelConfig(normalize="channel"),
        LOGMEL,
        LogMelConfig(normalize="none"),
        EmobaseConfig(pool=5, max_frames=20),
    ],
    ids=["channel", "band", "none", "pooled and cut"],
)
def test_a_file_has_the_bits_of_the_array_in_memory(config: FeatureConfig, tmp_path: Path) -> None:
    frames, expected = cached(tmp_path, config)
    assert frames.shape == expected.shape
    assert frames.nbytes == expected.nbytes
    assert not (tmp_path / "cache").exists()  # nothing is built before the first read
    assert built(frames) == 4 * SPEAKERS
    assert np.asarray(frames).tobytes() == expected.tobytes()
    assert frames[3:7].tobytes() == expected[3:7].tobytes()
    assert not frames.array().flags.writeable
    (file,) = files(tmp_path)
    assert file.stat().st_size == HEADER + expected.nbytes
    assert np.fromfile(file, "<f4", offset=HEADER).tobytes() == expected.tobytes()


def test_a_pickle_has_no_frames_and_opens_the_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LARGE", 0)
    frames, expected = cached(tmp_path)
    built(frames)
    data = pickle.dumps(frames)
    assert len(data) < expected.nbytes / 2
    other = pickle.loads(data)  # noqa: S301
    assert built(other) == 0
    other.release()  # pages come back when they are read
    np.testing.assert_array_equal(other, expected)


def test_the_same_frames_have_one_file_and_others_another_file(tmp_path: Path) -> None:
    frames, _ = cached(tmp_path)
    built(frames)
    store, manifest = made_store(tmp_path / "copy", LOGMEL)  # elsewhere, with the same bytes
    source = store.layout(manifest, LOGMEL).source
    assert built(CachedFrames(source, str(tmp_path / "cache"), LIMIT)) == 0
    part = Manifest(manifest.table.slice(0, 11), manifest.root)
    others = [
        store.layout(part, LOGMEL).source,
        store.layout(manifest, LogMelConfig(normalize="channel")).source,
        cached(tmp_path, seed=1)[0].source,
    ]
    for number, other in enumerate(others, start=2):
        assert built(CachedFrames(other, str(tmp_path / "cache"), LIMIT)) > 0
        assert len(files(tmp_path)) == number


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 4)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0" * 4)


def blank(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def nest(file: Path) -> None:
    file.write_bytes(b"[" * file.stat().st_size)


def change_a_value(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)


def change(key: str, value: Any) -> Callable[[Path], None]:
    def in_header(file: Path) -> None:
        data, stat = file.read_bytes(), file.stat()
        header = json.loads(data[:HEADER]) | {key: value}
        file.write_bytes(json.dumps(header).encode().ljust(HEADER) + data[HEADER:])
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return in_header


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lengthen,
        blank,
        nest,
        change_a_value,
        change("identity", "0" * 64),
        change("shape", [1, 2]),
    ],
    ids=["cut", "longer", "zeros", "nested", "another value", "another identity", "another shape"],
)
def test_a_damaged_file_is_built_again(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames, expected = cached(tmp_path)
    built(frames)
    (file,) = files(tmp_path)
    damage(file)
    again = copy.copy(frames)  # as in another process
    assert built(again) == 4 * SPEAKERS
    np.testing.assert_array_equal(again, expected)
    assert f"{file} is built again" in caplog.text
    assert files(tmp_path) == [file]


def test_a_copy_of_a_file_is_used_after_its_frames_were_checked(tmp_path: Path) -> None:
    frames, expected = cached(tmp_path)
    built(frames)
    (file,) = files(tmp_path)
    os.utime(file, (1, 1))
    again = copy.copy(frames)  # as in another process
    assert built(again) == 0
    np.testing.assert_array_equal(again, expected)


BUILD = """
import os, pickle, signal, sys
from pathlib import Path
frames = pickle.loads(Path(sys.argv[1]).read_bytes())
calls = 0
def progress(done, total):
    global calls
    calls += 1
    if sys.argv[2] == "kill" and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
frames.array(progress)
print(calls)
"""


def builder(frames: CachedFrames, folder: Path, how: str) -> subprocess.Popen[str]:
    """A process that builds the file, and prints how many utterances it has written."""
    (folder / "frames.pickle").write_bytes(pickle.dumps(frames))
    command = [sys.executable, "-c", BUILD, str(folder / "frames.pickle"), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_builder_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    """Afterwards two processes build at once: one writes, the other waits and reads."""
    frames, expected = cached(tmp_path)
    assert builder(frames, tmp_path, "kill").wait() == -signal.SIGKILL
    assert [file.suffix for file in files(tmp_path)] == [".part"]
    both = [builder(frames, tmp_path, "build") for _ in range(2)]
    written = [int(process.communicate()[0]) for process in both]
    assert sorted(written) == [0, 4 * SPEAKERS]
    assert [file.suffix for file in files(tmp_path)] == [".f32"]
    assert built(frames) == 0
    np.testing.assert_array_equal(frames, expected)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may be longer, as if the disk was full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("reserved", [True, False], ids=["reserved", "not reserved"])
def test_a_full_disk_gives_one_line_and_leaves_no_file(
    reserved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reserved:  # as on macOS
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    frames, expected = cached(tmp_path)
    with largest_file(40_000), pytest.raises(CacheError, match=r"^cluster\.cache: .*too large"):
        frames.array()
    assert files(tmp_path) == []
    assert built(frames) == 4 * SPEAKERS
    np.testing.assert_array_equal(frames, expected)


def test_a_disk_with_too_little_room_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "KEPT_FREE", 2**62)
    frames, _ = cached(tmp_path)
    needs = r"^cluster\.cache: the features need 0\.\d MB in .*its disk has 0\.0 MB for them"
    with pytest.raises(CacheError, match=needs):
        frames.array()
    assert files(tmp_path) == []


def test_unused_files_make_room_and_used_files_stay(tmp_path: Path) -> None:
    """There is room for two files."""
    limit = 2 * (HEADER + cached(tmp_path)[0].nbytes)
    frames = [cached(tmp_path, limit=limit, seed=seed)[0] for seed in range(4)]
    built(frames[0])
    built(frames[1])
    (tmp_path / "cache" / "frames-killed.part").write_bytes(b"0" * 100)
    with pytest.raises(
        CacheError, match=r"^cluster\.cache_gb: .* of which files in use take 0\.2 MB"
    ):
        frames[2].array()
    assert len(files(tmp_path)) == 2
    (oldest,) = [
        f for f in files(tmp_path) if f.stem == f"frames-{frames[0].source.identity()[:32]}"
    ]
    os.utime(oldest, (1, oldest.stat().st_mtime))
    used_again, unused = frames[0], frames.pop(1)
    expected = np.array(used_again)
    del unused  # its process has ended
    built(frames[1])
    assert len(files(tmp_path)) == 2
    assert oldest in files(tmp_path)
    np.testing.assert_array_equal(used_again, expected)


def test_a_file_that_no_process_uses_longest_is_removed_first(tmp_path: Path) -> None:
    limit = 2 * (HEADER + cached(tmp_path)[0].nbytes)
    names = []
    for seed in range(3):
        frames, _ = cached(tmp_path, limit=limit, seed=seed)
        built(frames)
        names.append(f"frames-{frames.source.identity()[:32]}.f32")
        os.utime(tmp_path / "cache" / names[-1], (seed + 1, 1))
        del frames
    assert [file.name for file in files(tmp_path)] == sorted(names[1:])


def test_a_damaged_shard_ends_the_build_and_leaves_no_file(tmp_path: Path) -> None:
    frames, _ = cached(tmp_path)
    shard = sorted((tmp_path / "store-0").rglob("*.parquet"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(FeatureError, match="is damaged: run the extraction again"):
        frames.array()
    assert files(tmp_path) == []


def test_the_folder_for_temporary_files_is_used_only_if_it_is_the_user_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = folder_of(None)
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder_of(None) == folder
    folder.chmod(0o770)
    with pytest.raises(CacheError, match="is not a folder that only you can write"):
        folder_of(None)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CacheError, match="is not a folder that only you can write"):
        folder_of(None)


def test_a_folder_that_is_a_file_is_refused_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    frames, _ = cached(tmp_path)
    with pytest.raises(CacheError, match=rf"^cluster\.cache: cannot keep features in {tmp_path}"):
        frames.array()
