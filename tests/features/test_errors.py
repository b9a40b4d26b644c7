"""Errors keep their message when they travel between processes, and load no heavy library."""

import pickle
import subprocess
import sys

import pytest

from features import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(kind("a.wav: missing")))  # noqa: S301  (our own bytes)
    assert type(error) is kind
    assert str(error) == "a.wav: missing"


def test_errors_and_storage_load_no_heavy_library() -> None:
    code = """
import sys, features.errors, features.storage
print({"torch", "ray", "sklearn"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("count", [1, 5, 6])
def test_shorten_counts_the_texts_that_it_leaves_out(count: int) -> None:
    texts = [str(number) for number in range(count)]
    assert errors.shorten(texts) == ", ".join(texts[:5] + ["and 1 more"] * (count > 5))
