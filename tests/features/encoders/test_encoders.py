"""Encoders of transformers and of ONNX Runtime: their states, their facts, and wrong input."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from features import encoders
from features.encoders.description import Array
from features.errors import DependencyError, FeatureError
from tests.features.encoders.conftest import KINDS
from tests.support.encoders import SIZE, STATES, shared_onnx, tiny_encoder


def noise(samples: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def states_of(encoder: str, signal: Array) -> Array:
    return encoders.load(encoders.describe(encoder), "cpu")(signal)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [480, 719, 720, 16000, 16399, 16400])
def test_the_states_are_those_of_transformers(
    kind: str, samples: int, tiny: dict[str, str]
) -> None:
    from transformers import AutoModel

    signal = noise(samples)
    ours = states_of(tiny[kind], signal)
    assert ours.shape == (STATES, (samples - 400) // 320 + 1, SIZE)
    assert ours.dtype == np.float32
    with torch.inference_mode():
        theirs = AutoModel.from_pretrained(tiny[kind]).eval()(
            torch.from_numpy(signal)[None], output_hidden_states=True
        )
    expected = torch.cat(theirs.hidden_states).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(ours[-1], theirs.last_hidden_state[0].numpy(), atol=1e-5)


def test_the_bits_do_not_depend_on_the_threads_and_the_calls_before(tiny: dict[str, str]) -> None:
    expected = states_of(tiny["wavlm"], noise(16000))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        states_of(tiny["wavlm"], noise(48000, seed=1))
        np.testing.assert_array_equal(states_of(tiny["wavlm"], noise(16000)), expected)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_description_has_the_sizes_of_the_encoder(tiny: dict[str, str]) -> None:
    description = encoders.describe(tiny["hubert"])
    assert description.kind == "hubert"
    assert (description.states, description.size) == (STATES, SIZE)
    assert (description.stride, description.least) == (320, 480)
    assert description.normalize
    assert len(description.contents) == 3  # weights and two files of settings


def test_a_checkpoint_in_half_precision_is_computed_in_float32(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    from transformers import AutoModel

    shutil.copytree(tiny["wavlm"], tmp_path / "half")
    AutoModel.from_pretrained(tiny["wavlm"]).half().save_pretrained(tmp_path / "half")
    ours = states_of(str(tmp_path / "half"), noise(16000))
    expected = states_of(tiny["wavlm"], noise(16000))
    assert not np.array_equal(ours, expected)
    np.testing.assert_allclose(ours, expected, atol=0.02)


def test_weights_of_pytorch_are_read_without_running_code(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    from safetensors.torch import load_file

    shutil.copytree(tiny["wavlm"], tmp_path / "bin")
    tensors = load_file(tmp_path / "bin" / "model.safetensors")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "bin" / "pytorch_model.bin")
    np.testing.assert_array_equal(
        states_of(str(tmp_path / "bin"), noise(4000)), states_of(tiny["wavlm"], noise(4000))
    )

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "bin" / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": Attack()}))
    with pytest.raises(FeatureError, match="cannot be loaded by transformers"):
        states_of(str(tmp_path / "bin"), noise(4000))
    assert not (tmp_path / "ran").exists()


def test_code_of_the_folder_is_not_run(tmp_path: Path, tiny: dict[str, str]) -> None:
    shutil.copytree(tiny["wavlm"], tmp_path / "code")
    config = json.loads((tmp_path / "code" / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "code" / "config.json").write_text(json.dumps(config))
    (tmp_path / "code" / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    )
    assert len(states_of(str(tmp_path / "code"), noise(4000))) == STATES
    assert not (tmp_path / "ran").exists()


def _copy(tiny: dict[str, str], folder: Path, **changes: object) -> Path:
    shutil.copytree(tiny["wavlm"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def test_a_missing_folder_and_a_text_model_are_named(tmp_path: Path, tiny: dict[str, str]) -> None:
    with pytest.raises(FeatureError, match=r"features\.encoder: .*none' does not exist: pass the"):
        encoders.describe(str(tmp_path / "none"))
    with pytest.raises(FeatureError, match=r"holds a model of type bert: choose a speech encoder"):
        encoders.describe(str(_copy(tiny, tmp_path / "bert", model_type="bert")))


def test_a_hub_id_without_network_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FeatureError, match="'some/wavlm' is no folder here, and the hub does not"):
        encoders.describe("some/wavlm")


def test_an_incomplete_folder_is_named(tmp_path: Path, tiny: dict[str, str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeatureError, match=r"has no config\.json"):
        encoders.describe(str(tmp_path / "empty"))
    folder = _copy(tiny, tmp_path / "copy")
    (folder / "config.json").write_text("{")
    with pytest.raises(FeatureError, match=r"cannot be read: config\.json"):
        encoders.describe(str(folder))
    folder = _copy(tiny, tmp_path / "settings")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(FeatureError, match=r"has no preprocessor_config\.json"):
        encoders.describe(str(folder))
    settings = {"feature_extractor": {"do_normalize": False, "sampling_rate": 16000}}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    assert not encoders.describe(str(folder)).normalize
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(FeatureError, match="reads audio at 8000 Hz"):
        encoders.describe(str(folder))
    folder = _copy(tiny, tmp_path / "weights")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FeatureError, match="has no weights, or a part of them"):
        encoders.describe(str(folder))


def test_a_part_of_the_weights_is_not_enough(tmp_path: Path, tiny: dict[str, str]) -> None:
    folder = _copy(tiny, tmp_path / "parts")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FeatureError, match="has no weights, or a part of them"):
        encoders.describe(str(folder))
    from safetensors.torch import load_file, save_file

    folder = _copy(tiny, tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if "layers.1." not in name}
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FeatureError, match=r"lacks \d+ weights \(encoder\.layers\.1\."):
        states_of(str(folder), noise(4000))


def test_a_damaged_file_of_weights_is_named(tmp_path: Path, tiny: dict[str, str]) -> None:
    folder = _copy(tiny, tmp_path / "cut")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(FeatureError, match="'cut' cannot be loaded by transformers: "):
        states_of(str(folder), noise(4000))


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: dict[str, str]
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name in ("transformers", "onnxruntime") else find(name),
    )
    with pytest.raises(DependencyError, match=r"needs transformers, .*\[encoders\]"):
        encoders.describe(tiny["wavlm"])
    with pytest.raises(DependencyError, match=r"needs onnxruntime, .*ser-orchestrator\[onnx\]"):
        encoders.describe("model.onnx")


def test_a_device_that_the_machine_lacks_is_named(tiny: dict[str, str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(FeatureError, match=r"features\.device: torch finds no GPU"):
        encoders.load(encoders.describe(tiny["wavlm"]), "cuda")


@pytest.fixture
def exported() -> dict[str, str]:
    """Two exports of the tiny WavLM: with states and with a vector."""
    pytest.importorskip("onnxruntime")
    return {name: shared_onnx(vector=name == "vector") for name in ("states", "vector")}


def test_onnx_gives_the_states_of_transformers(
    tiny: dict[str, str], exported: dict[str, str]
) -> None:
    for samples in (480, 16000, 23457):
        last = states_of(tiny["wavlm"], noise(samples))[-1]
        np.testing.assert_allclose(
            states_of(exported["states"], noise(samples)), last[None], atol=1e-4
        )
        vector = states_of(exported["vector"], noise(samples))
        assert vector.shape == (1, 1, SIZE)
        np.testing.assert_allclose(vector[0, 0], last.mean(axis=0), atol=1e-4)


def test_silence_shows_the_sizes_of_an_onnx_file(tmp_path: Path, exported: dict[str, str]) -> None:
    states, vector = (encoders.describe(exported[name]) for name in ("states", "vector"))
    assert (states.states, states.size, states.stride) == (1, SIZE, 320)
    assert (vector.states, vector.size, vector.stride) == (1, SIZE, 0)
    assert states.normalize
    assert states.contents != vector.contents
    shutil.copy(exported["states"], tmp_path / "model.onnx")
    with pytest.raises(FeatureError, match=r"has no preprocessor_config\.json"):
        encoders.describe(str(tmp_path / "model.onnx"))
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    alone = encoders.describe(str(tmp_path / "model.onnx"))
    assert not alone.normalize
    (tmp_path / "model.onnx.data").write_bytes(b"weights beside the file")
    assert encoders.describe(str(tmp_path / "model.onnx")).contents != alone.contents


def test_a_file_that_is_no_onnx_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(FeatureError, match=r"none\.onnx' does not exist: pass an ONNX file"):
        encoders.describe(str(tmp_path / "none.onnx"))
    (tmp_path / "text.onnx").write_text("text")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(FeatureError, match=r"text\.onnx' cannot be loaded by ONNX Runtime: "):
        encoders.describe(str(tmp_path / "text.onnx"))


def test_another_description_for_other_weights_and_other_normalisation(
    tmp_path: Path, tiny: dict[str, str]
) -> None:
    same = tiny_encoder(tmp_path / "same", "wavlm")
    weights = tiny_encoder(tmp_path / "weights", "wavlm", seed=1)
    plain = tiny_encoder(tmp_path / "plain", "wavlm", normalize=False)
    contents = {path: set(encoders.describe(path).contents) for path in (same, weights, plain)}
    expected = set(encoders.describe(tiny["wavlm"]).contents)
    assert contents[same] == expected
    assert len(contents[weights] - expected) == 1
    assert len(contents[plain] - expected) == 1
