"""A capture to measure on, its mounts, and a reader in C that is held to one CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmcorefs.fuse.mounts import find_mount

_SETTLED = 4.0

MIB = 1 << 20
ONE_RUN = "00000000-{last:08x} : System RAM\n"
MANY_RUNS = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
0009fc00-000fffff : Reserved
00100000-{last:08x} : System RAM
  03000000-037fffff : Crash kernel
"""
"""The crash kernel lies in the middle, low memory ends off a page, and the backup is a file."""


@dataclass(frozen=True)
class Capture:
    """The files of a capture.

    Attributes:
        directory: Where they are.
        size: Bytes in the image.
    """

    directory: Path
    size: int

    @property
    def image(self) -> Path:
        """The image: noise, so that nothing of it is a hole."""
        return self.directory / "ram"

    def arguments(self, runs: str) -> list[str]:
        """What to pass to ``vmcorefs mount``: ``one`` run of the image, or ``many``."""
        backup = ["--backup", str(self.directory / "lowmem")] if runs == "many" else []
        return ["--map", str(self.directory / runs), *backup, str(self.image)]

    def warm(self) -> None:
        """Bring the image into the page cache."""
        with self.image.open("rb", buffering=0) as file:
            buffer = np.empty(MIB, dtype=np.uint8)
            while file.readinto(buffer.data):
                pass


def make_capture(directory: Path, size: int) -> Capture:
    """Write the files of a capture whose image has ``size`` bytes, a multiple of 1 MiB."""
    capture = Capture(directory, size)
    noise = np.random.default_rng(1)
    with capture.image.open("wb") as file:
        for _ in range(size // MIB):
            file.write(noise.bytes(MIB))
    (directory / "lowmem").write_bytes(noise.bytes(0x9FC00 - 0x1000))
    (directory / "one").write_text(ONE_RUN.format(last=size - 1))
    (directory / "many").write_text(MANY_RUNS.format(last=size - 1))
    (directory / "mnt").mkdir()
    return capture


def build_reader(directory: Path) -> Path:
    """Compile ``reader.c``."""
    program = directory / "reader"
    source = Path(__file__).with_name("reader.c")
    subprocess.run(["cc", "-O2", "-Wall", "-o", program, source], check=True)
    return program


@contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """Run on some CPUs for a while; a process that is started meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def mounted(
    arguments: Sequence[str], mountpoint: Path, cpus: set[int], *options: str
) -> Iterator[int]:
    """Mount a tree whose daemon runs on ``cpus``; the value is the daemon's process id."""
    command = [sys.executable, "-m", "vmcorefs", "mount", *options, *arguments, str(mountpoint)]
    with on_cpus(cpus):
        subprocess.run(command, check=True)
    try:
        mount = find_mount(str(mountpoint))
        if mount is None:
            raise RuntimeError(f"{mountpoint}: not mounted")
        yield mount.pid
    finally:
        subprocess.run([sys.executable, "-m", "vmcorefs", "umount", str(mountpoint)], check=True)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far: user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, int]:
    """Resident memory of a process in bytes: ``VmRSS``, ``VmHWM``, ``RssAnon``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(found[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM", "RssAnon")}


@dataclass(frozen=True)
class Run:
    """What one run of the reader took.

    Attributes:
        seconds: Wall clock.
        cpu: CPU seconds of the reader.
        size: Bytes read.
    """

    seconds: float
    cpu: float
    size: int

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.size / self.seconds


class Reader:
    """Runs the reader on one set of CPUs."""

    def __init__(self, program: Path, cpus: set[int]) -> None:
        self._program = program
        self._cpus = cpus

    def start(self, mode: str, file: Path, *arguments: int) -> subprocess.Popen[str]:
        """Start a run; ``finish`` waits for it."""
        command = [str(self._program), mode, str(file), *map(str, arguments)]
        with on_cpus(self._cpus):
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def finish(self, process: subprocess.Popen[str]) -> Run:
        """Wait for a run that was started."""
        output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the reader ended with {process.returncode}")
        seconds, cpu, size = output.split()
        return Run(float(seconds), float(cpu), int(size))

    def run(self, mode: str, file: Path, *arguments: int) -> Run:
        """Run it to its end."""
        return self.finish(self.start(mode, file, *arguments))


def touch_memory(size: int) -> None:
    """Take and free the memory that a page cache of ``size`` bytes will need, and half of it more.

    Where free pages go back to a hypervisor (/sys/module/page_reporting), the first to touch them
    again pays up to ten times what the copy costs; that is the machine's and not a reader's. They
    go two seconds after they were freed (mm/page_reporting.c), and take the CPU then: that is
    waited for.
    """
    if Path("/sys/module/page_reporting").exists():
        time.sleep(_SETTLED)
    np.ones(size * 3 // 2, dtype=np.uint8)
