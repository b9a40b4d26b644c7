"""Nested UA of nine models on nEMO's real speech, by session and by repeated 80/20 splits.

Each model has one fixed configuration for both protocols: sizes and training as in
examples/nemo.yaml if they apply. It runs twice, with features normalised by speaker and by the
training part. The normalisation of log-mel by speaker was selected on the synthetic demo corpus.
Nothing is tuned on the reported data. The epoch is selected on a validation part and each test part
is scored once, so the nested estimate equals the plain one. Every run is a `ser train`. The same
command resumes after an interruption.

    python benchmarks/nemo_models.py NEMO/manifest.csv [STORAGE] [--at-a-time N]
    python benchmarks/nemo_models.py NEMO/manifest.csv [STORAGE] --table   # of the finished runs
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[1] / "examples" / "nemo.yaml"
SEED = 0

TURNS = {"epochs": 30, "patience": 10, "learning_rate": 1e-3}
SPECTROGRAMS = {"epochs": 8, "patience": 8, "learning_rate": 1e-3}
IAAN = {"hidden_size": 64, "attention_size": 64, "dropout": 0.3}
ACRNN = {
    "first_maps": 8,
    "maps": 16,
    "conv_layers": 1,
    "linear_size": 64,
    "hidden_size": 32,
    "embedding_size": 32,
}
BILSTM = {"dense_size": 128, "hidden_size": 32, "dropout": 0.3}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear_svm": ({}, {}),
    "bilstm_att": (BILSTM, TURNS),
    "bigru_att": (IAAN, TURNS),
    "bigru_iaa": (IAAN, TURNS),
    "rand_iaan": (IAAN, TURNS),
    "iaan": (IAAN, TURNS),
    "acrnn": (ACRNN, SPECTROGRAMS),
    "acrnn_r": (ACRNN, SPECTROGRAMS),
    "ssa_crnn_r": (ACRNN, SPECTROGRAMS),
}
PROTOCOLS = {
    "session": {"scheme": "leave_one_session_out", "selection": "validation"},
    "80-20": {"scheme": "random_repeated", "folds": 5, "selection": "validation", "seed": SEED},
}


WAYS = ("speaker", "train")
"""Normalisations: by speaker, and by the training part."""


def configuration(
    model: str, protocol: str, way: str, manifest: str, storage: str
) -> dict[str, Any]:
    """Return the configuration of one run."""
    sizes, training = MODELS[model]
    corpus = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["corpus"]
    by_speaker = "band" if sizes is ACRNN else "speaker"
    return {
        "corpus": corpus | {"root": manifest},
        "model": {"name": model, **sizes},
        "features": {"normalize": by_speaker if way == "speaker" else way},
        "folds": PROTOCOLS[protocol],
        "training": {"seed": SEED, **training},
        "storage": storage,
        "name": f"nemo-{protocol}-{model}-{way}",
    }


def ser(command: str, path: str, *options: str) -> str:
    """Run a `ser` command and return its output. Raises CalledProcessError if it fails."""
    line = [sys.executable, "-m", "orchestrator.cli", command, path, *options]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the finished trial of a run, or None."""
    for path in folder.glob("trials/*/trial.json"):
        values: dict[str, Any] = json.loads(path.read_text())
        if values["status"] == "complete":
            return values
    return None


def main(manifest: str, storage: str, at_a_time: int, table: bool) -> None:
    """Train the missing runs, protocol by protocol, then print the tables."""
    configs = Path(storage, "configurations")
    configs.mkdir(parents=True, exist_ok=True)
    runs: dict[tuple[str, str, str], Path] = {}
    for protocol in PROTOCOLS:
        for model in MODELS:
            for way in WAYS:
                values = configuration(model, protocol, way, manifest, storage)
                path = configs / f"{values['name']}.yaml"
                path.write_text(yaml.safe_dump(values, sort_keys=False))
                runs[protocol, model, way] = path
    if not table:
        for model in ("linear_svm", "bigru_att", "acrnn"):  # one model of each feature set
            ser("extract", str(runs["session", model, "speaker"]))
        missing = [str(path) for path in runs.values() if record(Path(storage, path.stem)) is None]
        with ThreadPoolExecutor(at_a_time) as threads:
            list(threads.map(lambda path: ser("train", path), missing))
    for protocol in PROTOCOLS:
        unit = "speakers" if protocol == "session" else "splits"
        columns = [f"{way}: nested UA | 95 % over {unit} | time" for way in WAYS]
        print(f"\n{protocol}\n\n| model | {' | '.join(columns)} |\n|---|---|---|---|---|---|---|")
        for model in MODELS:
            rows = [cells(protocol, Path(storage, runs[protocol, model, way].stem)) for way in WAYS]
            print(f"| `{model}` | {' | '.join(rows)} |")


def cells(protocol: str, folder: Path) -> str:
    """Return UA, its interval and the training time of one run, or empty cells.

    Sessions are pooled, because each utterance is tested once. Splits are averaged, because an
    utterance may be in several test parts.
    """
    trial = record(folder)
    if trial is None:
        return " |  | "
    report = json.loads(ser("report", str(folder), "--json"))
    nested, best = report["nested"], report["best"]
    if protocol == "session":
        value, interval = nested["pooled"]["ua"], best["pooled"]["ua"]
    else:
        value = interval = nested["mean_over_folds"]["ua"]
        value = value["value"]
    between = f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"
    return f"{100 * value:.1f} | {between} | {trial['seconds']:.0f} s"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("storage", nargs="?", default="runs")
    parser.add_argument("--at-a-time", type=int, default=2, help="runs that train together")
    parser.add_argument("--table", action="store_true", help="print only the finished runs")
    main(**vars(parser.parse_args()))
