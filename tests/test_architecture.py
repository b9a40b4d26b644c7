"""The layers of the house: a planted import against each of them is found."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("orchestrator", "features", "ser_models", "search_spaces")

PLANTED = {
    # module -> an import that goes up, or sideways
    "orchestrator/results/status.py": "orchestrator.sweep.events",
    "orchestrator/sweep/events.py": "orchestrator.report.tables",
    "orchestrator/report/labels.py": "orchestrator.cli.console",
    "orchestrator/report/figures.py": "orchestrator.study",
    "orchestrator/study.py": "orchestrator.cli.console",
    "orchestrator/inference/__init__.py": "orchestrator.report.labels",
    "orchestrator/training/seeds.py": "orchestrator.results.context",
    "orchestrator/data/folds.py": "orchestrator.training.batches",
    "orchestrator/config/parsing.py": "orchestrator.data.corpus",
    "orchestrator/ledger/seals.py": "orchestrator.config.sections",
    "orchestrator/metrics.py": "orchestrator.ledger.records",
    "orchestrator/training/batches.py": "ray",
    "features/signal.py": "orchestrator.metrics",
    "search_spaces/__init__.py": "ser_models.base",
    "ser_models/attention.py": "pydantic",
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_import_against_a_layer_is_found(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    whole = lint(tmp_path)
    assert whole.returncode == 0, whole.stdout
    for file, target in PLANTED.items():
        path = tmp_path / file
        path.write_text(f"import {target}\n{path.read_text()}")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    for file, target in PLANTED.items():
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        assert f"{module} -> {target} (l.1)" in broken.stdout, (file, broken.stdout)
