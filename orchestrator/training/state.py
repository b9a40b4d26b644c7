"""The state of a fold as a safetensors file. Reading the file never runs code.

Tensors are named `model.<name>` (the weights of the last epoch), `best.<name>` (the weights of the
best epoch) and `optimizer.<parameter number>.<key>`. The metadata holds `Progress` as JSON.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


class StateError(ValueError):
    """A file from which a fold cannot resume. The message says why."""


class Progress(BaseModel):
    """The epochs that a fold has trained, its best epoch and the score of that epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    best_epoch: int
    best_score: float


class State(NamedTuple):
    """All that another process needs to continue a fold to the same bits."""

    progress: Progress
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors `<prefix>.<name>` by name."""
        start = f"{prefix}."
        names = (name for name in self.tensors if name.startswith(start))
        return {name.removeprefix(start): self.tensors[name] for name in names}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `<prefix>.` before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def pack(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return tensors of any device as the bytes of a safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)


def pack_state(state: State) -> bytes:
    """Return the bytes of a state."""
    return pack(state.tensors, {"progress": json.dumps(state.progress.model_dump())})


def unpack_state(data: bytes, templates: Mapping[str, Tensor]) -> State:
    """Read a state. `templates` are tensors with the names, shapes and types to expect.

    Raises StateError if the bytes are not such a state.
    """
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        progress = Progress.model_validate(json.loads(header["__metadata__"]["progress"]))
    except (SafetensorError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise StateError(f"not the state of a fold: {type(error).__name__}: {reason}") from None
    if odd := sorted(tensors.keys() ^ templates.keys()):
        raise StateError(f"the state of another model: only one of the two has {odd[0]}")
    for name, template in templates.items():
        stored, expected = (
            f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            for tensor in (tensors[name], template)
        )
        if stored != expected:
            raise StateError(f"the state of another model: {name} is {stored}, not {expected}")
    return State(progress, tensors)
