"""A small machine, mounted by one of the planes, with what readers must see of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.cases import WAYS, Way
from tests.faults.load import Load, under_load
from tests.faults.survey import Survey, survey
from tests.mount.machine import LOW_END, LOW_START, RAM_END, Machine
from tests.waiting import PATIENCE, running, wait_for, wait_for_line
from vmcorefs.fuse.mounts import find_mount

COLD = 0x600000
"""From here on the load reads nothing before the fault, so that nothing is cached."""
LOST = 0x700000
"""Where the image is truncated, and the start of its first bad sector."""


@dataclass
class Scene:
    """One test's machine and mount.

    Attributes:
        machine: Its files.
        way: How it is served.
        stack: What is undone at the end.
        image: What is passed to ``mount``; in the machine's directory, if no test changes it.
        right: What ``oldmem`` must hold.
    """

    machine: Machine
    way: Way
    stack: ExitStack
    image: str
    right: bytes

    @property
    def oldmem(self) -> Path:
        return self.machine.mountpoint / "oldmem"

    @property
    def expected(self) -> Path:
        return self.machine.directory / "expected"

    def mount(self, *options: str, plane: str | None = None, look: bool = True) -> None:
        at = self.machine.directory
        backup = [] if self.way.is_one_run else ["--backup", str(at / "lowmem")]
        done = self.machine.run(
            *("mount", "--log", str(self.machine.log), "-o", self.way.option),
            *(part for option in options for part in ("-o", option)),
            *("--map", str(at / "iomem"), *backup, self.image, str(self.machine.mountpoint)),
        )
        assert done.returncode == 0, done.stderr
        if look:
            assert self.plane()["name"] == (plane or self.way.plane)

    def plane(self) -> dict[str, object]:
        layout = json.loads((self.machine.mountpoint / "layout.json").read_text())
        found: dict[str, object] = layout["files"]["oldmem"]["plane"]
        return found

    def load(self, until: int = COLD - 0x100000) -> Load:
        """Start readers that end with the test."""
        return self.stack.enter_context(under_load(self.oldmem, self.expected, until))

    def open(self) -> int:
        """Open ``oldmem``; it is closed at the end."""
        descriptor = os.open(self.oldmem, os.O_RDONLY)
        self.stack.callback(_close, descriptor)
        return descriptor

    def survey(self, descriptor: int, start: int = COLD, end: int = RAM_END) -> Survey:
        return survey(descriptor, self.right, start, end)

    def survey_again(self, start: int = COLD, end: int = RAM_END) -> Survey:
        """What one sees who opens the file now."""
        descriptor = os.open(self.oldmem, os.O_RDONLY)
        try:
            return self.survey(descriptor, start, end)
        finally:
            _close(descriptor)

    def log_lines(self, *levels: str) -> list[str]:
        """What the log says, without times and directories."""
        text = self.machine.log.read_text().replace(f"{self.machine.directory}/", "")
        lines = [line.split(" ", 2)[2] for line in text.splitlines() if line[:2] == "20"]
        return [line for line in lines if line.startswith(levels or ("WARNING", "ERROR"))]

    def wait_for_log(self, words: str) -> str:
        """Wait until a line says that; return it as the table has it."""
        return wait_for(lambda: self._line(words), f"line of the log that says {words!r}")

    def _line(self, words: str) -> str:
        for line in self.log_lines():
            if words in line:
                return told(line)
        return ""

    def check_log(self, *allowed: str) -> None:
        """No traceback, nothing that is not allowed, and no flood."""
        text = self.machine.log.read_text()
        assert "Traceback" not in text
        assert "a bug" not in text
        for line in self.log_lines("ERROR"):
            assert any(words in line for words in allowed), line
        assert len(self.log_lines()) <= 40

    def recover(self, *options: str, lazily: bool = False) -> str:
        """Take the mount down, and mount the same machine again from a whole image."""
        mountpoint = str(self.machine.mountpoint)
        self.stack.close()  # readers and descriptors would keep it busy
        if find_mount(mountpoint) is not None:
            lazy = ["--lazy"] if lazily else []
            done = self.machine.run("umount", *lazy, mountpoint)
            assert done.returncode == 0, done.stderr
        assert os.listdir(mountpoint) == []
        self.image = str(self.machine.directory / "again")
        write_image(Path(self.image))
        self.mount(*options)
        assert str(self.survey_again(0, RAM_END)) == "right bytes"
        done = self.machine.run("umount", mountpoint)
        assert done.returncode == 0, done.stderr
        return "unmounted; mounted again from a whole image"


def make_scene(machine: Machine, way: str, stack: ExitStack) -> Scene:
    """Write the machine down, and what is right."""
    chosen = WAYS[way]
    if chosen.is_one_run:
        (machine.directory / "iomem").write_text("00000000-00ffffff : System RAM\n")
    right = right_bytes(is_one_run=chosen.is_one_run)
    (machine.directory / "expected").write_bytes(right)
    return Scene(machine, chosen, stack, str(machine.directory / "ram"), right)


def write_image(path: Path) -> None:
    """A memory in which each 8 bytes hold their own physical address."""
    np.arange(0, RAM_END, 8, dtype="<u8").tofile(path)


def right_bytes(*, is_one_run: bool) -> bytes:
    """What ``oldmem`` of the machine holds, by its map (tests/mount/machine.py)."""
    words = np.arange(0, RAM_END, 8, dtype="<u8")
    if not is_one_run:
        words[LOW_START // 8 : LOW_END // 8] |= np.uint64(1 << 63)  # the backup's
        for start, end in ((0, 0x1000), (LOW_END, 0x100000), (0x800000, 0xC00000)):
            words[start // 8 : end // 8] = 0  # not RAM
        words[0x400000 // 8 : 0x500000 // 8] = 0  # the crash kernel
    return words.tobytes()


def _close(descriptor: int) -> None:
    with suppress(OSError):  # FUSE tells here too that a file has failed; it is closed
        os.close(descriptor)


def uncache(path: str) -> None:
    """Have the next reads of a file or device reach it: looking through it has left it cached."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def told(line: str) -> str:
    """A line of the log for the table: sizes of requests differ, as the page cache pleases."""
    line = re.sub(r"cannot read [0-9]+ bytes at offset 0x[0-9a-f]+", "cannot read ... at ...", line)
    line = re.sub(r"(?<=physical address )0x[0-9a-f]+", "...", line)
    line = re.sub(r"^(ERROR \S+ at )0x[0-9a-f]+", r"\1...", line)
    return re.sub(r"for [0-9]+ bytes after", "for ... bytes after", line)


@contextmanager
def bad_file_system(scene: Scene) -> Iterator[Callable[..., None]]:
    """Have the image lie on a file system that fails where it is told to; gives how to tell."""
    at = scene.machine.directory
    control, mountpoint = at / "control", at / "bad"
    mountpoint.mkdir()

    def tell(**ranges: list[list[int]]) -> None:
        (at / "told").write_text(json.dumps(ranges))
        (at / "told").rename(control)

    tell()
    script = str(Path(__file__).with_name("badfs.py"))
    command = [sys.executable, script, str(at / "ram"), str(control), str(mountpoint)]
    with running(command, stdout=subprocess.PIPE) as server:
        wait_for_line(server, "ready")
        scene.image = str(mountpoint / "ram")
        try:
            yield tell
        finally:
            tell()
            subprocess.run(["umount", "-l", str(mountpoint)], check=True)
            server.terminate()
            server.wait(PATIENCE)


@contextmanager
def loop_device(path: str) -> Iterator[str]:
    """A block device whose blocks are a file's."""
    command = ["losetup", "--find", "--show", "--read-only", path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    device = done.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
