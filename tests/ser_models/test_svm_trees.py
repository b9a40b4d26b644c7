"""SVM Trees against trees that are built and walked one by one, and scikit-learn's machines."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.sequences import Padded
from ser_models.svm_trees import SVMTrees, all_splits, split_count, tree_count

DIMS = 12
Tree = int | tuple["Tree", "Tree"]
Array = NDArray[np.float64]


def leaves(tree: Tree) -> frozenset[int]:
    return frozenset([tree]) if isinstance(tree, int) else leaves(tree[0]) | leaves(tree[1])


def binary_trees(classes: list[int]) -> list[Tree]:
    """Every binary tree with these leaves: a new leaf is grafted onto every edge of each tree."""
    if len(classes) == 1:
        return [classes[0]]

    def grafted(tree: Tree, leaf: int) -> Iterator[Tree]:
        yield (tree, leaf)
        if not isinstance(tree, int):
            yield from ((side, tree[1]) for side in grafted(tree[0], leaf))
            yield from ((tree[0], side) for side in grafted(tree[1], leaf))

    *others, last = classes
    return [new for tree in binary_trees(others) for new in grafted(tree, last)]


Machine = Callable[[frozenset[int], frozenset[int]], float]


def leaf_of(tree: Tree, decision: Machine) -> int:
    while not isinstance(tree, int):
        tree = tree[0] if decision(leaves(tree[0]), leaves(tree[1])) > 0 else tree[1]
    return tree


def soft_votes(tree: Tree, decision: Machine) -> dict[int, float]:
    if isinstance(tree, int):
        return {tree: 1.0}
    share = expit(decision(leaves(tree[0]), leaves(tree[1])))
    return {
        leaf: part * value
        for side, part in zip(tree, (share, 1 - share), strict=True)
        for leaf, value in soft_votes(side, decision).items()
    }


def logits_of(decisions: Array, model: SVMTrees, classes: int) -> Array:
    """The logits of one utterance by definition, from the decision values of all machines."""
    of_split = {}
    for value, (first, second) in zip(decisions, model.splits, strict=True):
        of_split[frozenset(first), frozenset(second)] = value
        of_split[frozenset(second), frozenset(first)] = -value
    forest = binary_trees(list(range(classes)))
    votes, soft = np.zeros(classes), np.zeros(classes)
    for tree in forest:
        votes[leaf_of(tree, lambda a, b: of_split[a, b])] += 1
        for leaf, value in soft_votes(tree, lambda a, b: of_split[a, b]).items():
            soft[leaf] += value / len(forest)
    return np.log(votes + soft) - np.log(len(forest) + 1)


def _data(classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping classes of unequal sizes. Scales of descriptors differ; number 3 is constant."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), np.arange(1, classes + 1) * 15)
    vectors = rng.normal(size=(len(labels), DIMS)) + rng.normal(size=(classes, DIMS))[labels]
    vectors = vectors * np.logspace(-2, 3, DIMS) + 7
    vectors[:, 3] = 1.5
    return vectors.astype(np.float32), labels


def _padded(vectors: NDArray[np.floating]) -> Padded:
    return Padded(torch.from_numpy(vectors)[:, None], torch.ones(len(vectors), dtype=torch.int64))


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 6])
def test_the_counts_of_trees_and_machines(classes: int) -> None:
    forest = binary_trees(list(range(classes)))
    assert len(forest) == tree_count(classes) == math.prod(range(2 * classes - 3, 0, -2))
    nodes = {
        frozenset([leaves(node[0]), leaves(node[1])])
        for tree in forest
        for node in inner_nodes(tree)
    }
    splits = {frozenset([frozenset(a), frozenset(b)]) for a, b in all_splits(classes)}
    assert splits == nodes  # every split is in a tree, and the trees need no other
    assert len(all_splits(classes)) == len(splits) == split_count(classes)


def inner_nodes(tree: Tree) -> Iterator[tuple[Tree, Tree]]:
    if not isinstance(tree, int):
        yield tree
        yield from inner_nodes(tree[0])
        yield from inner_nodes(tree[1])


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_the_logits_are_those_of_trees_that_are_walked(classes: int) -> None:
    torch.manual_seed(classes)
    model = SVMTrees(DIMS, classes).double()
    torch.nn.init.normal_(model.linear.weight)
    torch.nn.init.normal_(model.linear.bias)
    vectors = np.random.default_rng(classes).normal(size=(20, DIMS))
    output = model(_padded(vectors))
    decisions = model.linear(torch.from_numpy(vectors)).detach().numpy()
    for row in range(20):
        expected = logits_of(decisions[row], model, classes)
        np.testing.assert_allclose(output.logits[row].detach(), expected, atol=1e-12)
    sums = output.logits.exp().sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_far_vectors_have_finite_logits_and_gradients() -> None:
    """A product of shares is then below the smallest number of float64."""
    model = SVMTrees(DIMS, 4)
    torch.nn.init.normal_(model.linear.weight)
    logits = model(_padded(1e6 * np.eye(DIMS, dtype=np.float32))).logits
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert torch.isfinite(model.linear.weight.grad).all()


@pytest.mark.parametrize("c", [0.001, 1.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_each_machine_is_scikit_learns_with_classes_of_equal_weight(classes: int, c: float) -> None:
    """Each vector of a class counts 1 / size of its class, and all weights have the mean 1."""
    vectors, labels = _data(classes)
    model = SVMTrees(DIMS, classes, c=c)
    model.fit(vectors, labels, seed=3)
    scores = StandardScaler().fit_transform(vectors.astype(np.float64))
    decisions = model.decisions(_padded(vectors))[1].detach().numpy()
    for number, (first, second) in enumerate(model.splits):
        rows = [row for row, name in enumerate(labels) if name in first + second]
        weights = np.asarray([1 / np.sum(labels == labels[row]) for row in rows])
        machine = LinearSVC(C=c, dual="auto", random_state=3, max_iter=20_000)
        positive = [labels[row] in first for row in rows]
        machine.fit(scores[rows], positive, sample_weight=weights / weights.mean())
        expected = machine.decision_function(scores)
        np.testing.assert_allclose(decisions[:, number], expected, atol=1e-4)


def test_it_recognises_the_classes_of_its_training_part() -> None:
    vectors, labels = _data(4)
    model = SVMTrees(DIMS, 4, c=1.0)
    model.fit(vectors, labels, seed=0)
    predicted = model(_padded(vectors)).logits.argmax(1).numpy()
    recalls = [np.mean(predicted[labels == name] == name) for name in range(4)]
    assert min(recalls) > 0.8  # chance is 0.25


def test_a_state_dict_restores_fitted_trees() -> None:
    vectors, labels = _data(3)
    fitted, restored = SVMTrees(DIMS, 3), SVMTrees(DIMS, 3)
    fitted.fit(vectors, labels, seed=0)
    restored.load_state_dict(fitted.state_dict())
    assert torch.equal(restored(_padded(vectors)).logits, fitted(_padded(vectors)).logits)


def test_the_number_of_parameters_for_988_functionals() -> None:
    model = MODELS["svm_trees"](Sizes(988, 4))
    count = sum(p.numel() for p in model.parameters())
    assert count == 25 * (988 + 1)
    assert f"{count:,} parameters" in SVMTrees.__doc__


def test_more_than_six_classes_are_refused_with_the_number_of_machines() -> None:
    assert SVMTrees(DIMS, 6).linear.out_features == 301
    message = "classes is 7: all trees need 966 support vector machines.* at most 6 .* 301"
    with pytest.raises(ValueError, match=message):
        SVMTrees(DIMS, 7)


def test_wrong_data_are_named(build: Callable[..., EmotionModel]) -> None:
    vectors, labels = _data(3)
    with pytest.raises(ValueError, match=r"vectors are \(90, 12\), but .* needs \(n, 13\)"):
        SVMTrees(DIMS + 1, 3).fit(vectors, labels, seed=0)
    with pytest.raises(ValueError, match=r"labels are \[0, 1, 2\], but .* each of 0 to 3"):
        SVMTrees(DIMS, 4).fit(vectors, labels, seed=0)
    with pytest.raises(ValueError, match="an utterance has 2 frames"):
        build("svm_trees")(Padded(torch.zeros(1, 2, 20), torch.tensor([2])))


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"classes": 1}, {"c": 0.0}], ids=str)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        SVMTrees(**({"dims": DIMS, "classes": 4} | wrong))
