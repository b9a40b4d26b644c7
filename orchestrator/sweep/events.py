"""Lines that the driver prints about trials while they run."""

import time
from typing import Any

from orchestrator.progress import Narrator
from orchestrator.sweep.ray_compat import interruption_reason, release_reservations
from orchestrator.sweep.search import Search


def name_of(trial: Any) -> str:
    """The name of a trial in Tune's own files."""
    return f"{trial.config['number']}-{trial.config['trial']}"


def events(epochs: int, search: Search, narrator: Narrator) -> Any:
    """A callback for Tune: reports events, and releases resources of interrupted trials.

    epochs : largest number of epochs, for the progress bars

    The callback raises the storage's OSError, and so ends the sweep, if the search cannot read it.
    """
    from ray import tune

    class Events(tune.Callback):
        released = 0.0

        def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
            if search.storage_error is not None:
                raise search.storage_error
            # A trial that starts again releases its own reservation; a waiting one cannot.
            if time.monotonic() - self.released < 5:
                return
            self.released = time.monotonic()
            for waiting in trials:
                if waiting.status == "PENDING" and waiting.num_failures:
                    release_reservations(search.ledger.storage, waiting.config["trial"])

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
            number = trial.config["number"]
            narrator.remove(f"trial {number}")
            record = search.finished.get(number)  # Tune informs the search first
            if record is None:
                narrator.say(f"trial {number} interrupted: {interruption_reason(trial)}")
            elif record.status == "complete":
                narrator.say(f"trial {number} complete: score {record.score:.4f}")
            else:
                narrator.say(f"trial {number} {record.status}: {record.reason}")

        on_trial_error = on_trial_complete

    return Events()
