"""A linear support vector machine on one vector for each utterance: a classic baseline."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_models.base import FittedModel, check_sizes
from ser_models.sequences import Output, Padded


class LinearSVM(FittedModel):
    """Linear support vector machine, one class against the rest.

    (x - mean) / deviation > linear. 3,956 parameters with 988 functionals and 4 classes.

    The logits are decision values: signed distances to a hyperplane times its norm. The largest
    selects the class. The softmax of the logits is not a calibrated posterior.

    c : price of a margin violation. Larger values fit the training part more closely. 0.001 is
        ours: hundreds of standardised functionals separate most training parts anyway
    current : (batch, 1, dims)
    returns : no attention; the embedding is the standardised vector (batch, dims)
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dims: int, classes: int, *, c: float = 0.001) -> None:
        super().__init__()
        check_sizes(dims=dims, classes=classes)
        if not c > 0:
            raise ValueError(f"c is {c}: it must be above 0")
        self.c = c
        self.linear = nn.Linear(dims, classes)
        nn.init.zeros_(self.linear.weight)  # no random hyperplane before `fit`
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("deviation", torch.ones(dims))

    def fit(self, vectors: NDArray[np.floating], labels: NDArray[np.integer], seed: int) -> None:
        """Standardise `vectors` (n, dims) and find the hyperplanes for their `labels` (n,).

        All classes have the same weight, whatever their sizes. `seed` orders the solver's
        coordinates. Raises RuntimeError if the solver does not converge.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        classes, dims = self.linear.weight.shape
        if vectors.ndim != 2 or vectors.shape[1] != dims:
            raise ValueError(f"vectors are {vectors.shape}, but this model needs (n, {dims})")
        if (present := np.unique(labels).tolist()) != list(range(classes)):
            raise ValueError(f"labels are {present}, but training needs each of 0 to {classes - 1}")
        scaler = StandardScaler().fit(np.asarray(vectors, np.float64))
        machine = LinearSVC(
            C=self.c, class_weight="balanced", dual="auto", random_state=seed, max_iter=20_000
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                machine.fit(scaler.transform(vectors), labels)
            except ConvergenceWarning as warning:
                problem = f"the support vector machine did not converge with c = {self.c}"
                raise RuntimeError(f"{problem}: choose a smaller model.c") from warning
        planes, offsets = machine.coef_, machine.intercept_
        if classes == 2:  # scikit-learn gives one hyperplane for both classes
            planes, offsets = np.vstack([-planes, planes]), np.hstack([-offsets, offsets])
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(planes))
            self.linear.bias.copy_(torch.from_numpy(offsets))
            self.mean.copy_(torch.from_numpy(scaler.mean_))
            self.deviation.copy_(torch.from_numpy(scaler.scale_))

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        if (frames := int(current.lengths.max())) > 1:
            raise ValueError(f"an utterance has {frames} frames, but this model reads one vector")
        standardized = (current.values[:, 0] - self.mean) / self.deviation  # (batch, dims)
        return Output(self.linear(standardized), standardized, {})
