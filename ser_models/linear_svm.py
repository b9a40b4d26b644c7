"""Linear support vector machines on one vector for each utterance: a classic baseline."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_models.base import FittedModel, check_sizes
from ser_models.sequences import Output, Padded, single_vectors

Planes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Hyperplanes (machines, dims) and their offsets (machines,)."""


class SupportVectorMachines(FittedModel):
    """The part that models of linear support vector machines share: standardise, then decide.

    machines : number of hyperplanes
    c : price of a margin violation
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dims: int, classes: int, machines: int, c: float) -> None:
        super().__init__()
        check_sizes(dims=dims, classes=classes)
        if not c > 0:
            raise ValueError(f"c is {c}: it must be above 0")
        self.classes, self.c = classes, c
        self.linear = nn.Linear(dims, machines)
        nn.init.zeros_(self.linear.weight)  # no random hyperplane before `fit`
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("deviation", torch.ones(dims))

    def hyperplanes(
        self, vectors: NDArray[np.float64], labels: NDArray[np.integer], seed: int
    ) -> Planes:
        """Find all hyperplanes for standardised `vectors` (n, dims) and their `labels` (n,)."""
        raise NotImplementedError

    def fit(self, vectors: NDArray[np.floating], labels: NDArray[np.integer], seed: int) -> None:
        """Standardise `vectors` (n, dims) and find the hyperplanes for their `labels` (n,).

        `seed` orders the solver's coordinates. Raises RuntimeError if the solver does not converge.
        """
        from sklearn.preprocessing import StandardScaler

        dims = self.linear.in_features
        if vectors.ndim != 2 or vectors.shape[1] != dims:
            raise ValueError(f"vectors are {vectors.shape}, but this model needs (n, {dims})")
        if (present := np.unique(labels).tolist()) != list(range(self.classes)):
            last = self.classes - 1
            raise ValueError(f"labels are {present}, but training needs each of 0 to {last}")
        scaler = StandardScaler().fit(np.asarray(vectors, np.float64))
        planes, offsets = self.hyperplanes(scaler.transform(vectors), labels, seed)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(planes))
            self.linear.bias.copy_(torch.from_numpy(offsets))
            self.mean.copy_(torch.from_numpy(scaler.mean_))
            self.deviation.copy_(torch.from_numpy(scaler.scale_))

    def decisions(self, current: Padded) -> tuple[Tensor, Tensor]:
        """The standardised vectors (batch, dims), and decision values (batch, machines)."""
        standardized = (single_vectors(current) - self.mean) / self.deviation
        return standardized, self.linear(standardized)


def solve(
    vectors: NDArray[np.float64],
    labels: NDArray[np.integer],
    c: float,
    seed: int,
    weights: NDArray[np.float64] | None = None,
) -> Planes:
    """Train scikit-learn's LinearSVC. With two classes, one hyperplane separates them.

    weights : (n,) of the vectors; by default scikit-learn's `balanced`. If a machine separates one
        class from the rest, it weighs the vectors of this class only, by the size of the class
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    machine = LinearSVC(
        C=c,
        class_weight="balanced" if weights is None else None,
        dual="auto",
        random_state=seed,
        max_iter=20_000,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            machine.fit(vectors, labels, sample_weight=weights)
        except ConvergenceWarning as warning:
            problem = f"the support vector machine did not converge with c = {c}"
            raise RuntimeError(f"{problem}: choose a smaller model.c") from warning
    return machine.coef_, machine.intercept_


class LinearSVM(SupportVectorMachines):
    """Linear support vector machine, one class against the rest.

    (x - mean) / deviation > linear. 3,956 parameters with 988 functionals and 4 classes.

    The logits are decision values: signed distances to a hyperplane times its norm. The largest
    selects the class. The softmax of the logits is not a calibrated posterior.

    c : price of a margin violation. Larger values fit the training part more closely. 0.001 is
        ours: hundreds of standardised functionals separate most training parts anyway
    current : (batch, 1, dims)
    returns : no attention; the embedding is the standardised vector (batch, dims)
    """

    def __init__(self, dims: int, classes: int, *, c: float = 0.001) -> None:
        super().__init__(dims, classes, classes, c)

    def hyperplanes(
        self, vectors: NDArray[np.float64], labels: NDArray[np.integer], seed: int
    ) -> Planes:
        planes, offsets = solve(vectors, labels, self.c, seed)
        if self.classes == 2:  # scikit-learn gives one hyperplane for both classes
            planes, offsets = np.vstack([-planes, planes]), np.hstack([-offsets, offsets])
        return planes, offsets

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        standardized, decisions = self.decisions(current)
        return Output(decisions, standardized, {})
