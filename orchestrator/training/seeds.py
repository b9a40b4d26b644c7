"""Seeds: every random draw depends on its purpose alone, never on the draws before it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: object) -> int:
    """Return a 63-bit seed from the SHA-256 of `parts`, which name the purpose."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Seed Torch's generators by `parts`, and restore their state at the end."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derived_seed(*parts))
        yield
