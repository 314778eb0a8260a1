"""One damaged capture, opened in one of the ways there are, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import vmcorefs
from tests.mutants.accounting import Judge, Read
from tests.mutants.mutations import Mutant
from vmcorefs.cli import main as command
from vmcorefs.errors import VmcorefsError
from vmcorefs.fuse.mounts import find_mount
from vmcorefs.tree.directory import TreeDirectory
from vmcorefs.tree.file import TreeFile

MAX_CPU_SECONDS: Final = 30
MAX_SECONDS: Final = 300
"""Of a clock, which a busy machine stretches; the other bound is what a loop runs into."""
MAX_MEMORY: Final = 1 << 30
EXIT_CODES: Final = (0, 2, 3, 4, 5, 6)
"""What the command may end with: 1 is a bug."""
BAD_WORDS: Final = ("Traceback", "a bug in vmcorefs")

_UNLISTED: Final = re.compile(r"modules/|report\.(txt|json)")
"""Files of the tree that ``layout.json`` leaves out (docs/layout.md)."""

_REFUSED: Final = 10
"""A child's exit status for a capture that was refused with one of our own errors."""
_FINDING: Final = 11


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        opened: Whether the capture could be opened, and not refused.
        finding: What is wrong, or an empty string.
        seconds: How long it took.
        memory: Bytes that the process had at most, beyond those of its parent.
    """

    opened: bool
    finding: str
    seconds: float
    memory: int


Way = Callable[[Mutant, random.Random, Path], bool]
"""Opens a mutant, with a scratch directory; whether it was not refused. Asserts the rest."""


def run_case(way: Way, mutant: Mutant, rng: random.Random, scratch: Path) -> Outcome:
    """Open ``mutant`` in a child; whatever becomes of that, this returns.

    Args:
        way: How.
        mutant: It has been written: its files are as damaged as it says.
        rng: Chooses what is looked at.
        scratch: An empty directory; its ``mnt`` is the place to mount at.
    """
    said = scratch / "said"
    started = time.monotonic()
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        _run_child(way, mutant, rng, scratch, said)
    status, used = _wait(child)
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    memory = max(used.ru_maxrss - baseline, 0) * 1024
    finding = ""
    if status not in (0, _REFUSED):
        finding = f"{_name(status)}\n{text}"
    elif any(words in text for words in BAD_WORDS):
        finding = text
    elif memory > MAX_MEMORY:
        finding = f"{memory >> 20} MiB"
    _clean(scratch / "mnt")
    said.unlink(missing_ok=True)
    return Outcome(status == 0, finding, time.monotonic() - started, memory)


def _name(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    descriptor = os.pidfd_open(child)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        if not poller.poll(MAX_SECONDS * 1000):
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(descriptor)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used


def _run_child(way: Way, mutant: Mutant, rng: random.Random, scratch: Path, said: Path) -> NoReturn:
    status = _FINDING
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(descriptor, number)
        # whoever captures what Python prints, such as pytest, does not see this
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        # a loop that never ends is ended by the kernel, in the daemon as well
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
        status = 0 if way(mutant, rng, scratch) else _REFUSED
    except BaseException:  # noqa: BLE001  # whatever it is, it is a finding
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _clean(mountpoint: Path) -> None:
    """Take down a mount that a case left: it has been reported."""
    while (mount := find_mount(str(mountpoint))) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(mount.pid, signal.SIGKILL)
        command(["umount", "--lazy", str(mountpoint)], standalone_mode=False)


# --- the ways ------------------------------------------------------------------------------------


def by_library(mutant: Mutant, rng: random.Random, _: Path) -> bool:
    """``vmcorefs.open``, every file made, and looked at."""
    try:
        keywords: dict[str, Any] = _keywords(mutant.options)
        capture = vmcorefs.open(mutant.base.description, **keywords)
    except VmcorefsError as error:
        _must_say_something(error)
        return False
    with capture:
        sizes = {path: _size(file) for path, file in capture.files.items()}

        def read(path: str, size: int, offset: int) -> bytes | None:
            try:
                return capture[path].pread(size, offset)
            except VmcorefsError as error:
                _must_say_something(error)
                return None

        layout = capture["layout.json"].pread(1 << 30, 0)
        holes = capture.image.config.holes
        Judge(read, mutant.base.directory, holes, 1, rng, mutant.base.is_packed).judge(
            layout, sizes
        )
        for directory in capture.directories.values():
            _make_all(directory)
    return True


def _make_all(directory: TreeDirectory) -> None:
    """Find the files of a directory, and make each."""
    try:
        files = list(directory.files.values())
    except VmcorefsError as error:
        _must_say_something(error)
        return
    for file in files:
        _size(file)


def _size(file: TreeFile) -> int | None:
    try:
        return file.size
    except VmcorefsError as error:
        _must_say_something(error)
        return None


def _must_say_something(error: VmcorefsError) -> None:
    text = str(error)
    assert text, repr(error)
    assert "\n" not in text, text


_KEYWORDS: Final[dict[str, tuple[str, object]]] = {
    "--truncated": ("truncated", True),
    "universal": ("layout", "universal"),
    "error": ("holes", "error"),
    "--raw-reserved": ("raw_reserved", True),
    "--drop-torn-notes": ("drop_torn_notes", True),
    "31": ("dump_level", 31),
}


def _keywords(options: tuple[str, ...]) -> dict[str, object]:
    """The options of the command line as the library has them."""
    keywords = dict(_KEYWORDS[word] for word in options if word in _KEYWORDS)
    for name in ("elfcorehdr", "vmcoreinfo"):
        if f"--{name}" in options:
            keywords[f"use_{name}"] = False
    return keywords


def by_command(mutant: Mutant, rng: random.Random, scratch: Path) -> bool:
    """``vmcorefs inspect``, ``check`` or ``extract``."""
    description = str(mutant.base.description)
    out = scratch / "out"
    choices = (
        ["inspect", *mutant.options, description],
        ["inspect", "--json", *mutant.options, description],
        ["check", *mutant.options, description],
        ["check", "--json", *mutant.options, description],
        ["extract", "-o", str(out), *mutant.options, "--", rng.choice(_EXTRACTED), description],
    )
    status = _run_command(rng.choice(choices))
    for path in scratch.glob("out*"):
        path.unlink()
    return status == 0


_EXTRACTED: Final = ("crash_notes", "iomem", "dmesg", "layout.json", "kallsyms", "vmlinux")


def _run_command(words: list[str]) -> int:
    try:
        command(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    else:
        status = 0
    assert status in EXIT_CODES, f"exit status {status}"
    return status


def by_mount(mutant: Mutant, rng: random.Random, scratch: Path) -> bool:
    """A real mount, read and compared with its layout."""
    mountpoint, log = scratch / "mnt", scratch / "log"
    log.unlink(missing_ok=True)
    plane = rng.choice(([], ["-o", "plane=mapped"], ["-o", "plane=plain"]))
    words = ["mount", "--log", str(log), *plane, *mutant.options]
    if _run_command([*words, str(mutant.base.description), str(mountpoint)]):
        return False
    try:
        with _reader_of(mountpoint) as read:
            sizes = {
                os.path.relpath(path, mountpoint): _stat_size(path) for path in _walk(mountpoint)
            }
            layout = (mountpoint / "layout.json").read_bytes()
            holes = _holes_policy(mutant)
            base = mutant.base
            judge = Judge(read, base.directory, holes, 4096, rng, base.is_packed)
            # what is not in the layout has been asked for, which is enough
            listed = {path: s for path, s in sizes.items() if not _UNLISTED.match(path)}
            judge.judge(layout, listed)
        _check_daemon(mountpoint)
    finally:
        assert _run_command(["umount", "--timeout", "200", str(mountpoint)]) == 0
        text = log.read_text() if log.exists() else ""
        assert not any(words in text for words in BAD_WORDS), text
    return True


def _holes_policy(mutant: Mutant) -> str:
    return "error" if "error" in mutant.options else "zero"


def _walk(top: Path) -> Iterator[Path]:
    # with os.walk: a file that cannot be made can be listed, but stat fails
    for directory, _, names in os.walk(top):
        yield from (Path(directory, name) for name in names)


def _stat_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@contextlib.contextmanager
def _reader_of(mountpoint: Path) -> Iterator[Read]:
    opened: dict[str, int] = {}

    def read(path: str, size: int, offset: int) -> bytes | None:
        if path not in opened:
            opened[path] = os.open(mountpoint / path, os.O_RDONLY)
        try:
            return os.pread(opened[path], size, offset)
        except OSError:
            return None

    try:
        yield read
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _check_daemon(mountpoint: Path) -> None:
    mount = find_mount(str(mountpoint))
    assert mount is not None
    status = Path(f"/proc/{mount.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    assert peak < MAX_MEMORY + (256 << 20), f"the daemon had {peak >> 20} MiB"


WAYS: Final[dict[str, tuple[Way, int]]] = {
    "library": (by_library, 70),
    "command": (by_command, 20),
    "mount": (by_mount, 10),
}
"""The ways, and how often of a hundred each is taken."""
