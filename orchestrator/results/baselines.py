"""The model's UA beside the label-only baselines: is the model better than labels without sound?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.data.baselines import NOTHING, Baseline, baselines_over_folds
from orchestrator.ledger.records import SweepRecord
from orchestrator.metrics import Interval


@dataclass(frozen=True)
class LabelBaselines:
    """The label-only baselines of a sweep, and the UA that they are compared with.

    score : UA of the model, mean over folds, with its 95 % interval
    nested : whether `score` is the nested estimate; otherwise it is the plain score
    baselines : mean over folds, `nothing` first (`orchestrator.data.baselines`)
    folds : fold -> known unit -> UA
    """

    score: Interval
    nested: bool
    baselines: list[Baseline]
    folds: dict[str, dict[str, float]]

    @property
    def chance(self) -> float:
        """UA of guesses that know nothing but the classes."""
        return next(each.ua.value for each in self.baselines if each.given == NOTHING)

    @property
    def highest(self) -> Baseline:
        """The baseline with the highest UA. If several are equal, the first."""
        return max(self.baselines, key=lambda each: each.ua.value)

    @property
    def beaten(self) -> bool:
        """Whether the model is clearly better: its interval is above the highest baseline.

        Without an interval, the score itself counts.
        """
        low = self.score.value if math.isnan(self.score.low) else self.score.low
        return low > self.highest.ua.value

    def explained(self, baseline: Baseline) -> float | None:
        """The share of the model's UA above chance that the baseline also reaches, at most 1.

        None if the folds do not leak the unit, or if the model is not above chance.
        """
        above = self.score.value - self.chance
        if not baseline.leaks or above <= 0:
            return None
        return min(1.0, (baseline.ua.value - self.chance) / above)

    def leaks(self) -> Iterator[str]:
        """A sentence for each unit that the folds leak."""
        for each in self.baselines:
            if not each.leaks:
                continue
            sentence = (
                f"The folds leak the {each.given}: guesses from the training labels of the same "
                f"{each.given} have a UA of {each.ua.value:.1%} ({each.ua.low:.1%} to "
                f"{each.ua.high:.1%}). Chance is {self.chance:.1%}."
            )
            if (share := self.explained(each)) is not None:
                sentence += f" This could explain {share:.0%} of the model's UA above chance."
            yield sentence

    def verdict(self) -> str | None:
        """A sentence that says that the model is not clearly better; None if it is."""
        if self.beaten:
            return None
        low, high = self.score.low, self.score.high
        interval = "" if math.isnan(low) else f" ({low:.1%} to {high:.1%})"
        highest = self.highest
        if highest.given == NOTHING:
            other = f"A guess without any knowledge has {self.chance:.1%}"
        else:
            other = (
                f"Guesses from the training labels of the same {highest.given}, without any "
                f"sound, have {highest.ua.value:.1%}"
            )
        return (
            f"The model's {'nested ' * self.nested}UA, mean over folds, is {self.score.value:.1%}"
            f"{interval}. {other}."
        )


def compared_with_labels(
    sweep: SweepRecord, score: Interval, nested: bool
) -> LabelBaselines | None:
    """The label-only baselines beside a score; None if an older version audited the folds."""
    baselines = baselines_over_folds(sweep.audit.folds)
    if not baselines:
        return None
    folds = {fold.name: fold.label_baselines for fold in sweep.audit.folds}
    return LabelBaselines(score, nested, baselines, folds)
