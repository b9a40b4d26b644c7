"""Bytes that can be verified: SHA-256, canonical JSON, and records that hold their own checksum."""

import hashlib
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import LedgerError


def sha256(data: bytes) -> str:
    """Hex digest of `data`."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and without spaces. Ids and checksums are computed from it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def seal(value: dict[str, Any]) -> bytes:
    """Canonical JSON of `value` with its own SHA-256 in it."""
    return canonical_json({**value, "sha256": sha256(canonical_json(value))})


def unseal(data: bytes) -> dict[str, Any]:
    """The value that was sealed. Raises LedgerError if a byte of it has changed."""
    try:
        value = json.loads(data)
        digest = value.pop("sha256")
        intact = digest == sha256(canonical_json(value))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise LedgerError(f"not a sealed record: {error}") from None
    if not intact:
        raise LedgerError("its content does not match its SHA-256")
    return dict(value)


def parquet_bytes(table: pa.Table) -> bytes:
    """`table` as a Parquet file in memory. The same rows give the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
