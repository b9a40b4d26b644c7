"""Sealed records: every byte counts."""

import pytest

from orchestrator.errors import LedgerError
from orchestrator.ledger.seals import canonical_json, seal, unseal


def test_every_byte_of_a_sealed_record_counts() -> None:
    data = seal({"score": 0.5, "name": "x"})
    assert unseal(data) == {"score": 0.5, "name": "x"}
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(LedgerError):
            unseal(changed)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no checksum"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff", id="not text"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b'{"sha256":' + b"9" * 5000 + b"}", id="long number"),
    ],
)
def test_other_bytes_are_not_a_sealed_record(data: bytes) -> None:
    with pytest.raises(LedgerError):
        unseal(data)


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
