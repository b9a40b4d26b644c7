"""Arrow arrays of Python values.

pyarrow's own function, `pa.array`, imports pandas at its first call. That takes 0.3 s in each
process that extracts features. Extraction by a manifest does not need pandas otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def arrow_column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make an array of numbers, texts, or lists of numbers, any of which may be None.

    The values must have the type already: numbers are not checked.

    Raises ArrowInvalid if the texts or the lists are too long for one array (2**31 - 1 elements).
    """
    known = np.array([value is not None for value in values], bool)
    present = [value for value in values if value is not None]
    valid = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    if not (pa.types.is_string(kind) or pa.types.is_list(kind)):
        numbers = np.zeros(len(values), kind.to_pandas_dtype())
        numbers[known] = present
        return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(numbers)])
    texts = pa.types.is_string(kind)
    dtype = None if texts else kind.value_type.to_pandas_dtype()
    parts: list[Any] = [part.encode() if texts else np.asarray(part, dtype) for part in present]
    lengths = np.zeros(len(values) + 1, np.int64)
    lengths[1:][known] = [len(part) for part in parts]
    ends = pa.py_buffer(np.cumsum(lengths))
    offsets = pa.Array.from_buffers(pa.int64(), len(lengths), [None, ends]).cast(pa.int32())
    if texts:
        buffers = [valid, offsets.buffers()[1], pa.py_buffer(b"".join(parts))]
        return pa.Array.from_buffers(kind, len(values), buffers)
    joined = np.concatenate([np.zeros(0, dtype), *parts])
    elements = pa.Array.from_buffers(kind.value_type, len(joined), [None, pa.py_buffer(joined)])
    buffers = [valid, offsets.buffers()[1]]
    return pa.Array.from_buffers(kind, len(values), buffers, children=[elements])


def arrow_table(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Make a table with the fields of `schema`, as `arrow_column` makes each of its columns."""
    arrays = [arrow_column(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
