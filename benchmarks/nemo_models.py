"""Nested UA of every model on nEMO's real speech, by session and by repeated 80/20 splits.

Each model has one fixed configuration for both protocols: sizes and training as in
examples/nemo.yaml if they apply. The normalisation of log-mel was selected on the synthetic demo
corpus. Nothing is tuned on the reported data. The epoch is selected on a validation part and each
test part is scored once, so the nested estimate equals the plain one. Every run is a `ser train`.
Two run at the same time, and the same command resumes after an interruption.

    python benchmarks/nemo_models.py NEMO/manifest.csv [STORAGE]
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).parents[1] / "examples" / "nemo.yaml"
SEED = 0
AT_A_TIME = 2

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


def configuration(model: str, protocol: str, manifest: str, storage: str) -> dict[str, Any]:
    """Return the configuration of one run."""
    sizes, training = MODELS[model]
    corpus = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["corpus"]
    return {
        "corpus": corpus | {"root": manifest},
        "model": {"name": model, **sizes},
        "features": {"normalize": "band"} if sizes is ACRNN else {},
        "folds": PROTOCOLS[protocol],
        "training": {"seed": SEED, **training},
        "storage": storage,
        "name": f"nemo-{protocol}-{model}",
    }


def ser(command: str, path: str, *options: str) -> str:
    """Run a `ser` command and return its output. Raises CalledProcessError if it fails."""
    line = [sys.executable, "-m", "orchestrator.cli", command, path, *options]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(manifest: str, storage: str = "runs") -> None:
    """Train the missing models, then print the table."""
    configs = Path(storage, "configurations")
    configs.mkdir(parents=True, exist_ok=True)
    runs = {
        (model, protocol): configs / f"{protocol}-{model}.yaml"
        for protocol in PROTOCOLS
        for model in MODELS
    }
    for (model, protocol), path in runs.items():
        path.write_text(
            yaml.safe_dump(configuration(model, protocol, manifest, storage), sort_keys=False)
        )
    for model in ("linear_svm", "bigru_att", "acrnn"):  # one model of each feature set
        ser("extract", str(runs[model, "session"]))
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        list(threads.map(lambda path: ser("train", str(path)), runs.values()))
    reports = {}
    for key, path in runs.items():
        name = yaml.safe_load(path.read_text())["name"]
        reports[key] = json.loads(ser("report", f"{storage}/{name}", "--json"))
        (record,) = Path(storage, name, "trials").glob("*/trial.json")
        reports[key]["seconds"] = json.loads(record.read_text())["seconds"]
    print(
        "| model | session: nested UA | 95 % by speakers | time | 80/20: nested UA | 95 % over "
        "splits | time |"
    )
    print("|---|---|---|---|---|---|---|")
    for model in MODELS:
        print(
            f"| `{model}` | {' | '.join(cells(reports[model, name], name) for name in PROTOCOLS)} |"
        )


def cells(report: dict[str, Any], protocol: str) -> str:
    """Return UA, its interval and the training time of one run.

    Sessions are pooled, because each utterance is tested once. Splits are averaged, because an
    utterance may be in several test parts.
    """
    nested, best = report["nested"], report["best"]
    if protocol == "session":
        value, interval = nested["pooled"]["ua"], best["pooled"]["ua"]
    else:
        value = interval = nested["mean_over_folds"]["ua"]
        value = value["value"]
    between = f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"
    return f"{100 * value:.1f} | {between} | {report['seconds']:.0f} s"


if __name__ == "__main__":
    main(*sys.argv[1:])
