"""Storage that is full, slow, or fails for a while or for good."""

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, Place, Reference, s3_place, skip_locally
from tests.support.processes import wait

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def test_a_full_disk_ends_the_sweep_and_loses_no_result(
    tmp_path: Path, reference: Reference, faults: Faults
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        skip_locally(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        place = Place("disk", str(disk / "runs"), reference.place.corpus, tmp_path)
        place.start_from(reference, trials=2)
        config = place.configure()
        with place.driver(config) as driver:
            assert wait(place.checkpoints, driver)
            filler = disk / "filler"
            with open(filler, "wb") as file:
                free = shutil.disk_usage(disk).free
                os.posix_fallocate(file.fileno(), 0, free - 4096)
            finished = place.records()
            wait(lambda: driver.poll() is not None)
            assert driver.returncode == 1
        assert "No space left on device" in place.log.read_text()
        filler.unlink()
        place.finish(config)
        faults.note("disk full", place, 1, place.lost(reference, finished))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class Proxy:
    """A proxy that forwards bytes to a server after `delay` seconds, or cuts all connections."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.delay = 0.0
        self.down = False
        self.cut = 0
        self.connections: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait()

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        listening = self.loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = listening.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.cut += 1
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.server)
        self.connections |= {writer, server_writer}
        await asyncio.gather(
            self._forward(reader, server_writer), self._forward(server_reader, writer)
        )
        self.connections -= {writer, server_writer}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def fail(self) -> None:
        """Cut all connections, and every new one until `recover`."""

        def cut() -> None:
            self.down = True
            for writer in self.connections:
                self.cut += 1
                writer.transport.abort()

        self.loop.call_soon_threadsafe(cut)

    def recover(self) -> None:
        self.down = False

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture
def proxied(
    s3: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Proxy, Place]]:
    """A place whose sweep reaches S3 through a proxy. The test itself reads S3 directly."""
    proxy = Proxy(s3)
    try:
        place = s3_place(s3, tmp_path, monkeypatch)
        place.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
        yield proxy, place
    finally:
        proxy.close()


def test_a_sweep_waits_for_a_storage_that_is_slow_and_fails_for_a_while(
    proxied: tuple[Proxy, Place], reference: Reference, faults: Faults
) -> None:
    """The same driver continues without any help."""
    proxy, place = proxied
    proxy.delay = 0.05
    place.start_from(reference, trials=1)
    # Not read while the proxy cuts connections: a record may be in the middle of a retried put.
    finished = place.records()
    with place.driver(place.configure()) as driver:
        for reached in (place.checkpoints, lambda: len(place.records()) > 1):
            assert wait(reached, driver)
            proxy.fail()
            time.sleep(8)
            proxy.recover()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, place.log.read_text()
    assert proxy.cut
    lost = place.lost(reference, finished)
    faults.note("storage slow by 50 ms for each message", place, 1, lost)
    faults.note("storage fails for 8 s", place, 2, lost)


def test_a_storage_that_fails_for_good_ends_the_sweep_and_loses_no_result(
    proxied: tuple[Proxy, Place], reference: Reference, faults: Faults
) -> None:
    proxy, place = proxied
    place.start_from(reference, trials=2)
    config = place.configure()
    with place.driver(config) as driver:
        assert wait(place.checkpoints, driver)
        proxy.fail()
        finished = place.records()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 1
    messages = place.log.read_text()
    assert "Traceback" not in messages, messages
    assert "trial 2 interrupted: " in messages, messages
    assert "run the same command" in messages.splitlines()[-1], messages
    proxy.recover()
    place.finish(config)
    faults.note("storage fails for good", place, 1, place.lost(reference, finished))
