"""SVM Trees: all binary trees over the classes, with a support vector machine at each split."""

from itertools import combinations, groupby
from math import log, prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from ser_models.linear_svm import Planes, SupportVectorMachines, solve
from ser_models.sequences import Output, Padded, traced

MOST_CLASSES = 6

Classes = tuple[int, ...]


class Split(NamedTuple):
    """A division of a set of classes in two. `first` has the smallest class."""

    first: Classes
    second: Classes

    @property
    def both(self) -> Classes:
        """The set that is divided, in ascending order."""
        return tuple(sorted(self.first + self.second))


def all_splits(classes: int) -> list[Split]:
    """Every division of every set of at least two classes. Small sets come first."""
    splits = []
    for size in range(2, classes + 1):
        for smallest, *others in combinations(range(classes), size):
            for count in range(size - 1):
                for joined in combinations(others, count):
                    rest = tuple(name for name in others if name not in joined)
                    splits.append(Split((smallest, *joined), rest))
    return splits


def split_count(classes: int) -> int:
    """The number of `all_splits`: (3^C - 2^(C + 1) + 1) / 2."""
    return (3**classes - 2 ** (classes + 1) + 1) // 2


def tree_count(leaves: int) -> int:
    """The number of binary trees with these labelled leaves: (2C - 3)!!."""
    return prod(range(1, 2 * leaves - 2, 2))


def _log_of_sum(first: Tensor, second: Tensor) -> Tensor:
    """log(exp(first) + exp(second))."""
    if traced():  # ONNX has no logaddexp
        return torch.logsumexp(torch.stack([first, second]), dim=0)
    return torch.logaddexp(first, second)


class SVMTrees(SupportVectorMachines):
    """Ensemble of trees with binary support vector machines in their nodes (Rozgić et al. 2012).

    x~ = (x - mean) / deviation. The machine of a split A|B is f(x) = w . x~ + b, trained on the
    utterances of the classes A (positive) and B. A tree sends x from its root to a leaf by the sign
    of f at each node.
    votes_c = number of trees whose leaf is c;  soft_c = mean over trees of the product of
    sigmoid(+-f) over the nodes on the path to c;
    logits_c = log(votes_c + soft_c) - log(trees + 1).
    24,725 parameters with 988 functionals and 4 classes: 25 machines, which form 15 trees.

    The softmax of the logits is (votes + soft) / (trees + 1): the soft votes, which sum to one
    vote, break ties. It is not a calibrated posterior.

    Source: Rozgić et al., APSIPA 2012. Its abstract names automatically generated trees with binary
    support vector machines in the nodes, a set of classes at each node, and voting. The rest is
    ours: every binary tree over the classes votes, trees share the machine of a split, and in each
    machine all classes have the same weight, whatever their sizes.

    c : price of a margin violation, the same for all machines. 0.001 is ours, as in `LinearSVM`
    current : (batch, 1, dims)
    returns : no attention; the embedding is the standardised vector (batch, dims)

    Raises ValueError for more than 6 classes: their splits are too many.
    """

    def __init__(self, dims: int, classes: int, *, c: float = 0.001) -> None:
        if classes > MOST_CLASSES:
            raise ValueError(
                f"classes is {classes}: all trees need {split_count(classes)} support vector "
                f"machines. This model takes at most {MOST_CLASSES} classes, with "
                f"{split_count(MOST_CLASSES)} machines. Use linear_svm, or merge classes"
            )
        splits = all_splits(classes)
        super().__init__(dims, classes, len(splits), c)
        self.splits = splits

    def hyperplanes(
        self, vectors: NDArray[np.float64], labels: NDArray[np.integer], seed: int
    ) -> Planes:
        sizes, planes = np.bincount(labels), []
        for split in self.splits:
            rows = np.flatnonzero(np.isin(labels, split.both))
            # The weights are 1 on average, so that c has the same meaning in all machines.
            weights = len(rows) / (len(split.both) * sizes[labels[rows]])
            positive = np.isin(labels[rows], split.first).astype(np.int64)
            planes.append(solve(vectors[rows], positive, self.c, seed, weights))
        return np.concatenate([p for p, _ in planes]), np.concatenate([b for _, b in planes])

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        standardized, decisions = self.decisions(current)
        exact = decisions.double()  # so that equal votes stay equal
        of_first = torch.where(exact > 0, 0.0, -torch.inf).to(exact)
        of_second = torch.where(exact > 0, -torch.inf, 0.0).to(exact)
        votes = self._over_trees(of_first, of_second)
        soft = self._over_trees(logsigmoid(exact), logsigmoid(-exact))
        count = tree_count(self.classes)
        logits = _log_of_sum(votes, soft - log(count)) - log(count + 1)
        return Output(logits.to(decisions.dtype), standardized, {})

    def _over_trees(self, first: Tensor, second: Tensor) -> Tensor:
        """Logarithm of the sum over all trees of the product of shares on the path to each class.

        The trees over a set of classes are, for each of its splits, the trees over `first` joined
        with the trees over `second`. Sums over smaller sets therefore give those over larger sets,
        and no tree is walked. In logarithms, small products do not become 0.

        first, second : (batch, machines)   logarithm of the share of x that goes to each side
        returns : (batch, classes)
        """
        sums: dict[Classes, Tensor] = {
            (name,): torch.zeros_like(first[:, :1]) for name in range(self.classes)
        }
        for both, members in groupby(enumerate(self.splits), key=lambda member: member[1].both):
            terms = []
            for machine, (left, right) in members:
                to_left = first[:, machine, None] + sums[left] + log(tree_count(len(right)))
                to_right = second[:, machine, None] + sums[right] + log(tree_count(len(left)))
                order = [(left + right).index(name) for name in both]
                terms.append(torch.cat([to_left, to_right], dim=1)[:, order])
            sums[both] = torch.logsumexp(torch.stack(terms), dim=0)  # (batch, classes of the set)
        return sums[tuple(range(self.classes))]
