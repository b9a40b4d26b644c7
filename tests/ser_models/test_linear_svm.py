"""LinearSVM against scikit-learn's own pipeline."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn.svm
import torch
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ser_models.linear_svm import LinearSVM
from ser_models.sequences import Padded

DIMS = 12


def _data(classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping classes of unequal sizes. Scales of descriptors differ; number 3 is constant."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), np.arange(1, classes + 1) * 15)
    vectors = rng.normal(size=(len(labels), DIMS)) + rng.normal(size=(classes, DIMS))[labels]
    vectors = vectors * np.logspace(-2, 3, DIMS) + 7
    vectors[:, 3] = 1.5
    return vectors.astype(np.float32), labels


def _padded(vectors: NDArray[np.float32]) -> Padded:
    return Padded(torch.from_numpy(vectors)[:, None], torch.ones(len(vectors), dtype=torch.int64))


def _pipeline(c: float, seed: int) -> object:
    machine = LinearSVC(
        C=c, class_weight="balanced", dual="auto", random_state=seed, max_iter=20_000
    )
    return make_pipeline(StandardScaler(), machine)


@pytest.mark.parametrize("c", [0.001, 1.0])
def test_logits_are_scikit_learns_decision_values(c: float) -> None:
    vectors, labels = _data(4)
    model = LinearSVM(DIMS, 4, c=c)
    model.fit(vectors, labels, seed=3)
    expected = _pipeline(c, 3).fit(vectors.astype(np.float64), labels).decision_function(vectors)
    output = model.eval()(_padded(vectors))
    np.testing.assert_allclose(output.logits.detach(), expected, atol=1e-4)
    assert output.attention == {}


def test_two_classes_have_two_logits() -> None:
    vectors, labels = _data(2)
    model = LinearSVM(DIMS, 2)
    model.fit(vectors, labels, seed=0)
    pipeline = _pipeline(0.001, 0).fit(vectors.astype(np.float64), labels)
    logits = model(_padded(vectors)).logits.detach().numpy()
    decision = pipeline.decision_function(vectors)
    np.testing.assert_allclose(logits, np.stack([-decision, decision], axis=1), atol=1e-4)
    assert (logits.argmax(1) == pipeline.predict(vectors)).all()


def test_a_state_dict_restores_a_fitted_machine() -> None:
    vectors, labels = _data(3)
    fitted, restored = LinearSVM(DIMS, 3), LinearSVM(DIMS, 3)
    fitted.fit(vectors, labels, seed=0)
    restored.load_state_dict(fitted.state_dict())
    assert torch.equal(restored(_padded(vectors)).logits, fitted(_padded(vectors)).logits)


def test_the_number_of_parameters_for_988_functionals() -> None:
    count = sum(p.numel() for p in LinearSVM(988, 4).parameters())
    assert count == 4 * (988 + 1)
    assert f"{count:,} parameters" in LinearSVM.__doc__


def test_a_machine_that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_iteration(**settings: object) -> LinearSVC:
        return LinearSVC(**(settings | {"max_iter": 1, "dual": True}))

    monkeypatch.setattr(sklearn.svm, "LinearSVC", one_iteration)
    with pytest.raises(RuntimeError, match=r"did not converge with c = 10\.0"):
        LinearSVM(DIMS, 4, c=10.0).fit(*_data(4), seed=0)


def test_importing_the_models_does_not_import_scikit_learn() -> None:
    program = "import sys; from ser_models import MODELS; "
    program += "[model.network_class for model in MODELS.values()]; "
    program += "sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_wrong_data_are_named() -> None:
    vectors, labels = _data(3)
    with pytest.raises(ValueError, match=r"vectors are \(90, 12\), but .* needs \(n, 13\)"):
        LinearSVM(DIMS + 1, 3).fit(vectors, labels, seed=0)
    with pytest.raises(ValueError, match=r"labels are \[0, 1, 2\], but .* each of 0 to 3"):
        LinearSVM(DIMS, 4).fit(vectors, labels, seed=0)
    with pytest.raises(ValueError, match="an utterance has 2 frames"):
        LinearSVM(DIMS, 3)(Padded(torch.zeros(1, 2, DIMS), torch.tensor([2])))


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"classes": 1}, {"c": 0.0}], ids=str)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        LinearSVM(**({"dims": DIMS, "classes": 4} | wrong))
