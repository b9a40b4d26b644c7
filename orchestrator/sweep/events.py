"""What Tune tells of its trials while they run."""

import time
from pathlib import Path
from typing import Any

from orchestrator.progress import Narrator
from orchestrator.sweep.search import Search
from orchestrator.sweep.trial import release


def name_of(trial: Any) -> str:
    """Of a trial in what Tune writes."""
    return f"{trial.config['number']}-{trial.config['trial']}"


def _reason(trial: Any) -> str:
    """Why a trial broke off, in a line: as it said itself, or else from what Tune noted."""
    if told := (trial.last_result or {}).get("broke_off"):
        return str(told)
    # Tune keeps some errors as text alone, and on object stores nothing as yet.
    noted = Path(trial.error_file or "")
    newest = noted.read_text().rpartition("Failure # ")[2] if noted.is_file() else ""
    lines = newest.strip().splitlines() or ["no reason given"]
    # All lines of a memory monitor's long report after this one are of how it chose.
    return next((line for line in lines if "running low on memory" in line), lines[-1])


def events(epochs: int, search: Search, narrator: Narrator) -> Any:
    """A callback for Tune: tells the narrator, and frees what lost trials hold.

    It ends the sweep, by raising the storage's OSError, where the search has found that to be gone.
    """
    from ray import tune

    class Told(tune.Callback):
        released = 0.0

        def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
            if search.gone is not None:
                raise search.gone
            # Until they have started again, and do so themselves.
            if time.monotonic() - self.released < 5:
                return
            self.released = time.monotonic()
            for waiting in trials:
                if waiting.status == "PENDING" and waiting.num_failures:
                    release(search.ledger.storage, waiting.config["trial"])

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            chosen = ", ".join(
                f"{key.split('.')[-1]} {value:.3g}"
                if isinstance(value, float)
                else f"{key.split('.')[-1]} {value}"
                for key, value in trial.config["hyperparameters"].items()
            )
            name = f"trial {trial.config['number']} ({trial.config['trial']})"
            narrator.say(f"{name}: {chosen}" if chosen else name)

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "epoch" in result:
                name, note = f"trial {trial.config['number']}", f"score {result['score']:.3f}"
                narrator.bar(name, result["epoch"], epochs, note)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._ended(trial)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._ended(trial)

        def _ended(self, trial: Any) -> None:
            number = trial.config["number"]
            narrator.remove(f"trial {number}")
            record = search.ended.get(number)  # Tune has told the search before
            if record is None:
                narrator.say(f"trial {number} broke off: {_reason(trial)}")
            elif record.status == "complete":
                narrator.say(f"trial {number} complete: score {record.score:.4f}")
            else:
                narrator.say(f"trial {number} {record.status}: {record.reason}")

    return Told()
