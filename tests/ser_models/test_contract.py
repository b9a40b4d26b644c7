"""The contract of a model: every built-in model keeps it, and each breach is named."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ser_models import MODELS, EmotionModel
from ser_models.contract import ContractError, check_contract
from ser_models.sequences import Output, Padded
from tests.ser_models.conftest import CLASSES, DIMS, SPEAKERS

Build = Callable[..., EmotionModel]


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if not model.fitted])
def test_every_network_keeps_the_contract(name: str, build: Build) -> None:
    dims, vector = DIMS[MODELS[name].features], MODELS[name].reads == "vector"
    torch.manual_seed(3)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    network = build(name)
    torch.manual_seed(3)
    check_contract(lambda: network, dims, CLASSES, SPEAKERS, vector)
    assert torch.equal(torch.rand(3), drawn)  # the check draws no numbers of the caller


class Mean(EmotionModel):
    """A mean over the real frames, which keeps the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 6)
        self.output = nn.Linear(6, CLASSES)
        self.calls = 0

    def mean(self, current: Padded) -> Tensor:
        return (current.values * current.mask[:, :, None]).sum(1) / current.lengths[:, None]

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        embedding = self.hidden(self.mean(current))
        return Output(self.output(embedding), embedding, {})


class FewClasses(Mean):
    def forward(self, current: Padded, *context: Padded | None) -> Output:
        return super().forward(current)._replace(logits=torch.zeros(4, CLASSES - 1))


class FlatEmbedding(Mean):
    def forward(self, current: Padded, *context: Padded | None) -> Output:
        output = super().forward(current)
        return output._replace(embedding=output.embedding[0])


class PlainLogits(Mean):
    def forward(self, current: Padded, *context: Padded | None) -> Any:
        return super().forward(current).logits


class Unused(Mean):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(3, 3)


class Detached(Mean):
    def forward(self, current: Padded, *context: Padded | None) -> Output:
        output = super().forward(current)
        return output._replace(logits=output.logits.detach())


class Padding(Mean):
    def mean(self, current: Padded) -> Tensor:
        return current.values.mean(1)


class Neighbours(Mean):
    def mean(self, current: Padded) -> Tensor:
        mean = super().mean(current)
        return mean - mean.mean(0)


class Random(Mean):
    def mean(self, current: Padded) -> Tensor:
        return nn.functional.dropout(super().mean(current), 0.5)


class Hidden(Mean):
    def mean(self, current: Padded) -> Tensor:
        mean = super().mean(current)
        self.level = mean.detach().mean()
        return mean


class Counting(Mean):
    def mean(self, current: Padded) -> Tensor:
        self.calls += 1
        return super().mean(current)


class Failing(Mean):
    def mean(self, current: Padded) -> Tensor:
        return current.values @ torch.zeros(7, 7)


class NotFinite(Mean):
    def mean(self, current: Padded) -> Tensor:
        return super().mean(current).log()


def test_the_model_of_the_faults_keeps_the_contract() -> None:
    check_contract(Mean, 5, CLASSES, SPEAKERS)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (FewClasses, r"logits has the shape \(4, 3\), but must be \(batch, classes\)"),
        (FlatEmbedding, r"embedding has the shape \(6,\), but must be \(batch, embedding\)"),
        (PlainLogits, "forward returns a Tensor, not a ser_models.sequences.Output"),
        (Unused, "the parameter forgotten.weight gets no gradient"),
        (Detached, "the loss has no gradient"),
        (Padding, "the output depends on padding"),
        (Neighbours, "depends on other utterances of the batch"),
        (Random, "evaluation is not deterministic"),
        (Hidden, "training changes level, which is not in state_dict"),
        (Counting, "training changes calls, which is not in state_dict"),
        (Failing, "forward fails: RuntimeError"),
        (NotFinite, "logits are not finite"),
    ],
)
def test_a_breach_is_named_in_one_line(kind: type[Mean], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        check_contract(kind, 5, CLASSES, SPEAKERS)
    assert "\n" not in str(caught.value)
