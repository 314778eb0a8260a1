"""A small dead machine on disk, and its mount."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import vmcorefs
from tests.waiting import PATIENCE
from vmcorefs.fuse.mounts import find_mount

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-000fffff : Reserved
00100000-007fffff : System RAM
  00400000-004fffff : Crash kernel
00800000-00bfffff : PCI Bus 0000:00
00c00000-00ffffff : System RAM
"""
RAM_END = 0x1000000
LOW_START, LOW_END = 0x1000, 0x9FC00


@dataclass
class Machine:
    """Files of a capture in one directory, and what the last mount logged.

    Attributes:
        directory: Where ``ram``, ``lowmem`` and ``iomem`` are.
        mountpoint: An empty directory.
        expected_log: Words that may stand in the log; anything else of ERROR fails the test.
    """

    directory: Path
    mountpoint: Path
    expected_log: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def sources(self) -> list[str]:
        """What to pass to a command: the map, the backup and the image."""
        at = self.directory
        return ["--map", str(at / "iomem"), "--backup", str(at / "lowmem"), str(at / "ram")]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "vmcorefs", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=60
        )

    def mount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            "mount", "--log", str(self.log), *options, *self.sources, str(self.mountpoint)
        )

    @contextmanager
    def mounted(self, *options: str) -> Iterator[Path]:
        done = self.mount(*options)
        assert done.returncode == 0, done.stderr
        try:
            yield self.mountpoint
        finally:
            if find_mount(str(self.mountpoint)) is not None:
                done = self.run("umount", str(self.mountpoint))
                assert done.returncode == 0, done.stderr
        self.check_log()

    @property
    def daemon(self) -> int:
        mount = find_mount(str(self.mountpoint))
        assert mount is not None
        return mount.pid

    def check_log(self) -> None:
        """A daemon's only visible symptom is its log: nothing unexpected may stand in it."""
        for line in self.log.read_text().splitlines():
            bad = "ERROR" in line or "Traceback" in line or "bug" in line
            assert not bad or any(words in line for words in self.expected_log), line


def make_machine(directory: Path) -> Machine:
    """Write a machine's files: each 8 bytes of memory hold their own physical address."""
    words = np.arange(0, RAM_END, 8, dtype="<u8")
    words.tofile(directory / "ram")
    # the backup's bytes cannot be taken for the image's
    (words[LOW_START // 8 : LOW_END // 8] | (1 << 63)).tofile(directory / "lowmem")
    (directory / "iomem").write_text(IOMEM)
    mountpoint = directory / "mnt"
    mountpoint.mkdir()
    os.utime(directory / "ram", (1_700_000_000, 1_700_000_000))
    return Machine(directory, mountpoint)


def wait_until_gone(pid: int) -> None:
    """Wait until a daemon has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # it has, and the machine's first process has reaped it
        return
    try:
        # readable when it has ended, though nobody may have reaped it
        assert select.select([descriptor], [], [], PATIENCE)[0], f"the daemon {pid} still runs"
    finally:
        os.close(descriptor)


def read(path: Path, offset: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def through_api(machine: Machine, path: str) -> bytes:
    at = machine.directory
    with vmcorefs.open(at / "ram", memory_map=at / "iomem", backup=at / "lowmem") as capture:
        file = capture[path]
        return file.pread(file.size, 0)
