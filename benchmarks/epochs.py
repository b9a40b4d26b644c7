"""The time of a training epoch, beside that of an earlier commit of this repository.

    python benchmarks/epochs.py [--before a5f9b3e] [--rounds 3] [--nemo NEMO/manifest.csv]

Both sides train the first fold on the same arrays, in turn, each in a process of its own. The
times are CPU seconds of one thread. A ratio is our seconds by the earlier seconds in the same
round. The earlier code comes from git, so the clone must have its commit. Prints a Markdown table.
"""

import argparse
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from effects import CONTAGION, SPEAKER_STYLE, Effect
from nemo_models import configuration as nemo_configuration
from spread import spread
from two_sides import Case, make_planted

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.data.prepare import plan_folds, prepare

ROOT = Path(__file__).parents[1]
BEFORE = "a5f9b3e"
"""The last commit with batches of a shuffled pass and `torch.optim`."""


def sized(effect: Effect, model: str, **sizes: int) -> Effect:
    """Return an effect whose only model is `model`, with other sizes."""
    return dataclasses.replace(
        effect.only([model]), models={model: effect.models[model] | sizes}, control=None
    )


CASES = {
    "`iaan`, 32 states": (sized(CONTAGION, "iaan"), "iaan"),
    "`iaan`, 128 states": (sized(CONTAGION, "iaan", hidden_size=128, attention_size=128), "iaan"),
    "`acrnn_r`": (sized(SPEAKER_STYLE, "acrnn_r"), "acrnn_r"),
}


def write_cases(folder: Path, target: Path, nemo: str | None) -> dict[str, Path]:
    """Write the data of each case to a file: configuration, first fold and dataset.

    folder : of planted corpora and features, made if they are missing
    """
    make_planted(
        [Case(name, model, effect) for name, (effect, model) in CASES.items()], [0], folder
    )
    configurations = {
        name: effect.configuration(model, 0, folder) for name, (effect, model) in CASES.items()
    }
    for model in ("iaan", "acrnn_r") if nemo else ():
        values = nemo_configuration(model, "session", "speaker", str(nemo), str(folder))
        configurations[f"`{model}`, nEMO"] = parse(values)
    files = {}
    for number, (name, configuration) in enumerate(configurations.items()):
        plan = plan_folds(configuration)
        data = prepare(plan, Storage.open(configuration.storage), lambda done, total, error: None)
        file = target / f"case-{number}.pickle"
        fields = {f.name: getattr(data.dataset, f.name) for f in dataclasses.fields(data.dataset)}
        # Earlier commits have the row of the one context turn of each utterance.
        fields |= {name: fields[name].newest for name in ("own", "other")}
        fields["frames"] = np.asarray(fields["frames"])
        # Earlier commits do not know all keys, and have the same defaults for those that they know.
        values = configuration.model_dump(mode="json", exclude_unset=True)
        content = (values, data.folds[0], fields)
        file.write_bytes(pickle.dumps(content))
        files[name] = file
    return files


def in_tree(tree: Path, file: Path) -> float:
    """Return the CPU seconds of an epoch with the code of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "epoch_seconds.py"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tree,
    )
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr}")
    code, seconds = json.loads(done.stdout)
    assert Path(code).is_relative_to(tree), f"{code} is not in {tree}"
    return float(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="a commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nemo", metavar="MANIFEST")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    options = parser.parse_args()
    folder = options.folder.absolute()
    with tempfile.TemporaryDirectory() as name:
        earlier = Path(name, "earlier")
        earlier.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", options.before], capture_output=True, check=False
        )
        if archive.returncode:
            raise SystemExit(f"--before: {options.before} is not in this clone: fetch its history")
        subprocess.run(["tar", "-x", "-C", str(earlier)], input=archive.stdout, check=True)
        files = write_cases(folder, Path(name), options.nemo)
        print(f"| an epoch | at {options.before} | now | ratio (target: at most 0.80) |")
        print("|---|---|---|---|")
        for case, file in files.items():
            sides: dict[Path, list[float]] = {earlier: [], ROOT: []}
            for _ in range(options.rounds):
                for tree, seconds in sides.items():
                    seconds.append(in_tree(tree, file))
            before, now = sides.values()
            ratios = [b / a for a, b in zip(before, now, strict=True)]
            row = (case, f"{spread(before, 2)} s", f"{spread(now, 2)} s", spread(ratios, 2))
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
