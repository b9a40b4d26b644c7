"""An export gives the same posteriors without Ray, and hostile folders end in one line."""

import json
import os
import re
import struct
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from features.sets.emobase_lld45 import CONFIG_FILE
from features.storage import Storage
from orchestrator.errors import ConfigError, FeatureError, LedgerError
from orchestrator.inference.exported import MODEL, WEIGHTS, read_model, write_model
from orchestrator.inference.model import Member, SpeechModel, load_model
from orchestrator.ledger.seals import seal, sha256
from ser_models import MODELS
from ser_models.linear_svm import SupportVectorMachines
from ser_models.mean_pool import MeanPool
from ser_models.sequences import Output, Padded
from tests.support.encoders import shared_encoder
from tests.support.small_sweep import Sweeps
from tests.support.speech_models import CLASSES, speech_model
from tests.support.training import Touch

RATE = 16_000


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


def environment(folder: Path, without: tuple[str, ...]) -> Path:
    """A virtual environment with links to all packages of this one except some; its Python."""
    venv.create(folder, symlinks=True)
    there = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    for path in {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}:
        for entry in path.iterdir():
            if re.split(r"[-.]", entry.name.lower())[0] not in without:
                (there / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="links the packages of an environment")
def test_an_export_predicts_without_ray_and_optuna(
    sweeps: Sweeps, tmp_path: Path, samples: np.ndarray
) -> None:
    """In a process of an environment in which the two are not installed."""
    model = load_model(str(sweeps("iaan")[0]))
    folder = tmp_path / "exported"
    write_model(model, Storage.open(str(folder)))
    np.save(tmp_path / "samples.npy", samples)
    program = (
        "import sys, json\n"
        "from importlib.util import find_spec\n"
        "import numpy, orchestrator\n"
        f"model = orchestrator.load_model({str(folder)!r})\n"
        f"samples = numpy.load({str(tmp_path / 'samples.npy')!r})\n"
        "print(json.dumps(model.predict(samples, 16000)))\n"
        "names = ['ray', 'optuna', 'torch', 'opensmile']\n"
        "print(json.dumps([name for name in names if find_spec(name)]))\n"
    )
    python = environment(tmp_path / "environment", without=("ray", "optuna"))
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    posteriors, installed = map(json.loads, done.stdout.splitlines())
    assert posteriors == pytest.approx(model.predict(samples, RATE), abs=1e-6)
    assert installed == ["torch", "opensmile"]


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


@pytest.mark.parametrize("name", MODELS)
def test_the_onnx_file_gives_the_posteriors_of_pytorch(name: str) -> None:
    """For every model of the registry, with other batches and times than those of the export."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from orchestrator.inference.onnx_file import TOLERANCE, names, onnx_bytes

    rng, entry = np.random.default_rng(2), MODELS[name]
    features = None
    if entry.features.startswith("encoder_"):
        features = {"name": entry.features, "encoder": shared_encoder()}
    normalize = "train" if name in ("iaan", "acrnn_r", "cmn") else None
    model = speech_model(name, normalize, features)
    for network in model.networks.values():
        if isinstance(network, SupportVectorMachines):  # zeros without `fit`
            torch.nn.init.normal_(network.linear.weight, std=0.05)
    session = onnxruntime.InferenceSession(onnx_bytes(model), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == names(model)
    dims = model.description.features.load().dims
    for batch, time in ((1, 2), (4, 37)):
        turns, feeds = [], {}
        for key in ("values", "own", "other"):
            frames = 1 if key == "values" and entry.reads == "vector" else time
            values = rng.normal(size=(batch, frames, dims)).astype(np.float32)
            lengths = np.asarray([frames, *rng.integers(1, frames + 1, batch - 1)])
            if key != "values":
                lengths[1:2] = 0  # no such turn
            turns.append(Padded(torch.from_numpy(values), torch.from_numpy(lengths)))
            feeds |= {key: values, f"{key}_lengths".removeprefix("values_"): lengths}
        given = {key: feeds[key] for key in names(model)}
        (found,) = session.run(None, given)
        with torch.no_grad():
            expected = torch.stack(
                [network(*turns).logits.double().softmax(1) for network in model.networks.values()]
            ).mean(0)
        if batch > 1:
            assert np.ptp(found, axis=0).max() > 1e-4  # the rows differ
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


class Bessel(MeanPool):
    """A network with a step that ONNX cannot express."""

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        output = super().forward(current)
        return output._replace(logits=torch.special.bessel_j0(output.logits))


class Counted(MeanPool):
    """A network with a value that the trace fixes: the number of frames."""

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        output = super().forward(current)
        frames = int(current.lengths.max())
        return output._replace(logits=output.logits * frames)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Bessel, r"'aten::special_bessel_j0' .* is not supported"),
        (Counted, r"the posteriors of the file differ by 0\.\d+"),
    ],
)
def test_a_network_that_onnx_cannot_express_is_refused_in_one_line(
    network: type[MeanPool], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from orchestrator.inference.onnx_file import onnx_bytes

    model = speech_model("bigru_att")
    dims = model.description.features.load().dims
    members = {"a": Member(network(dims, len(CLASSES), hidden_size=8), 3)}
    own = SpeechModel(model.description, members, dict).eval()
    with pytest.raises(ConfigError, match=rf"cannot be written as ONNX: .*{reason}") as caught:
        onnx_bytes(own)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


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
