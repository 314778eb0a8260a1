"""An image that stops answering: its readers get an error in time, and nobody else waits."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.cases import REQUEST_TIMEOUT, needs_request_timeouts, planes
from tests.faults.scene import LOST, Scene, bad_file_system, uncache
from tests.mount.machine import RAM_END
from tests.waiting import wait_for

pytestmark = pytest.mark.mount

TIMEOUT = 2
"""Seconds, for ``-o read_timeout``."""
SLACK = 6.0


def timed_read(path: Path, offset: int) -> tuple[float, str]:
    began = time.monotonic()
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        os.pread(descriptor, 4096, offset)
    except OSError as error:
        return time.monotonic() - began, errno.errorcode[error.errno or 0]
    finally:
        os.close(descriptor)
    return time.monotonic() - began, "bytes"


def wait_until_right(scene: Scene) -> None:
    """Wait until what hung has come back: until then, it counts as hanging."""
    wait_for(lambda: str(scene.survey_again()) == "right bytes", "right bytes")


@planes("image that hangs")
def test_an_image_stops_answering(scene: Scene, holds: Callable[..., None]) -> None:
    by_kernel = scene.way.plane == "kernel"
    with bad_file_system(scene) as tell:
        scene.mount(f"read_timeout={TIMEOUT}", plane="mapped" if by_kernel else None)
        note = ""
        if by_kernel:
            why_not = scene.plane()["why_not"]
            assert isinstance(why_not, list)
            assert "which may stop answering" in why_not[0]
            note = "not taken for a file system that may stop answering, but mapped: "
        load = scene.load()
        uncache(scene.image)
        tell(hang=[[LOST, RAM_END]])
        began = time.monotonic()
        took, seen = timed_read(scene.oldmem, LOST)
        assert seen == "EIO"
        assert took >= TIMEOUT
        at_once, seen = timed_read(scene.oldmem, LOST)
        assert (seen, at_once < TIMEOUT) == ("EIO", True)
        log = scene.wait_for_log("no answer from")
        assert f"oldmem at {LOST:#x}" in " ".join(scene.log_lines("ERROR"))
        load.stop()
        load.check()
        assert all(load.good_after(began).values())
        # the readers' own files had no reason to wait
        assert all(seen["slowest"] < TIMEOUT for seen in load.seen.values())
        scene.check_log("no answer from")
        tell()
        wait_until_right(scene)
        holds(
            f"no answer for reads from {LOST:#x} on, by a FUSE file system;"
            f" -o read_timeout={TIMEOUT}",
            f"{note}EIO; other readers go on",
            log,
            time=took,
            limit=2 * TIMEOUT + SLACK,
            recovered="right bytes as soon as it answers again; " + scene.recover(),
        )


@planes("image that hangs, to many readers")
def test_many_readers_hang_and_others_go_on(scene: Scene, holds: Callable[..., None]) -> None:
    count = 40
    with bad_file_system(scene) as tell:
        scene.mount(f"read_timeout={TIMEOUT}")
        load = scene.load()
        uncache(scene.image)
        tell(hang=[[LOST, RAM_END]])
        began = time.monotonic()
        seen: list[tuple[float, str]] = []

        def read(number: int) -> None:
            offset = LOST + number % 16 * 0x10000
            seen.append(timed_read(scene.oldmem, offset))

        readers = [threading.Thread(target=read, args=(n,)) for n in range(count)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert {what for _, what in seen} == {"EIO"}
        slowest = max(took for took, _ in seen)
        quick, what = timed_read(scene.oldmem, LOST)
        assert (what, quick < TIMEOUT) == ("EIO", True)
        log = scene.wait_for_log("no answer from")
        load.stop()
        load.check()
        assert all(load.good_after(began).values())
        scene.check_log("no answer from")
        threads = len(os.listdir(f"/proc/{scene.machine.daemon}/task"))
        assert threads <= 64 + count + 8
        tell()
        wait_until_right(scene)
        holds(
            f"no answer for reads from {LOST:#x} on, {count} readers there;"
            f" -o read_timeout={TIMEOUT}",
            "EIO for all of them; other readers go on",
            log,
            time=slowest,
            limit=TIMEOUT * 2 + SLACK,
            recovered="right bytes as soon as it answers again; " + scene.recover(),
        )


@planes("image that hangs, when a file is opened")
def test_an_image_hangs_while_a_file_is_opened(scene: Scene, holds: Callable[..., None]) -> None:
    with bad_file_system(scene) as tell:
        scene.mount(f"read_timeout={TIMEOUT}")
        mnt = scene.machine.mountpoint
        uncache(scene.image)
        tell(hang=[[0, RAM_END]])
        with (mnt / "iomem").open("rb") as file:
            assert file.read()
        took, seen = timed_read(scene.oldmem, LOST)
        assert seen == "EIO"
        began = time.monotonic()
        assert (mnt / "iomem").read_bytes()
        assert sorted(os.listdir(mnt))
        assert time.monotonic() - began < TIMEOUT
        done = scene.machine.run("umount", str(mnt))
        assert done.returncode == 0, done.stderr
        log = scene.wait_for_log("no answer from")
        scene.check_log("no answer from")
    holds(
        f"no answer for any read; -o read_timeout={TIMEOUT}",
        "EIO; files that need no image are read, and the tree is listed and unmounted",
        log,
        time=took,
        limit=2 * TIMEOUT + SLACK,
        recovered=scene.recover(),
    )


@needs_request_timeouts
@planes("kernel with a request timeout")
def test_the_kernel_ends_requests_that_take_long(scene: Scene, holds: Callable[..., None]) -> None:
    was = REQUEST_TIMEOUT.read_text()
    limit = 8
    with bad_file_system(scene) as tell:
        REQUEST_TIMEOUT.write_text(f"{limit}\n")
        try:
            scene.mount("read_timeout=600")
        finally:
            REQUEST_TIMEOUT.write_text(was)
        uncache(scene.image)
        tell(hang=[[LOST, RAM_END]])
        took, seen = timed_read(scene.oldmem, LOST)
        assert seen == "EIO"
        log = scene.wait_for_log("no answer from")
        scene.check_log("no answer from")
        assert "reads may take 4 s" in scene.machine.log.read_text()
        tell()
        wait_until_right(scene)
        holds(
            f"fs.fuse.max_request_timeout = {limit}, -o read_timeout=600, and no answer for a read",
            "EIO, before the kernel would end the mount",
            log,
            time=took,
            limit=limit + SLACK,
            recovered="right bytes as soon as it answers again; " + scene.recover(),
        )
