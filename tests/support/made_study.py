"""Writes several sweeps on the same test utterances. Their scores are random numbers."""

import shutil
from pathlib import Path
from typing import Any

from orchestrator.ledger.records import Proposal
from orchestrator.ledger.seals import seal
from orchestrator.results.opened import OpenedSweep
from tests.support.made_sweep import make_sweep

SKILLS = {
    "iaan": (0.62, 0.7),
    "bigru_iaa": (0.58, 0.66),
    "rand_iaan": (0.5, 0.58),
    "bigru_att": (0.25, 0.33),
}
"""Models, with the share of utterances that their trials know; they guess the others."""
STATUSES = ["complete", "pruned", "complete", "failed", "complete"]


def made(folder: Path, model: str, **changes: Any) -> OpenedSweep:
    """A sweep of a model, in a folder of the model's name. The trials have a seed of their own."""
    settings: dict[str, Any] = {
        "statuses": STATUSES,
        "name": model,
        "model": model,
        "skill": SKILLS[model],
        "trial_seed": sum(map(ord, model)),
    }
    return OpenedSweep(make_sweep(folder / model, **(settings | changes)))


def make_study(folder: Path, **changes: Any) -> list[OpenedSweep]:
    """A sweep for each of `SKILLS`."""
    return [made(folder, name, **changes) for name in SKILLS]


def with_configuration(sweep: OpenedSweep, **sections: dict[str, Any]) -> OpenedSweep:
    """The sweep with some keys of its configuration replaced, on the storage too."""
    configuration = dict(sweep.record.configuration)
    for name, values in sections.items():
        configuration[name] = configuration[name] | values
    changed = sweep.record.model_copy(update={"configuration": configuration})
    sweep.ledger.write_sweep(changed)
    return OpenedSweep(sweep.ledger)


def multiplied(sweep: OpenedSweep, trials: int) -> OpenedSweep:
    """The sweep with copies of its trials, up to `trials`. To make them all would take minutes.

    The copies have ids and numbers of their own, and scores that grow a little.
    """
    folder = Path(sweep.ledger.storage.root)
    records = sweep.ledger.trials()
    for number in range(len(records), trials):
        record = records[number % len(records)]
        score = None if record.score is None else record.score + 1e-5 * number
        changed = {"id": f"{number:010x}", "number": number, "score": score}
        copied = record.model_copy(update=changed)
        shutil.copytree(folder / "trials" / record.id, folder / "trials" / copied.id)
        (folder / "trials" / copied.id / "trial.json").write_bytes(seal(copied.model_dump()))
        proposal = Proposal(number=number, trial=copied.id, hyperparameters=record.hyperparameters)
        (folder / "search" / f"{number:05d}.json").write_bytes(seal(proposal.model_dump()))
    return OpenedSweep(sweep.ledger)
