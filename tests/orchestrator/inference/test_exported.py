"""An export gives the same posteriors without Ray, and hostile folders end in one line."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from features.sets.emobase_lld45 import CONFIG_FILE
from features.statistics import Statistics
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.errors import ConfigError, FeatureError, LedgerError
from orchestrator.inference.exported import MODEL, WEIGHTS, read_model, write_model
from orchestrator.inference.model import Description, Member, SpeechModel, load_model
from orchestrator.ledger.seals import seal, sha256
from tests.support.training import Touch, small

CLASSES = ("ang", "hap", "neu", "sad")
RATE = 16_000


def speech_model(
    name: str, normalize: str | None = None, features: dict[str, str] | None = None
) -> SpeechModel:
    """Two networks with random weights, and a typical speaker of random numbers."""
    raw: dict[str, Any] = {"name": "toy", "corpus": {"root": "x", "classes": CLASSES}}
    raw |= {"model": {"name": name, **small(name)}}
    if normalize:
        raw["features"] = {"normalize": normalize}
    if features:
        raw["features"] = features
    config = parse(raw)
    described = Description("toy", "0123456789", config.model, config.features, CLASSES, 0)
    torch.manual_seed(0)
    members = {fold: Member(described.network(3), 3) for fold in ("a", "b")}
    rng, dims = np.random.default_rng(0), config.features.load().dims
    typical = {
        fold: Statistics(0, rng.normal(size=dims), rng.uniform(1, 2, dims)) for fold in members
    }
    return SpeechModel(described, members, lambda: typical).eval()


@pytest.fixture
def samples() -> np.ndarray:
    """A second of noise."""
    return np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "normalize"),
    [("bigru_att", "speaker"), ("acrnn_r", "channel"), ("mdnn", "train"), ("adrnn", "none")],
)
def test_an_export_gives_the_same_posteriors(
    name: str, normalize: str, tmp_path: Path, samples: np.ndarray
) -> None:
    model = speech_model(name, normalize)
    write_model(model, Storage.open(str(tmp_path)))
    loaded = load_model(str(tmp_path))
    assert isinstance(loaded, SpeechModel)
    assert loaded.predict(samples, RATE) == model.predict(samples, RATE)
    assert sum(loaded.predict(samples, RATE).values()) == pytest.approx(1)
    one = load_model(str(tmp_path), fold="b")
    assert one.predict(samples, RATE) != loaded.predict(samples, RATE)


def test_it_predicts_where_ray_and_optuna_cannot_be_imported(
    tmp_path: Path, samples: np.ndarray
) -> None:
    model = speech_model("bigru_att")
    write_model(model, Storage.open(str(tmp_path)))
    np.save(tmp_path / "samples.npy", samples)
    program = (
        "import sys, json\n"
        "for name in ('ray', 'optuna'): sys.modules[name] = None\n"
        "import numpy, orchestrator\n"
        f"model = orchestrator.load_model({str(tmp_path)!r})\n"
        f"samples = numpy.load({str(tmp_path / 'samples.npy')!r})\n"
        "print(json.dumps(model.predict(samples, 16000)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(model.predict(samples, RATE), abs=1e-6)


Change = Callable[[Path, dict[str, Any]], None]


def _record(folder: Path, record: dict[str, Any]) -> None:
    (folder / MODEL).write_bytes(seal(record))


def _changed(**values: Any) -> Change:
    return lambda folder, record: _record(folder, {**record, **values})


def _section(section: str, **values: Any) -> Change:
    return lambda folder, record: _record(
        folder, {**record, section: {**record[section], **values}}
    )


def _text(change: Callable[[bytes], bytes]) -> Change:
    def apply(folder: Path, record: dict[str, Any]) -> None:
        (folder / MODEL).write_bytes(change((folder / MODEL).read_bytes()))

    return apply


def _weights(folder: Path, record: dict[str, Any], data: bytes) -> None:
    """Other weights, with the right digest."""
    (folder / WEIGHTS).write_bytes(data)
    _record(folder, {**record, "weights": sha256(data), "size": len(data)})


def _tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    def apply(folder: Path, record: dict[str, Any]) -> None:
        _weights(folder, record, save(change(load((folder / WEIGHTS).read_bytes()))))

    return apply


def _header(header: bytes, length: int | None = None) -> Change:
    size = len(header) if length is None else length
    return lambda folder, record: _weights(folder, record, struct.pack("<Q", size) + header)


def _pickle(folder: Path, record: dict[str, Any]) -> None:
    torch.save({"weights": Touch(folder / "touched")}, folder / "pickled")
    _weights(folder, record, (folder / "pickled").read_bytes())


def _link(name: str, target: str) -> Change:
    def apply(folder: Path, record: dict[str, Any]) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return apply


def _fifo(folder: Path, record: dict[str, Any]) -> None:
    (folder / MODEL).unlink()
    os.mkfifo(folder / MODEL)


def _first(tensors: dict[str, torch.Tensor], change: Any) -> dict[str, torch.Tensor]:
    name = min(tensors)
    return {**tensors, name: change(tensors[name])}


HUGE = b'{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}    '
HOSTILE: dict[str, Change] = {
    "a pickle as weights": _pickle,
    "a path as the model": _section("model", name="../../../etc/passwd"),
    "a path as the feature set": _section("features", name="/dev/zero"),
    "a key that names another file": _changed(file="../../secret"),
    "another digest": _changed(weights="0" * 64),
    "a broken seal": _text(lambda data: data.replace(b'"seed":0', b'"seed":1')),
    "a size beyond all memory": _section("model", hidden_size=2**40),
    "a network larger than its weights": _section("model", hidden_size=60_000),
    "a negative size": _section("model", hidden_size=-8),
    "a tensor with a huge shape": _header(HUGE),
    "a header longer than the file": _header(b"{}", 2**62),
    "a link to a device": _link(WEIGHTS, "/dev/zero"),
    "a link to another file": _link(MODEL, "/etc/passwd"),
    "a pipe": _fifo,
    "a key twice": _text(lambda data: data.replace(b'"seed":0', b'"seed":0,"seed":0')),
    "NaN in the record": _text(lambda data: data.replace(b'"seed":0', b'"seed":NaN')),
    "deep nesting": _text(lambda data: b"[" * 200_000),
    "a number of many digits": _text(lambda data: b'{"sha256":' + b"9" * 100_000 + b"}"),
    "a large record": _text(lambda data: data + b" " * 2**20),
    "NaN in the weights": _tensors(lambda t: _first(t, lambda x: x * float("nan"))),
    "another type": _tensors(lambda t: _first(t, lambda x: x.double())),
    "a missing tensor": _tensors(lambda t: {key: t[key] for key in sorted(t)[1:]}),
    "an unknown tensor": _tensors(lambda t: {**t, "\x1b[2J\n": torch.zeros(1)}),
    "a negative deviation": _tensors(lambda t: {**t, "0:deviation": -t["0:deviation"]}),
    "a member twice": _changed(members=[{"name": "a", "speakers": 3}] * 2),
    "no members": _changed(members=[]),
    "control characters in a key": _section("model", **{"\x1b[2J\nx": 1}),
    "bytes that are no text": _text(lambda data: b"\xff\xfe" + data),
    "another format": _changed(format=2),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("exported")
    write_model(speech_model("bigru_att"), Storage.open(str(folder)))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_ends_in_one_line(
    kind: str, exported: dict[str, bytes], tmp_path: Path
) -> None:
    for name, data in exported.items():
        (tmp_path / name).write_bytes(data)
    record = json.loads(exported[MODEL])
    del record["sha256"]
    assert read_model(Storage.open(str(tmp_path)))
    HOSTILE[kind](tmp_path, record)
    with pytest.raises(LedgerError) as caught:
        read_model(Storage.open(str(tmp_path)))
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 600
    assert not (tmp_path / "touched").exists()


def test_the_onnx_file_gives_the_posteriors_of_pytorch() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from orchestrator.inference.onnx_file import TOLERANCE, Posteriors, names, onnx_bytes

    rng = np.random.default_rng(2)
    for name in ("iaan", "ssa_crnn_r", "linear_svm"):
        model = speech_model(name, "train")
        session = onnxruntime.InferenceSession(
            onnx_bytes(model), providers=["CPUExecutionProvider"]
        )
        dims = model.description.features.load().dims
        for batch, time in ((1, 2), (3, 20)):  # not those of the export
            time = {"linear_svm": 1, "ssa_crnn_r": 300}.get(name, time)
            feeds = {}
            for key in names(model):
                if key.endswith("lengths"):
                    feeds[key] = np.asarray([time, *rng.integers(1, time + 1, batch - 1)])
                else:
                    feeds[key] = rng.normal(size=(batch, time, dims)).astype(np.float32)
            with torch.no_grad():
                inputs = [torch.from_numpy(feeds[key]) for key in names(model)]
                expected = Posteriors(model)(*inputs)
            np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=TOLERANCE)


def test_a_path_of_the_folder_is_never_opened(tmp_path: Path, samples: np.ndarray) -> None:
    mine, theirs = tmp_path / "mine.conf", tmp_path / "theirs.conf"
    text = CONFIG_FILE.read_text(encoding="utf-8").replace("dmLevel = all\n", "dmLevel = mine\n")
    theirs.write_text(text)
    options = {"feature_set": str(theirs), "level": "low_level_descriptors"}
    model = speech_model("bigru_att", features={"name": "opensmile", **options})
    folder = tmp_path / "exported"
    write_model(model, Storage.open(str(folder)))
    expected = model.predict(samples, RATE)
    theirs.unlink()
    os.mkfifo(theirs)  # opening it would block for ever
    with pytest.raises(ConfigError, match=r"feature_set names a file .* is not opened") as caught:
        load_model(str(folder))
    assert str(caught.value).isprintable()
    mine.write_text(text)
    loaded = load_model(str(folder), features={"feature_set": str(mine)})
    assert loaded.predict(samples, RATE) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigError, match=r"no such option that names files\. Use feature_set"):
        load_model(str(folder), features={"feature_set": str(mine), "level": "functionals"})
    with pytest.raises(FeatureError, match=r"features\.feature_set: .*no file"):
        load_model(str(folder), features={"feature_set": str(tmp_path / "none.conf")})
