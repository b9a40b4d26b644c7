"""A linear support vector machine on one vector an utterance: the field's oldest yardstick."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_models.checks import at_least
from ser_models.sequences import Output, Padded


class LinearSVM(nn.Module):
    """Linear support vector machine, one class against the rest.

    (x - mean) / deviation > linear. Not trained by gradients: `fit` solves it whole, and is what
    tells such a model from the others.
    3,956 parameters with 988 functionals and 4 classes.

    The logits are decision values, signed distances times the norm of a hyperplane. Their order is
    the classifier's; their softmax is no calibrated posterior.

    Parameters
    ----------
    dims : functionals an utterance
    classes : number of emotions
    c : price of a margin violation; large values fit the training part more closely. Ours: 0.001,
        for hundreds of standardised functionals separate most training parts anyway

    Shapes
    ------
    current : Padded of (batch, 1, dims); own and other are not looked at
    returns : Output without attention; the embedding is the standardised vector (batch, dims)
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dims: int, classes: int, *, c: float = 0.001) -> None:
        super().__init__()
        at_least(1, dims=dims)
        at_least(2, classes=classes)
        if not c > 0:
            raise ValueError(f"c is {c}: it must be above 0")
        self.c = c
        self.linear = nn.Linear(dims, classes)
        nn.init.zeros_(self.linear.weight)  # until `fit`: no hyperplane, and no random one
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("deviation", torch.ones(dims))

    def fit(self, vectors: NDArray[np.floating], labels: NDArray[np.integer], seed: int) -> None:
        """Standardise on `vectors` (n, dims) and solve for their `labels` (n,), from 0 upwards.

        Classes weigh the same, whatever their sizes; `seed` orders the solver's coordinates.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        classes, dims = self.linear.weight.shape
        if vectors.ndim != 2 or vectors.shape[1] != dims:
            raise ValueError(f"vectors are {vectors.shape}: this model was built for (n, {dims})")
        if (found := np.unique(labels).tolist()) != list(range(classes)):
            raise ValueError(f"labels are {found}: training needs each of 0 to {classes - 1}")
        scaler = StandardScaler().fit(np.asarray(vectors, np.float64))
        machine = LinearSVC(
            C=self.c, class_weight="balanced", dual="auto", random_state=seed, max_iter=20_000
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                machine.fit(scaler.transform(vectors), labels)
            except ConvergenceWarning as warning:
                raise RuntimeError(
                    f"the support vector machine did not converge with c = {self.c}: "
                    "choose a smaller c"
                ) from warning
        planes, offsets = machine.coef_, machine.intercept_
        if classes == 2:  # one hyperplane says both: its sign is the class
            planes, offsets = np.vstack([-planes, planes]), np.hstack([-offsets, offsets])
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(planes))
            self.linear.bias.copy_(torch.from_numpy(offsets))
            self.mean.copy_(torch.from_numpy(scaler.mean_))
            self.deviation.copy_(torch.from_numpy(scaler.scale_))

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        if int(current.lengths.max()) > 1:
            raise ValueError(
                f"an utterance has {int(current.lengths.max())} frames: this model reads one vector"
            )
        standardized = (current.values[:, 0] - self.mean) / self.deviation  # (batch, dims)
        return Output(self.linear(standardized), standardized, {})
