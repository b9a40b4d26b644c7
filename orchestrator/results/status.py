"""How far a sweep is."""

from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.results.selection import best_trial


def sweep_status(ledger: Ledger) -> dict[str, Any]:
    """Plain values: `name`, `trials` to run, `proposed`, `complete`, `pruned`, `failed`,
    `unfinished` (numbers of proposed trials) and `best` (`id` and `score`, or None).

    Reads records only and verifies no file, so it is quick on any storage. Raises NoSweepError.
    """
    sweep, proposals = ledger.sweep(), ledger.proposals()
    records = {record.id: record for record in ledger.records()}
    statuses = [records[s.trial].status for s in proposals if s.trial in records]
    best = best_trial(records.values())
    return {
        "name": sweep.name,
        "trials": sweep.trials,
        "proposed": len(proposals),
        **{status: statuses.count(status) for status in ("complete", "pruned", "failed")},
        "unfinished": [s.number for s in proposals if s.trial not in records],
        "best": None if best is None else {"id": best.id, "score": best.score},
    }
