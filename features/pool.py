"""The extraction on this machine: a pool of processes, without Ray.

A worker process is started afresh, because a fork copies the locks of the threads of pyarrow and
Ray. The standard library's pool has three gaps, which `_prepared_start` and `_start` close:

- its workers import the program's main file again, and a script without `if __name__ ==
  "__main__"` would then run twice;
- its workers stay if this process is killed;
- Ctrl-C reaches each worker, which then prints a traceback.

To import this module takes little time, so that workers can start before this process has imported
its own libraries.
"""

import functools
import gc
import importlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from features.errors import FeatureError

if TYPE_CHECKING:
    from features.extractor import Extractor, Status
    from features.shards import Row

logger = logging.getLogger(__name__)

_ATTEMPTS = 4
"""How often a batch is computed before a crash of its worker ends the run."""
_EARLY = 4
"""Most workers that start before their work is known: perhaps there is no work."""

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # the bits of a matrix product may depend on the number of threads
    "PYTHONSAFEPATH": "1",  # files of the working directory are not modules of a worker
}


def compute(
    extractor: "Extractor",
    batches: "list[list[Row]]",
    workers: int | None,
    early: "Pool | None" = None,
) -> "Iterator[Status]":
    """Extract the batches in processes of this machine; yield the status of each utterance.

    workers : processes; by default as many as there are CPUs for this process. A feature set that
        needs a GPU gets as many as fit on one GPU
    early : a pool that has started its workers. It is used once, if `workers` is None and the set
        needs no GPU. It is closed in any case

    If a worker crashes, the batches without a result are computed again by half as many workers,
    because most crashes are for lack of memory, and at last by one. Raises FeatureError with the
    names of the recordings if that worker crashes too.
    """
    size = workers or cpus()
    share = extractor.config.load().gpu
    if share:  # all processes of a pool use the first GPU
        size = min(size, int(1 / share))
    left = dict(enumerate(batches))
    for attempt in range(1, _ATTEMPTS + 1):
        size = 1 if attempt == _ATTEMPTS else max(1, min(size, len(left)))
        if attempt > 1:
            logger.warning("a worker of the extraction crashed; next attempt with %d", size)
        if early is not None and (early.closed or workers or share or size > early.size):
            early.close()
            early = None
        try:
            with early or Pool(size) as pool:
                for number, rows in pool.results(extractor, left, size):
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


def cpus() -> int:
    """The number of CPUs for this process."""
    import joblib

    return int(joblib.cpu_count())


class Pool:
    """Worker processes. They end with this context, or with this process, even inside a batch.

    size : most workers
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = False
        self._life, self._end = multiprocessing.Pipe(duplex=False)
        with _prepared_start():  # this starts the process that counts the pool's semaphores
            self._executor = ProcessPoolExecutor(
                size,
                multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self._life,),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. A second call does nothing."""
        if not self.closed:
            self.closed = True
            self._end.close()
            self._executor.shutdown(cancel_futures=True)
            self._life.close()

    def start(self) -> None:
        """Start workers, at most `_EARLY`. They import their libraries while they wait for work.

        An error here is not raised: `results` meets it again, if there is work.
        """
        with _prepared_start(), suppress(BrokenProcessPool, OSError):
            for _ in range(min(self.size, _EARLY)):
                self._executor.submit(_import)

    def results(
        self, extractor: "Extractor", batches: "dict[int, list[Row]]", size: int
    ) -> "Iterator[tuple[int, list[Status]]]":
        """Yield the number and the result of each batch, computed by about `size` workers."""
        waiting = iter(list(batches.items()))
        running: dict[Future[list[Status]], int] = {}
        pickled = pickle.dumps(extractor)
        while True:
            # Twice as many as there are workers, so that no worker waits for this process. One
            # worker gets one batch, so that a crash belongs to this batch.
            for number, batch in waiting:
                with _prepared_start():
                    future = self._executor.submit(_extract, pickled, tuple(sys.path), batch)
                running[future] = number
                if len(running) >= (2 * size if size > 1 else 1):
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


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


def _start(life: Connection) -> None:
    """Prepare a worker process, which ends when the other end of `life` is closed."""
    gc.set_threshold(100_000, 50, 100)  # the objects of the libraries stay: search them rarely
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Any) -> None:
    life.poll(None)  # returns when the other end is closed
    os._exit(1)


def _import() -> None:
    importlib.import_module("features.extractor")


@functools.lru_cache(maxsize=1)
def _extractor(pickled: bytes, path: tuple[str, ...]) -> "Extractor":
    """The extractor of a run, made once in a worker.

    path : `sys.path` of the driver. It may have grown since the worker started: a feature set of
        the user's own is in the working directory
    """
    sys.path.extend(folder for folder in path if folder not in sys.path)
    extractor: Extractor = pickle.loads(pickled)  # noqa: S301 (of the driver)
    return extractor


def _extract(pickled: bytes, path: tuple[str, ...], batch: "list[Row]") -> "list[Status]":
    return _extractor(pickled, path)(batch)
