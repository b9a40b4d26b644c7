"""The contract of a model, checked on random input. For models that are not built in.

A model's output for an utterance depends on the real frames of this utterance and of its context
turns, and in evaluation on nothing else. All that a model learns is a parameter or a buffer of its
`state_dict`, or a trial could not be resumed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ser_models.base import EmotionModel
from ser_models.sequences import Output, Padded

ROWS = 4
LENGTHS = ([23, 17, 9, 20], [12, 0, 18, 7], [6, 21, 0, 0])
"""Frames of the current turns, and of both kinds of context turns."""
PADDING = 7
TOLERANCE = 1e-4


class ContractError(ValueError):
    """A model that breaks the contract. The message says how."""


def check_contract(
    build: Callable[[], EmotionModel], dims: int, classes: int, speakers: int, vector: bool = False
) -> None:
    """Raise ContractError if a network breaks the contract. Random numbers are drawn from a fork.

    build : returns the network with fresh weights
    dims, classes, speakers : of `ser_models.Sizes`
    vector : whether an utterance is one vector, not a sequence of frames
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        lengths = ([1] * ROWS, *LENGTHS[1:]) if vector else LENGTHS
        turns = [_padded(each, dims) for each in lengths]
        _check_training(model, turns, classes, speakers)
        with torch.no_grad():
            _check_evaluation(model.eval(), turns, classes)


def _padded(lengths: list[int], dims: int) -> Padded:
    values = torch.randn(len(lengths), max(lengths), dims)
    padded = Padded(values, torch.tensor(lengths))
    return Padded(torch.where(padded.mask[:, :, None], values, 0), padded.lengths)


def _run(model: EmotionModel, turns: list[Padded], classes: int) -> Output:
    try:
        output = model(*turns)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ContractError(f"forward fails: {type(error).__name__}: {line}") from error
    if not isinstance(output, Output):
        raise ContractError(
            f"forward returns a {type(output).__name__}, not a ser_models.sequences.Output"
        )
    rows = len(turns[0].lengths)
    for name, value, expected in (
        ("logits", output.logits, (rows, classes)),
        ("embedding", output.embedding, (rows, None)),
    ):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        fits = isinstance(shape, tuple) and len(shape) == 2 and shape[0] == rows
        if not fits or expected[1] not in (None, shape[1]):
            wanted = "(batch, embedding)" if expected[1] is None else "(batch, classes)"
            raise ContractError(
                f"{name} has the shape {shape}, but must be {wanted}, with {rows} rows"
                + (f" and {classes} classes" if expected[1] else "")
            )
    if not torch.isfinite(output.logits).all():
        raise ContractError("logits are not finite for random input")
    return output


def _check_training(model: EmotionModel, turns: list[Padded], classes: int, speakers: int) -> None:
    """Raise ContractError for parameters without a gradient, and for undeclared state."""
    labels = torch.arange(ROWS) % classes
    model.train()
    before = _undeclared(model)
    output = _run(model, turns, classes)
    loss = nn.functional.cross_entropy(output.logits, labels, reduction="sum")
    extra = model.extra_loss(output, labels, torch.arange(ROWS) % speakers)
    loss = sum((term for term in (extra, output.penalty) if term is not None), loss)
    try:
        loss.backward()
    except RuntimeError as error:
        raise ContractError(f"the loss has no gradient: {str(error).splitlines()[0]}") from error
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise ContractError(f"the parameter {name} gets no gradient from the loss")
    model.after_step(output.embedding.detach(), labels)
    after = _undeclared(model)
    for name, value in after.items():
        if name not in before or not _same(before[name], value):
            raise ContractError(
                f"training changes {name}, which is not in state_dict: a resumed trial would lose "
                f"it. Use register_buffer"
            )


def _undeclared(model: nn.Module) -> dict[str, Any]:
    """Copies of tensors and plain numbers of all modules that `state_dict` does not have."""
    saved = model.state_dict().keys()
    values: dict[str, Any] = {}
    for path, module in model.named_modules():
        own = {**module.__dict__, **module._buffers}
        for name, value in own.items():
            full = f"{path}.{name}".lstrip(".")
            if full in saved or name == "training":
                continue
            if isinstance(value, Tensor):
                values[full] = value.detach().clone()
            elif isinstance(value, int | float):
                values[full] = value
    return values


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.equal(first, second)
    return type(first) is type(second) and bool(first == second)


def _check_evaluation(model: EmotionModel, turns: list[Padded], classes: int) -> None:
    """Raise ContractError if an output depends on more than its utterance and context turns."""
    expected = _run(model, turns, classes)
    if not _close(_run(model, turns, classes), expected, 0.0):
        raise ContractError(
            "evaluation is not deterministic: the same batch has other outputs at a second time"
        )
    longer = []
    for turn in turns:
        frames = 0 if turn.values.shape[1] == 1 else PADDING
        values = nn.functional.pad(turn.values, (0, 0, 0, frames))
        mask = Padded(values, turn.lengths).mask[:, :, None]
        longer.append(Padded(torch.where(mask, values, 1e3), turn.lengths))
    if not _close(_run(model, longer, classes), expected):
        raise ContractError(
            "the output depends on padding: frames after an utterance's length must not count. "
            "Use Padded.mask"
        )
    for row in range(ROWS):
        alone = [Padded(t.values[row : row + 1], t.lengths[row : row + 1]) for t in turns]
        part = Output(expected.logits[row : row + 1], expected.embedding[row : row + 1], {})
        if not _close(_run(model, alone, classes), part):
            raise ContractError(
                "in evaluation, the output depends on other utterances of the batch"
            )


def _close(output: Output, expected: Output, tolerance: float = TOLERANCE) -> bool:
    return all(
        torch.allclose(first, second, rtol=tolerance, atol=tolerance)
        for first, second in (
            (output.logits, expected.logits),
            (output.embedding, expected.embedding),
        )
    )
