"""Parquet bytes as tables of Arrow's own types, whoever wrote them."""

import hashlib
import re

import pyarrow as pa
import pyarrow.parquet as pq

MOST_ROWS = 10**8
"""Of one file. A few bytes can claim any number, and each row would be given memory."""
_SEALED = re.compile(r"-([0-9a-f]{64})\.parquet")


class ParquetError(ValueError):
    """Bytes that are not the table that they should be. The message is one line."""


def read_table(
    data: bytes | pa.Buffer,
    schema: pa.Schema | None = None,
    columns: list[str] | None = None,
) -> pa.Table:
    """A Parquet file's table, all of it or some columns, with its page checksums verified.

    schema : columns that must be there, with types that theirs must equal
    columns : what is read; of the file's columns each where None

    Raises ParquetError for bytes that are no Parquet file or a damaged one, a column that is
    missing, there twice or of another type, extension types (other libraries give them a
    meaning), and more than `MOST_ROWS` rows.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        if file.metadata.num_rows > MOST_ROWS:
            raise ParquetError(f"it claims {file.metadata.num_rows} rows")
        _check(file.schema_arrow, schema, columns or [])
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)
        return table
    except ParquetError:
        raise
    # pyarrow says OSError of some damage, and UnicodeDecodeError of names; what the storage
    # itself has to say was said when the bytes were read.
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        message = f"not a Parquet file, or a damaged one: {lines[0]}"
        raise ParquetError(message) from None


def _check(found: pa.Schema, schema: pa.Schema | None, columns: list[str]) -> None:
    if len(set(found.names)) < len(found.names):
        raise ParquetError(f"a column is there twice: {', '.join(found.names)}")
    for field in found:
        if _has_extension(field.type):
            raise ParquetError(f"column {field.name} has the extension type {field.type}")
    expected = {field.name: field.type for field in schema or []}
    for name in dict.fromkeys([*expected, *columns]):
        if name not in found.names:
            raise ParquetError(f"no column {name} among {', '.join(found.names) or 'none'}")
        kind = found.field(name).type
        if name in expected and kind != expected[name]:
            raise ParquetError(f"column {name} is {kind} and not {expected[name]}")


def _has_extension(kind: pa.DataType) -> bool:
    inner = [kind.field(index).type for index in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extension, inner))


def sealed_name(stem: str, data: bytes | pa.Buffer) -> str:
    """A file name that holds the SHA-256 of what is to be written under it."""
    return f"{stem}-{hashlib.sha256(data).hexdigest()}.parquet"


def check_seal(name: str, data: bytes | pa.Buffer) -> None:
    """Raise ParquetError where `data` is not what a `sealed_name` was given for.

    A name without a SHA-256 is of a file that was written before names had one.
    """
    match = _SEALED.search(name)
    if match and hashlib.sha256(data).hexdigest() != match[1]:
        raise ParquetError("it has not the SHA-256 that is in its name")
