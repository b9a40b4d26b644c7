"""Small sweeps: write a configuration, run `ser`, read everything that a sweep left."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from orchestrator.ledger.ledger import Ledger
from tests.support.processes import kill

SER = [sys.executable, "-m", "orchestrator.cli"]
NAME = "toy"
"""Name of the sweep that `configure` describes."""


def sections(folder: Path, manifest: str | Path, **changed: Any) -> dict[str, Any]:
    """Return the configuration of a small sweep, stored in `folder/runs`, with changed sections.

    A changed section keeps the other keys of the small sweep, except a model with another name,
    because it has hyperparameters of its own.
    """
    raw: dict[str, Any] = {
        "name": NAME,
        "storage": str(folder / "runs"),
        "corpus": {"root": str(manifest), "classes": ["ang", "hap", "neu", "sad"]},
        "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8},
        "training": {"epochs": 6, "learning_rate": 0.003, "checkpoint_every": 0},
        "search": {"space": "iaan_small", "trials": 3, "grace_epochs": 2},
        "cluster": {"concurrent_trials": 2},
    }
    for section, values in changed.items():
        if isinstance(values, dict) and not (section == "model" and "name" in values):
            values = {**raw.get(section, {}), **values}
        raw[section] = values
    return raw


def configure(folder: Path, manifest: str | Path, **changed: Any) -> Path:
    """Write `sections` to `folder/config.yaml`, and return that path."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(sections(folder, manifest, **changed)))
    return path


def give_features(extracted: Path, storage: Path) -> None:
    """Copy the features of one storage to another, so that no sweep in it extracts them again.

    extracted : in most tests, the fixture `spoken_features`
    """
    shutil.copytree(extracted / "features", storage / "features")


def ser(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a `ser` command to its end. Both of its outputs are text.

    environment : variables in addition to those of this process
    """
    return subprocess.run(
        [*SER, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
    )


@contextmanager
def driver(
    config: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    command: str = "sweep",
) -> Iterator[psutil.Popen]:
    """Run `ser sweep`, or another command, in the background, with both outputs appended to `log`.

    At the end, the process and its children are killed if they still run.
    """
    with log.open("ab") as output:
        process = psutil.Popen(
            [*SER, command, str(config)],
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        kill(process)


def outcome(ledger: Ledger) -> dict[str, Any]:
    """Return everything of a sweep except timings: proposals, records and the bytes of all files.

    The keys are the ids of the trials, and `proposals`.
    """
    content: dict[str, Any] = {"proposals": ledger.proposals()}
    for record in ledger.trials():
        folder = ledger.trial_storage(record.id)
        files = {name: folder.read(name) for name in record.files}
        content[record.id] = (record.model_copy(update={"seconds": 0.0}), files)
    return content
