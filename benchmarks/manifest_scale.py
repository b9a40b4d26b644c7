"""Target: check, fold and audit a manifest of 100,000 rows, with context, in 10 s and 1 GB.

    python benchmarks/manifest_scale.py [--rows 100000]

The corpus is synthetic: sessions of two speakers in dialogues of fifty turns, of which a fifth has
no label. Folds of every scheme are made and audited. All steps run in one process. Memory is the
peak of this process, imports included. The exit code is 1 if the target is missed.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from features.context import Turns, previous_turns, random_turns
from features.manifest import normalise
from orchestrator.config.sections import FOLDS
from orchestrator.data.audit import AuditError, audit
from orchestrator.data.folds import make_folds

CLASSES = ("ang", "hap", "neu", "sad")
SESSIONS, TURNS, PHRASES = 25, 50, 100
SECONDS, MEGABYTES = 10.0, 1000.0


def corpus(rows: int) -> pa.Table:
    """Return a manifest as a reader makes it, before any check."""
    row = np.arange(rows)
    dialogue = [f"d{d:04d}" for d in row // TURNS]
    session = [f"s{s:02d}" for s in row // TURNS % SESSIONS]
    ids = [f"{d}_{t:03d}" for d, t in zip(dialogue, row % TURNS, strict=True)]
    return pa.table(
        {
            "file": [f"{s}/{name}.wav" for s, name in zip(session, ids, strict=True)],
            "id": ids,
            "speaker": [f"{s}{'ab'[r % 2]}" for s, r in zip(session, row, strict=True)],
            "session": session,
            "dialogue": dialogue,
            "turn": row % TURNS,
            "phrase": [f"p{r % PHRASES:03d}" for r in row],
            "fold": [str(r // TURNS % SESSIONS % 5) for r in row],
            "start": np.zeros(rows),
            "end": np.full(rows, 2.5),
            "emotion": np.random.default_rng(0).choice([*CLASSES, "xxx"], rows),
        }
    )


def peak() -> float:
    """Return the peak memory of this process in MB. getrusage counts KiB, on macOS bytes."""
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    total = 0.0

    @contextmanager
    def step(name: str) -> Iterator[None]:
        nonlocal total
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        total += seconds
        print(f"{name:<48}{seconds:8.2f} s{peak():10.0f} MB")

    raw = corpus(rows)
    print(f"{rows:,} rows; {peak():.0f} MB before the first step\n")
    with step("check (normalise)"):
        table = normalise(raw)
    with step("context: rows of the two previous turns"):
        columns = [table[name].to_pylist() for name in ("speaker", "dialogue", "turn")]
        own, other = previous_turns(*columns)
    with step("context: two random turns"):
        random_turns(*columns[1:], seed=0)
    position = {name: index for index, name in enumerate(CLASSES)}
    labels = np.asarray([position.get(name, -1) for name in table["emotion"].to_pylist()])
    for name, options in FOLDS.items():
        config = options()
        with step(f"folds: {name}"):
            folds = make_folds(table, labels, CLASSES, config)
        refused = False
        with step(f"audit: {name}, {len(folds)} folds"):
            try:
                audit(table, labels, CLASSES, folds, own, other, config)
            except AuditError:
                refused = True  # a test speaker has context turns of a training speaker
                without = Turns.none(rows)
                audit(table, labels, CLASSES, folds, without, without, config)
        if refused:
            print(f"{'':<7}(with context the audit refuses these folds; audited again without)")
    met = total < SECONDS and peak() < MEGABYTES
    print(f"\n{'all':<48}{total:8.2f} s{peak():10.0f} MB")
    print(f"target of {SECONDS:g} s and {MEGABYTES:g} MB: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
