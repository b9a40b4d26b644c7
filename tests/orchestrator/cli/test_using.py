"""`ser export`, `ser refit` and `ser predict` on sweeps that were trained on spoken recordings."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from orchestrator import open_sweep
from orchestrator.cli.console import print_labels
from orchestrator.config.parsing import parse
from orchestrator.errors import ConfigError
from orchestrator.inference.labelled import Labelled
from orchestrator.inference.model import load_model
from orchestrator.inference.recognise import recognise
from orchestrator.training.batches import make_batch
from orchestrator.training.fold_run import build_network
from ser_models import Sizes
from ser_models.sequences import Padded
from tests.orchestrator.cli.conftest import Command
from tests.support.small_sweep import Sweeps, rows_of
from tests.support.training import TRIAL


def posteriors(labelled: Labelled) -> np.ndarray:
    """(utterances, classes)."""
    assert not labelled.skipped
    names = [name for name in labelled.table.column_names if name.startswith("posterior_")]
    return np.stack([labelled.table[name].to_numpy() for name in names], axis=1)


def feeds(batch: list[Padded | None]) -> dict[str, np.ndarray]:
    """The inputs of an ONNX file."""
    arrays = {}
    for name, turns in zip(("", "own", "other"), batch, strict=True):
        if turns is not None:
            arrays[name or "values"] = turns.values.numpy()
            arrays[f"{name}_lengths" if name else "lengths"] = turns.lengths.numpy()
    return arrays


@pytest.mark.parametrize("model", ["iaan", "ssa_crnn_r", "linear_svm"])
def test_an_export_predicts_as_its_sweep(
    model: str, sweeps: Sweeps, spoken: Path, tmp_path: Path, command: Command
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder, prepared = sweeps(model)
    target, data = tmp_path / "exported", prepared.dataset
    done = command("export", folder, target, "--onnx")
    assert done.returncode == 0, done.stderr
    names = ["README.md", "weights.safetensors", "model.json", "model.onnx"]
    assert done.stdout.splitlines() == [f"{target}/{name}" for name in names]
    assert sorted(path.name for path in target.iterdir()) == sorted(names)

    rows = np.sort(prepared.folds[0].test)
    manifest = rows_of(spoken, {data.ids[row] for row in rows}, tmp_path / "test.csv")
    ours = posteriors(recognise(load_model(str(folder)), [str(manifest)]))
    exported = posteriors(recognise(load_model(str(target)), [str(manifest)]))
    np.testing.assert_allclose(exported, ours, atol=1e-6)

    # Real utterances: the first turns of a dialogue have context of length 0.
    batch = make_batch(data, data.pieces(rows))
    session = onnxruntime.InferenceSession(
        target / "model.onnx", providers=["CPUExecutionProvider"]
    )
    inputs = feeds([batch.current, batch.own, batch.other])
    known = {entry.name for entry in session.get_inputs()}
    (found,) = session.run(None, {key: inputs[key] for key in known})
    networks = load_model(str(folder)).networks.values()
    with torch.no_grad():
        expected = sum(
            network(batch.current, batch.own, batch.other).logits.double().softmax(1)
            for network in networks
        ) / len(networks)
    np.testing.assert_allclose(found, expected, atol=1e-4)

    done = command("export", folder, target)  # again, without ONNX
    assert done.returncode == 0, done.stderr
    assert not (target / "model.onnx").exists()
    assert "model.onnx" not in (target / "README.md").read_text()


def test_the_card_says_what_the_model_is_and_what_its_score_is(
    sweeps: Sweeps, tmp_path: Path, command: Command
) -> None:
    folder, _ = sweeps("iaan")
    target = tmp_path / "exported"
    assert command("export", folder, target).returncode == 0
    card = (target / "README.md").read_text()
    scores = open_sweep(str(folder)).scores()
    nested, best = scores["nested"], scores["best"]
    mean = nested["mean_over_folds"]["ua"]
    assert f"Nested UA **{nested['pooled']['ua']:.3f}** pooled over test utterances" in card
    interval = f"{mean['value']:.3f} (95 %: {mean['low']:.3f} to {mean['high']:.3f})"
    assert f"mean over folds {interval}" in card
    assert f"UA of the best trial: {best['pooled']['ua']['value']:.3f} (95 %" in card
    assert card.count("\n| Ses0") == 6  # the speakers
    assert "Each of the 3 folds tests one session, and the next session validates" in card
    assert "the mean of 3 networks of cross-validation (Ses01, Ses02, Ses03)" in card
    for statement in (
        "The folds are speaker-independent",
        "Features are normalised by speaker",
        "The corpus is a manifest of its user. Ask for its licence.",
        "openSMILE, whose licence allows research",
        "Do not use it to judge people",
        "On other speech the score is unknown",
    ):
        assert statement in card
    assert "\n\n\n" not in card


def test_a_refit_predicts_as_its_networks(
    sweeps: Sweeps, spoken: Path, tmp_path: Path, command: Command
) -> None:
    folder, prepared = sweeps("iaan")
    data = prepared.dataset
    manifest = str(rows_of(spoken, set(data.ids), tmp_path / "all.csv"))
    if not (folder / "refits").exists():
        with pytest.raises(ConfigError, match="Run `ser refit` first"):
            load_model(str(folder), refit=True)
    done = command("refit", folder, "--seeds", "2")
    assert done.returncode == 0, done.stderr

    # By hand: the networks of two seeds on the features of the store.
    config = parse(json.loads((folder / "sweep.json").read_text())["configuration"])
    batch = make_batch(data, data.pieces(np.arange(len(data.ids))))
    expected = np.zeros((len(data.ids), 4))
    for seed in (0, 1):
        network = build_network(
            config.model, config.features, Sizes(config.features.load().dims, 4, 6, 1, {})
        ).eval()
        network.load_state_dict(
            load_file(folder / f"refits/{TRIAL}/seed-{seed}/fold-all.safetensors")
        )
        with torch.no_grad():
            logits = network(batch.current, batch.own, batch.other).logits
        expected += logits.double().softmax(1).numpy() / 2
    model = load_model(str(folder), refit=True)
    assert list(model.networks) == ["seed-0", "seed-1"]
    np.testing.assert_allclose(posteriors(recognise(model, [manifest])), expected, atol=1e-6)

    to, target = tmp_path / "labels.parquet", tmp_path / "exported"
    assert command("predict", folder, manifest, "--refit", "--to", to).returncode == 0
    table = pq.read_table(to)
    found = np.stack([table[f"posterior_{name}"].to_numpy() for name in data.classes], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert command("export", folder, target, "--refit").returncode == 0
    exported = load_model(str(target), refit=True)
    np.testing.assert_allclose(posteriors(recognise(exported, [manifest])), expected, atol=1e-6)
    card = (target / "README.md").read_text()
    assert "2 networks that trained on all labelled utterances (seed-0, seed-1)" in card
    assert "A refit has no test part. Its honest score is the nested estimate" in card

    assert command("export", folder, tmp_path / "folds").returncode == 0
    with pytest.raises(ConfigError, match=r"has networks of folds\. Export it again with --refit"):
        load_model(str(tmp_path / "folds"), refit=True)
    wrong = command("predict", folder, manifest, "--refit", "--fold", "Ses01")
    assert wrong.returncode == 2
    assert "a refit has no fold 'Ses01'" in wrong.stderr


def test_a_partly_broken_manifest_is_labelled_and_the_rest_is_named(
    sweeps: Sweeps, spoken: Path, tmp_path: Path, command: Command
) -> None:
    folder, prepared = sweeps("iaan")
    rows = rows_of(spoken, set(prepared.dataset.ids[:3]), tmp_path / "some.csv")
    lines = rows.read_text().splitlines()
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    broken = [f"b{n},{name},,,x,,," for n, name in enumerate(("missing.wav", "noise.wav"))]
    rows.write_text("\n".join([*lines[:2], *broken, *lines[2:]]) + "\n")
    tables = []
    for suffix in ("csv", "parquet", "jsonl"):
        to = tmp_path / f"labels.{suffix}"
        done = command("predict", folder, rows, "--to", to)
        assert done.returncode == 1
        for name in ("missing.wav", "noise.wav"):
            assert f"left out: {name}" in done.stderr
        assert "2 of 5 utterances cannot be read" in done.stderr
        tables.append(to)
    parquet = pq.read_table(tables[1]).to_pylist()
    assert [json.loads(line) for line in tables[2].read_text().splitlines()] == parquet
    read = csv.read_csv(tables[0]).to_pylist()
    assert len(read) == len(parquet) == 3
    for row, other in zip(read, parquet, strict=True):
        assert row.keys() == other.keys()
        for key, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[key], rel=1e-12)
            else:
                assert value == other[key] or (value in ("", None) and other[key] is None)
    assert all(row["statistics"] == "shrunk" for row in parquet)
    assert command("predict", folder, rows, "--to", tmp_path / "x.xlsx").returncode == 2


def test_the_table_shows_whole_names_of_files_and_is_left_out_if_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a/long/folder/of/recordings/that/differ/at/their/end/0001.wav"
    row = {"file": name, "start": None, "end": None, "emotion": "ang", "posterior_ang": 1.0}
    print_labels(pa.Table.from_pylist([row | {"statistics": "training"}]))
    lines = capsys.readouterr().out.splitlines()
    assert "".join(line.split("│")[1].strip() for line in lines if "│" in line) == name
    print_labels(pa.table({"file": pa.array([], pa.string())}))
    assert capsys.readouterr().out == ""
