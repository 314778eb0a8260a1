"""Make one capture: recipe in, directory out."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.lab.console import sections
from tests.lab.evidence import (
    SECTIONS,
    Backup,
    Memory,
    check_sections,
    check_vmcore,
    find_backup,
)
from tests.lab.host import LOG, GuestError, LabError, building, locked
from tests.lab.initramfs import make_initramfs
from tests.lab.kernels import Kernel, Release, kernel
from tests.lab.qemu import MIB, Machine, Piece, crash, memory_pieces

Load = Literal["kexec", "file"]

ATTEMPTS: Final = 3
TIMEOUT: Final = 600.0

_MANIFEST: Final = "recipe.json"
_UNITS: Final = {"M": MIB, "G": 1024 * MIB}


@dataclass(frozen=True)
class Recipe:
    """What to crash, and how.

    Args:
        memory: of the guest, such as ``1G`` or ``512M``.
        cpus: how many.
        crashkernel: the kernel's parameter of that name.
        load: the system call that loads the capture kernel: ``kexec`` is kexec_load, whose
            purgatory keeps a backup of low memory; ``file`` is kexec_file_load.
        release: the kernel's series.
        append: more of the crashed kernel's command line, such as ``nokaslr no5lvl``.

    Raises:
        ValueError: if ``memory`` is no size, or ``cpus`` is not positive.
    """

    memory: str = "1G"
    cpus: int = 2
    crashkernel: str = "192M"
    load: Load = "kexec"
    release: Release = "6.1"
    append: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-9][0-9]*[MG]", self.memory):
            raise ValueError(f"memory {self.memory!r} is not a size such as 512M or 1G")
        if self.cpus < 1:
            raise ValueError(f"{self.cpus} CPUs are too few")

    @property
    def memory_size(self) -> int:
        """The guest's memory in bytes."""
        return int(self.memory[:-1]) * _UNITS[self.memory[-1]]

    @property
    def cmdline(self) -> str:
        """The crashed kernel's command line."""
        fixed = "console=ttyS0 oops=panic panic=1 rdinit=/init"
        chosen = f"crashkernel={self.crashkernel} lab.load={self.load} {self.append}"
        return f"{fixed} {chosen}".rstrip()


@dataclass(frozen=True)
class Capture:
    """A finished capture.

    Args:
        directory: where its files are.
        recipe: how it was made.
        kernel: that crashed, and captured.
        seconds: that the attempt took which succeeded.
    """

    directory: Path
    recipe: Recipe
    kernel: Kernel
    seconds: float

    @property
    def ram(self) -> Path:
        """The guest's memory as QEMU kept it; the capture kernel has run in it."""
        return self.directory / "ram"

    @property
    def vmcore(self) -> Path:
        """The capture kernel's ``/proc/vmcore``: the truth to compare with."""
        return self.directory / "vmcore"

    @property
    def config(self) -> Path:
        """The description for vmcorefs, ``capture.toml``."""
        return self.directory / "capture.toml"

    @property
    def lowmem(self) -> Path | None:
        """The backup of low memory; None with kexec_file_load, which makes none."""
        path = self.directory / "lowmem"
        return path if path.exists() else None

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """How physical addresses lie in ``ram``."""
        return memory_pieces(self.recipe.memory_size)

    def text(self, name: str) -> str:
        """Return one of the text files, such as ``iomem`` or ``dmesg``."""
        return (self.directory / name).read_text()


class _Manifest(msgspec.Struct):
    recipe: Recipe
    kernel: Kernel
    seconds: float


def load_capture(directory: Path) -> Capture:
    """Return the capture that ``make_capture`` left in a directory.

    Raises:
        LabError: if there is none.
    """
    try:
        body = (directory / _MANIFEST).read_bytes()
        found = msgspec.json.decode(body, type=_Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise LabError(f"{directory}: not a capture: {error}") from error
    return Capture(directory, found.recipe, found.kernel, found.seconds)


def make_capture(
    recipe: Recipe, out: Path, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> Capture:
    """Crash a kernel as the recipe says, and keep what is left of it.

    One guest runs at a time on a machine: this waits for others to end.

    Args:
        recipe: what to crash, and how.
        out: the directory to make; it appears once the capture is complete.
        timeout: seconds for each attempt.
        attempts: how often to try, as emulated CPUs fail now and then.

    Raises:
        LabError: if ``out`` exists and is not empty, or the host lacks something.
        GuestError: if no attempt succeeded; the message ends with the console's last lines.
    """
    with locked("guest"):
        return build_capture(recipe, out, timeout=timeout, attempts=attempts)


def build_capture(recipe: Recipe, out: Path, *, timeout: float, attempts: int) -> Capture:
    """Do the work of ``make_capture`` for a caller who holds the lock ``guest``."""
    chosen = kernel(recipe.release)
    with building(out) as partial, tempfile.TemporaryDirectory(dir=partial) as work:
        initrd = make_initramfs(chosen, Path(work))
        machine = Machine(chosen.vmlinuz, initrd, recipe.cmdline, recipe.memory_size, recipe.cpus)
        seconds = _retry(recipe, machine, partial, timeout=timeout, attempts=attempts)
        manifest = _Manifest(recipe, chosen, round(seconds, 1))
        written = msgspec.json.format(msgspec.json.encode(manifest))
        (partial / _MANIFEST).write_bytes(written + b"\n")
    return load_capture(out)


def _retry(
    recipe: Recipe, machine: Machine, partial: Path, *, timeout: float, attempts: int
) -> float:
    """Try until an attempt succeeds, and return the seconds that one took."""
    for attempt in range(1, attempts + 1):
        LOG.info("attempt %s of %s: %s", attempt, attempts, recipe)
        started = time.monotonic()
        try:
            _attempt(recipe, machine, partial, timeout)
        except GuestError as failure:
            LOG.warning("attempt %s of %s failed: %s", attempt, attempts, failure)
            if attempt == attempts:
                raise GuestError(f"no capture in {attempts} attempts; {failure}") from failure
        else:
            return time.monotonic() - started
    raise LabError(f"{attempts} attempts are too few")


def _attempt(recipe: Recipe, machine: Machine, partial: Path, timeout: float) -> None:
    text = crash(machine, partial, timeout)
    said = sections(text)
    check_sections(said)
    memory = Memory(partial / "ram", memory_pieces(recipe.memory_size))
    backup = find_backup(memory, text, said["iomem"])
    if (backup is not None) != (recipe.load == "kexec"):
        raise GuestError(f"with load={recipe.load}, the elfcorehdr's backup is {backup}")
    check_vmcore(partial / "vmcore", memory, backup)
    _write_texts(said, partial)
    if backup is not None:
        _write_backup(backup, memory, partial)
    (partial / "capture.toml").write_text(_describe(recipe, backup))


def _write_texts(said: dict[str, str], directory: Path) -> None:
    for name in SECTIONS:
        (directory / name).write_text(said[name])
    e820 = [line for line in said["dmesg"].splitlines() if "BIOS-e820:" in line]
    (directory / "e820").write_text("\n".join(e820) + "\n")


def _write_backup(backup: Backup, memory: Memory, directory: Path) -> None:
    (directory / "lowmem").write_bytes(memory.read(backup.copy, backup.size))
    last = backup.paddr + backup.size - 1  # inclusive, as /proc/iomem writes it
    (directory / "lowmem.range").write_text(f"{backup.paddr:08x} {last:08x}\n")


def _describe(recipe: Recipe, backup: Backup | None) -> str:
    """Return the capture's description for vmcorefs."""
    pieces = memory_pieces(recipe.memory_size)
    lines = ['map = "iomem"']
    for piece in pieces:
        lines += ["", "[[image]]", 'path = "ram"']
        if len(pieces) > 1:
            lines += [
                f"paddr = {piece.paddr:#x}",
                f"offset = {piece.offset:#x}",
                f"size = {piece.size:#x}",
            ]
    if backup is not None:
        lines += ["", "[backup]", 'path = "lowmem"', f"paddr = {backup.paddr:#x}"]
    return "\n".join(lines) + "\n"
