"""Folds of models that are fitted in one step."""

from orchestrator.training.fold_run import FoldRun, Row, TrainingError
from orchestrator.training.seeds import derived_seed
from ser_models.base import FittedModel
from ser_models.standardised import Standardised


class FitRun(FoldRun):
    """A fold whose model has its own `fit`. There is exactly one epoch."""

    @property
    def ended(self) -> bool:
        """Whether the model is fitted."""
        return self.epoch >= 1

    def _train(self) -> Row:
        assert isinstance(self.model, FittedModel | Standardised)
        rows = self.fold.train
        vectors = self.dataset.frames[self.dataset.offsets[rows]]  # each utterance has one frame
        seed = derived_seed(self.config.training.seed, self.fold.name, "fit")
        try:
            self.model.fit(vectors, self.dataset.labels[rows], seed % 2**32)
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"fold {self.fold.name}: {error}") from error
        return self.evaluate("train")
