"""Storage that is full, fails for a while, fails for good, or is slow."""

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.faults import Faults, Place, Reference, left_out, s3_place, wait

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def test_a_full_disk_ends_the_sweep_and_loses_nothing(
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
        left_out(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        place = Place("disk", str(disk / "runs"), reference.place.corpus, tmp_path)
        place.begin(reference, trials=2)
        config = place.configure()
        with place.driver(config) as driver:
            assert wait(place.checkpoints, driver)
            filler = disk / "filler"
            with open(filler, "wb") as file:
                free = shutil.disk_usage(disk).free
                os.posix_fallocate(file.fileno(), 0, free - 4096)
            ended = place.records()
            wait(lambda: driver.poll() is not None)
            assert driver.returncode == 1
        said = (place.scratch / "driver.log").read_text()
        assert "No space left on device" in said
        filler.unlink()
        place.finish(config)
        faults.note("disk full", place, 1, place.lost(reference.outcome, ended))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class Proxy:
    """Stands before a server: hands on bytes, late by `delay` seconds, or cuts every line."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.delay = 0.0
        self.down = False
        self.cut = 0
        self.lines: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        listening = self.loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.cut += 1
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.server)
        self.lines |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self.lines -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        """Cut every line, and every new one until `recover`."""

        def cut() -> None:
            self.down = True
            for writer in self.lines:
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
    """A place whose sweep reaches S3 through a proxy; the test itself looks past it."""
    proxy = Proxy(s3)
    try:
        place = s3_place(s3, tmp_path, monkeypatch)
        place.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.port}"
        yield proxy, place
    finally:
        proxy.close()


def test_storage_that_fails_for_a_while_is_waited_for(
    proxied: tuple[Proxy, Place], reference: Reference, faults: Faults
) -> None:
    """The same driver goes on: nobody has to do anything."""
    proxy, place = proxied
    place.begin(reference, trials=1)
    with place.driver(place.configure()) as driver:
        for seen in (place.checkpoints, lambda: len(place.records()) > 1):
            assert wait(seen, driver)
            proxy.fail()
            time.sleep(8)
            proxy.recover()
        ended = place.records()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, (place.scratch / "driver.log").read_text()
    assert proxy.cut
    faults.note("storage gone for 8 s", place, 2, place.lost(reference.outcome, ended))


def test_storage_that_fails_for_good_ends_the_sweep_and_loses_nothing(
    proxied: tuple[Proxy, Place], reference: Reference, faults: Faults
) -> None:
    proxy, place = proxied
    place.begin(reference, trials=2)
    config = place.configure()
    with place.driver(config) as driver:
        assert wait(place.checkpoints, driver)
        proxy.fail()
        ended = place.records()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 1
    said = (place.scratch / "driver.log").read_text()
    assert "Traceback" not in said, said
    assert "trial 2 broke off: OSError" in said, said
    assert said.endswith("the same command goes on\n"), said
    proxy.recover()
    place.finish(config)
    faults.note("storage gone for good", place, 1, place.lost(reference.outcome, ended))


def test_a_slow_storage_changes_nothing(
    proxied: tuple[Proxy, Place], reference: Reference, faults: Faults
) -> None:
    proxy, place = proxied
    place.begin(reference, trials=2)
    proxy.delay = 0.05
    place.finish(place.configure())
    faults.note("storage slow by 50 ms a message", place, 1, place.lost(reference.outcome, {}))
