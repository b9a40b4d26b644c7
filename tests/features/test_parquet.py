"""Parquet bytes that are not the expected table are refused before their values are used."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.parquet import ParquetError, check_seal, read_table, sealed_name

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
TABLE = pa.table({"a": [1, 2], "b": ["x", None]}, schema=SCHEMA)


class Opaque(pa.ExtensionType):
    """An extension type of some other library."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "tests.opaque")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, data: bytes) -> "Opaque":
        return cls()


def encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def test_a_table_is_read_whole_or_in_part() -> None:
    assert read_table(encode(TABLE), SCHEMA) == TABLE
    assert read_table(encode(TABLE), SCHEMA, ["b"]) == TABLE.select(["b"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "not a Parquet file", id="empty"),
        pytest.param(encode(TABLE)[:-20], "not a Parquet file", id="truncated"),
        pytest.param(
            encode(TABLE.drop_columns(["b"])), r"no column b \(columns: a\)", id="missing"
        ),
        pytest.param(
            encode(TABLE.set_column(0, "a", pa.array([1.0, 2.0]))),
            "column a is double instead of int64",
            id="another type",
        ),
        pytest.param(
            encode(TABLE.append_column("a", pa.array([1, 2]))), "repeated: a, b, a", id="repeated"
        ),
    ],
)
def test_other_bytes_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ParquetError, match=words):
        read_table(data, SCHEMA)


def test_a_registered_extension_type_is_refused() -> None:
    """pyarrow runs the code of registered types; Ray registers one that unpickles its values."""
    pa.register_extension_type(Opaque())
    try:
        array = pa.ExtensionArray.from_storage(Opaque(), pa.array([1, 2]))
        with pytest.raises(ParquetError, match="column c has the extension type"):
            read_table(encode(TABLE.append_column("c", array)), SCHEMA)
    finally:
        pa.unregister_extension_type("tests.opaque")


def test_a_seal_holds_for_its_own_bytes_only() -> None:
    data = encode(TABLE)
    check_seal(sealed_name("speaker=s/x", data), data)
    for name in (sealed_name("speaker=s/x", data[:-1]), "speaker=s/x.parquet"):
        with pytest.raises(ParquetError, match="SHA-256"):
            check_seal(name, data)
