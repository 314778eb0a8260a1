"""The daemon's own troubles: stopped, killed, and out of what it needs."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.cases import needs_request_timeouts, planes
from tests.faults.scene import LOST, Scene, uncache
from tests.mount.machine import RAM_END, wait_until_gone
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.mount

GONE = (errno.ENOTCONN, errno.ECONNABORTED)


@planes("disk of the log full")
def test_the_disk_of_the_log_is_full(scene: Scene, holds: Callable[..., None]) -> None:
    at = scene.machine.directory
    disk = at / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)], check=True)
    scene.stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    (at / "log").symlink_to(disk / "log")
    scene.mount()
    load = scene.load()
    fill(disk / "filler")
    fill(disk / "log")
    os.truncate(at / "ram", LOST)
    began = time.monotonic()
    seen = str(scene.survey_again())
    took = time.monotonic() - began
    load.stop()
    load.check()
    assert all(load.good_after(began).values())
    assert seen == f"right bytes; EIO in [{LOST:#x}, 0x800000), EIO in [0xc00000, {RAM_END:#x})"
    assert "it ends there now" not in scene.machine.log.read_text()
    (disk / "filler").unlink()
    (at / "elsewhere").write_bytes(b"")
    os.rename(at / "elsewhere", at / "ram")
    wait_for(
        lambda: "could not be written" in scene.machine.log.read_text(),
        "line of the log that says what is lost",
    )
    text = scene.machine.log.read_text()
    (lost,) = re.findall("[0-9]+ lines? of this log could not be written", text)
    count = lost.split()[0]
    assert 3 <= int(count) <= 40
    holds(
        f"no room on the log's file system, and an image truncated to {LOST:#x}",
        f"{seen}; other readers go on",
        f'"{lost.replace(count, "N", 1)}", as soon as there is room',
        time=took,
        limit=10,
        recovered="the log goes on when there is room",
    )


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"-" * 1023 + b"\n")
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\n")


@planes("daemon has no memory left")
def test_the_daemon_has_no_memory_left(scene: Scene, holds: Callable[..., None]) -> None:
    scene.mount()
    daemon = scene.machine.daemon
    load = scene.load()
    opened = [scene.open() for _ in range(4)]
    uncache(scene.image)
    status = Path(f"/proc/{daemon}/status").read_text()
    size = int(status.partition("VmSize:")[2].split()[0]) * 1024
    was = resource.prlimit(daemon, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    began = time.monotonic()
    seen: list[str] = []

    def read(descriptor: int) -> None:
        seen.append(str(scene.survey(descriptor)))

    readers = [threading.Thread(target=read, args=(descriptor,)) for descriptor in opened]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    with suppress(OSError):  # opening may need memory
        os.close(os.open(scene.oldmem, os.O_RDONLY))
    took = time.monotonic() - began
    resource.prlimit(daemon, resource.RLIMIT_AS, was)
    load.stop()
    load.check({errno.EIO: (0, RAM_END)})
    assert len(seen) == len(readers)
    for text in seen:
        assert text == "right bytes" or ("EIO" in text and "zeros" not in text), text
        assert "wrong" not in text
        assert "end of file" not in text
    assert str(scene.survey_again()) == "right bytes"
    scene.check_log("out of memory", "cannot start another thread")
    by_kernel = scene.way.plane == "kernel"
    if by_kernel:
        assert set(seen) == {"right bytes"}
    holds(
        "RLIMIT_AS of what it has",
        f"right bytes{'' if by_kernel else ', or EIO for a read that needs memory'};"
        " opening may be EIO",
        '"out of memory", once, if something needed it',
        time=took,
        limit=20,
        recovered="right bytes as soon as there is memory; " + scene.recover(),
    )


@planes("daemon in a small memory cgroup")
def test_the_daemon_lives_in_a_small_memory_cgroup(
    scene: Scene, holds: Callable[..., None]
) -> None:
    scene.mount()
    daemon = scene.machine.daemon
    with memory_cgroup(8 << 20) as join:
        join(daemon)
        load = scene.load()
        uncache(scene.image)
        began = time.monotonic()
        seen = str(scene.survey_again(0, RAM_END))
        took = time.monotonic() - began
        load.stop()
        load.check()
        assert all(load.good_after(began).values())
        assert seen == "right bytes"
        scene.check_log()
        recovered = scene.recover()
    holds(
        "8 MiB more than it had when it joined",
        f"{seen}; other readers go on",
        "nothing",
        time=took,
        limit=20,
        recovered=recovered,
    )


@contextmanager
def memory_cgroup(limit: int) -> Iterator[Callable[[int], None]]:
    """A cgroup with a limit of memory, of either version; gives how a process joins it."""
    first = Path("/sys/fs/cgroup/memory")
    parent, setting = (
        (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    )
    group = parent / f"vmcorefs-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / setting).write_text(str(limit))
        yield lambda pid: join(group, pid)
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):  # it has just ended
                join(parent, int(pid))
        group.rmdir()


def join(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid))


@planes("daemon stopped for a while")
def test_the_daemon_is_stopped_for_a_while(scene: Scene, holds: Callable[..., None]) -> None:
    pause = 1.5
    scene.mount()
    daemon = scene.machine.daemon
    # what the load reads may all be in the page cache, where its mapping keeps it; this is not
    before = scene.open()
    load = scene.load()
    stop(daemon)
    began = time.monotonic()
    ended: list[float] = []

    def read() -> None:
        os.pread(before, 4096, LOST)
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(pause)
    os.kill(daemon, signal.SIGCONT)
    reader.join(PATIENCE)
    time.sleep(0.5)
    load.stop()
    load.check()
    assert all(load.good_after(began + pause).values())
    assert str(scene.survey_again()) == "right bytes"
    slowest = max(ended[0] - began, *(seen["slowest"] for seen in load.seen.values()))
    by_kernel = scene.way.plane == "kernel"
    if not by_kernel:
        assert slowest >= pause / 2
    scene.check_log()
    holds(
        f"SIGSTOP, and SIGCONT {pause} s later",
        "right bytes at once; who opens a file waits" if by_kernel else "right bytes after SIGCONT",
        "nothing",
        time=slowest,
        limit=pause + 5,
        recovered="it goes on; " + scene.recover(),
    )


def stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        states = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(state.rpartition(")")[2].split()[0] == "T" for state in states)

    wait_for(stopped, "stop of all threads")


@needs_request_timeouts
@planes("daemon stopped for good")
def test_the_daemon_is_stopped_for_good(scene: Scene, holds: Callable[..., None]) -> None:
    scene.mount("read_timeout=1")
    daemon = scene.machine.daemon
    before = scene.open()
    stop(daemon)
    began = time.monotonic()
    try:
        with pytest.raises(OSError, match=r"connect|abort") as error:
            os.pread(before, 4096, LOST)
    finally:
        os.kill(daemon, signal.SIGCONT)
    took = time.monotonic() - began
    assert error.value.errno in GONE
    wait_until_gone(daemon)
    scene.check_log()
    holds(
        "SIGSTOP; -o read_timeout=1, so the kernel waits 15 s, and looks every 15 s",
        "ECONNABORTED, or ENOTCONN for whoever comes later",
        "nothing: it is stopped",
        time=took,
        limit=40,
        recovered=scene.recover(),
    )


@planes("daemon killed")
def test_the_daemon_is_killed(scene: Scene, holds: Callable[..., None]) -> None:
    by_kernel = scene.way.plane == "kernel"
    scene.mount()
    daemon = scene.machine.daemon
    before = scene.open()
    load = scene.load()
    os.kill(daemon, signal.SIGKILL)
    wait_until_gone(daemon)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"connect|abort") as error:
        os.open(scene.oldmem, os.O_RDONLY)
    took = time.monotonic() - began
    assert error.value.errno in GONE
    if by_kernel:
        assert str(scene.survey(before)) == "right bytes"
    time.sleep(0.3)
    load.stop()
    # EFAULT: of a mapping, which cannot have a page any more
    load.check({} if by_kernel else dict.fromkeys((*GONE, errno.EFAULT), (0, RAM_END)))
    if by_kernel:
        assert all(load.good_after(began).values())
    scene.check_log()
    what = "opening is ENOTCONN"
    holds(
        "SIGKILL",
        f"right bytes of what is open; {what}" if by_kernel else f"ENOTCONN; {what}",
        "nothing",
        time=took,
        limit=5,
        recovered=scene.recover(),
    )


@planes("daemon has no descriptors left")
def test_the_daemon_has_no_descriptors_left(scene: Scene, holds: Callable[..., None]) -> None:
    scene.mount(look=False)
    daemon = scene.machine.daemon
    used = {int(name) for name in os.listdir(f"/proc/{daemon}/fd")}
    count = min(set(range(len(used) + 1)) - used)  # the next one that it would get
    was = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (count, was[1]))
    began = time.monotonic()
    seen = str(scene.survey_again())
    took = time.monotonic() - began
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, was)
    plane = scene.plane()
    assert plane["name"] == "plain"
    assert "Too many open files" in str(plane["why_not"])
    assert seen == "right bytes"
    scene.check_log()
    holds(
        "RLIMIT_NOFILE of what it has, before the file is opened",
        f"{seen}: it is served by the plain plane, which needs none",
        "why no better plane was taken",
        time=took,
        limit=10,
        recovered=scene.recover(),
    )
