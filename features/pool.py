"""The extraction on this machine: a pool of processes, without Ray.

A worker process is started afresh, because a fork copies the locks of the threads of pyarrow and
Ray. The standard library's pool has three gaps, which `_prepared_start` and `_start` close:

- its workers import the program's main file again, and a script without `if __name__ ==
  "__main__"` would then run twice;
- its workers stay if this process is killed;
- Ctrl-C reaches each worker, which then prints a traceback.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from features.errors import FeatureError
from features.extractor import Extractor, Status
from features.shards import Row

logger = logging.getLogger(__name__)

_ATTEMPTS = 4
"""How often a batch is computed before a crash of its worker ends the run."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # the bits of a matrix product may depend on the number of threads
    "PYTHONSAFEPATH": "1",  # files of the working directory are not modules of a worker
}

_extractor: Extractor
"""Of a worker process, set by `_start`."""


def compute(
    extractor: Extractor, batches: list[list[Row]], workers: int | None
) -> Iterator[Status]:
    """Extract the batches in processes of this machine; yield the status of each utterance.

    workers : processes; by default as many as there are CPUs for this process. A feature set that
        needs a GPU gets as many as fit on one GPU

    If a worker crashes, the batches without a result are computed again by half as many workers,
    because most crashes are for lack of memory, and at last by one. Raises FeatureError with the
    names of the recordings if that worker crashes too.
    """
    import joblib

    size = workers or joblib.cpu_count()
    if share := extractor.config.load().gpu:  # all processes of a pool use the first GPU
        size = min(size, int(1 / share))
    left = dict(enumerate(batches))
    for attempt in range(1, _ATTEMPTS + 1):
        size = 1 if attempt == _ATTEMPTS else max(1, min(size, len(left)))
        if attempt > 1:
            logger.warning("a worker of the extraction crashed; next attempt with %d", size)
        try:
            for number, rows in _results(extractor, left, size):
                del left[number]
                yield from rows
            return
        except BrokenProcessPool:
            size //= 2
    files = list(dict.fromkeys(row["file"] for row in next(iter(left.values()))))
    more = f" or one of {len(files) - 1} more recordings" if len(files) > 1 else ""
    raise FeatureError(
        f"a worker of the extraction crashed {_ATTEMPTS} times, at last while it read {files[0]}"
        f"{more}. Finished utterances are kept: end other programs if memory is short, or leave "
        "out the recording that crashes the worker, then run the same command"
    )


def _results(
    extractor: Extractor, batches: dict[int, list[Row]], size: int
) -> Iterator[tuple[int, list[Status]]]:
    """Yield the number and the result of each batch. Workers end with this generator."""
    waiting = iter(list(batches.items()))
    running: dict[Future[list[Status]], int] = {}
    with _pool(extractor, size) as pool:
        while True:
            # Twice as many as there are workers, so that no worker waits for this process. One
            # worker gets one batch, so that a crash belongs to this batch.
            for number, batch in waiting:
                with _prepared_start():
                    running[pool.submit(_extract, batch)] = number
                if len(running) >= (2 * size if size > 1 else 1):
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


@contextmanager
def _pool(extractor: Extractor, size: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end with this context, or with this process, even inside a batch."""
    life, end = multiprocessing.Pipe(duplex=False)
    with _prepared_start():  # this starts the process that counts the pool's semaphores
        pool = ProcessPoolExecutor(
            size,
            multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(life, extractor),
        )
    try:
        yield pool
    finally:
        end.close()
        pool.shutdown(cancel_futures=True)
        life.close()


@contextmanager
def _prepared_start() -> Iterator[None]:
    """The state of this process in which the pool starts processes."""
    main = sys.modules["__main__"]
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    # Workers inherit the mask, so Ctrl-C reaches only this process.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = ModuleType("__main__")  # without a file, there is no import
        os.environ.update(_ENVIRONMENT)
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(life: Connection, extractor: Extractor) -> None:
    """Prepare a worker process, which ends when the other end of `life` is closed."""
    global _extractor
    _extractor = extractor
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Any) -> None:
    life.poll(None)  # returns when the other end is closed
    os._exit(1)


def _extract(batch: list[Row]) -> list[Status]:
    return _extractor(batch)
