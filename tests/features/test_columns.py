"""Arrow arrays without pandas: the same as those of `pa.array`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.columns import arrow_column, arrow_table


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        pytest.param([1.5, None, -2.0], pa.float64(), id="float64"),
        pytest.param([None, 1, 2**62], pa.int64(), id="int64"),
        pytest.param(["a", None, "", "ąę🙂"], pa.string(), id="texts"),
        pytest.param([np.ones(3, np.float32), None, [], [0.1]], pa.list_(pa.float32()), id="lists"),
        pytest.param([None] * 9, pa.list_(pa.float64()), id="only None"),
        pytest.param([], pa.string(), id="empty"),
    ],
)
def test_the_array_is_that_of_pyarrow(values: list[Any], kind: pa.DataType) -> None:
    column = arrow_column(values, kind)
    column.validate(full=True)
    assert column.equals(pa.array(values, kind))
    schema = pa.schema([("name", kind)])
    assert arrow_table({"name": values}, schema).equals(
        pa.table({"name": pa.array(values, kind)}, schema)
    )


def test_a_shard_is_written_without_pandas(tmp_path: Path) -> None:
    code = """
import sys
from features.shards import SHARD_SCHEMA, write_shard
from features.storage import Storage
write_shard(Storage.open(sys.argv[1]), [dict.fromkeys(SHARD_SCHEMA.names) | {"speaker": "a"}])
print("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
