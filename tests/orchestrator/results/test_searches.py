"""The cost of a search against the files of a made sweep."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.results.findings import gather
from orchestrator.results.searches import search_cost
from tests.support.made_sweep import make_sweep

STATUSES = ["complete", "failed", "pruned", "complete", "pruned", "failed"]


def test_cost_is_counted_from_the_files(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, STATUSES, running=2)
    cost = search_cost(gather(ledger))
    of_trial = []
    for record in ledger.trials():
        rows = [] if record.status == "failed" else ledger.folds(record.id).to_pylist()
        of_trial.append(len([row for row in rows if row["split"] == "train"]))
    assert [step.fold_epochs for step in cost.steps] == np.cumsum(of_trial).tolist()
    assert cost.fold_epochs == sum(of_trial)
    scores = [record.score for record in ledger.trials()]
    best = [max((s for s in scores[: n + 1] if s is not None), default=None) for n in range(6)]
    assert [step.best for step in cost.steps] == best
    for status in ("complete", "pruned", "failed"):
        seconds = [record.seconds for record in ledger.trials() if record.status == status]
        assert cost.seconds[status] == pytest.approx(sum(seconds))
    assert cost.failures == {"loss is not finite in fold Ses03, epoch 2": [1, 5]}
    assert cost.counts == {"complete": 2, "pruned": 2, "failed": 2, "unfinished": 2}
    whole = (of_trial[0] + of_trial[3]) / 2
    saved = sum(max(0.0, whole - of_trial[n]) for n in (2, 4))
    assert cost.pruning_saved == pytest.approx(saved / (saved + sum(of_trial)))


@pytest.mark.parametrize("statuses", [["complete"], ["pruned"], ["failed"], []])
def test_nothing_is_said_of_pruning_without_pruned_and_complete_trials(
    tmp_path: Path, statuses: list[str]
) -> None:
    assert search_cost(gather(make_sweep(tmp_path, statuses))).pruning_saved is None


def test_a_failed_trial_counts_the_epochs_that_it_recorded(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["failed"])
    record = ledger.trials()[0].model_copy(update={"curve": [0.3, 0.4, 0.4]})
    ledger.write_trial(record)
    assert search_cost(gather(ledger)).fold_epochs == 3 * 5
