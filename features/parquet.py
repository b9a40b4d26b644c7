"""Parquet bytes from any writer as tables of Arrow's own types."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetError(ValueError):
    """Bytes that are not the expected table. The message is one line."""


def read_table(
    data: bytes | pa.Buffer, schema: pa.Schema | None = None, columns: list[str] | None = None
) -> pa.Table:
    """Read a Parquet file, or some of its columns, and verify its page checksums.

    schema : columns that the file must have, with their types
    columns : the columns of `schema` to read; None reads all columns of the file

    Raises ParquetError for bytes that are not Parquet or are damaged; for a column that is
    missing, repeated or of another type; and for extension types, because other libraries may
    run code to read them.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check(file.schema_arrow, schema)
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)
        return table
    except ParquetError:
        raise
    # pyarrow reports some damage as OSError or UnicodeDecodeError. The bytes are already in
    # memory, so none of these errors comes from the storage.
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ParquetError(f"not a Parquet file, or damaged: {lines[0]}") from None


def _check(actual: pa.Schema, schema: pa.Schema | None) -> None:
    if len(set(actual.names)) < len(actual.names):
        raise ParquetError(f"a column name is repeated: {', '.join(actual.names)}")
    for field in actual:
        if _has_extension(field.type):
            raise ParquetError(f"column {field.name} has the extension type {field.type}")
    for field in schema or []:
        if field.name not in actual.names:
            raise ParquetError(f"no column {field.name} (columns: {', '.join(actual.names)})")
        kind = actual.field(field.name).type
        if kind != field.type:
            raise ParquetError(f"column {field.name} is {kind} instead of {field.type}")


def _has_extension(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extension, inner))


def sealed_name(stem: str, data: bytes | pa.Buffer) -> str:
    """A file name that contains the SHA-256 of its content."""
    return f"{stem}-{hashlib.sha256(data).hexdigest()}.parquet"


def check_seal(name: str, data: bytes | pa.Buffer) -> None:
    """Raise ParquetError if `data` does not match the SHA-256 in its `sealed_name`."""
    if not name.endswith(sealed_name("", data)):
        raise ParquetError("its SHA-256 is not the one in its name")
