"""Make one snapshot or capture: recipe in, directory out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

from tests.lab.console import sections
from tests.lab.evidence import (
    Backup,
    Memory,
    check_sections,
    check_vmcore,
    check_vmcoreinfo,
    find_backup,
)
from tests.lab.host import LOG, GuestError, LabError, building, locked
from tests.lab.initramfs import make_initramfs
from tests.lab.kernels import kernel
from tests.lab.qemu import Machine, Piece, crash, memory_pieces, stop
from tests.lab.recipe import Recipe
from tests.lab.snapshot import Capture, Snapshot, as_capture, load_snapshot, write_manifest

ATTEMPTS: Final = 3
TIMEOUT: Final = 1200.0
_MACHINES: Final = {
    "arm64": "aarch64",
    "ppc64el": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}  # whose name is to be given


def make_capture(
    recipe: Recipe, out: Path, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> Capture:
    """Crash a kernel as the recipe says, and keep what is left of it.

    This waits for whoever has the machine to itself (``locked("guest")``).

    Args:
        recipe: what to crash, and how.
        out: the directory to make; it appears once the capture is complete.
        timeout: seconds for each attempt.
        attempts: how often to try, as emulated CPUs fail now and then.

    Raises:
        LabError: if ``out`` exists and is not empty, the host lacks something, or the recipe
            crashes nothing.
        GuestError: if no attempt succeeded; the message ends with the console's last lines.
    """
    if not recipe.crashes:
        raise LabError(f"{recipe}: crashes nothing; make_snapshot is for this one")
    return as_capture(make_snapshot(recipe, out, timeout=timeout, attempts=attempts))


def make_snapshot(
    recipe: Recipe, out: Path, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS
) -> Snapshot:
    """Do as ``make_capture`` does, with any recipe; the result is a ``Capture`` if that crashes."""
    with locked("guest", shared=True):
        return build_snapshot(recipe, out, timeout=timeout, attempts=attempts)


def build_snapshot(recipe: Recipe, out: Path, *, timeout: float, attempts: int) -> Snapshot:
    """Do the work of ``make_snapshot`` for a caller who holds the lock ``guest``, or shares it."""
    chosen = kernel(recipe.kernel, recipe.arch)
    with building(out) as partial, tempfile.TemporaryDirectory(dir=partial) as work:
        initrd = make_initramfs(chosen, Path(work), loads=recipe.crashes)
        machine = Machine(
            recipe.arch,
            chosen.vmlinuz,
            initrd,
            recipe.cmdline,
            recipe.memory_size,
            recipe.cpus,
            dumps=recipe.dumps,
        )
        seconds = _retry(recipe, machine, partial, timeout=timeout, attempts=attempts)
        write_manifest(partial, recipe, chosen, seconds)
    return load_snapshot(out)


def _retry(
    recipe: Recipe, machine: Machine, partial: Path, *, timeout: float, attempts: int
) -> float:
    """Try until an attempt succeeds, and return the seconds that one took."""
    attempt_once = _crash if recipe.crashes else _stop
    for attempt in range(1, attempts + 1):
        LOG.info("attempt %s of %s: %s", attempt, attempts, recipe)
        started = time.monotonic()
        try:
            attempt_once(recipe, machine, partial, timeout)
        except GuestError as failure:
            LOG.warning("attempt %s of %s failed: %s", attempt, attempts, failure)
            if attempt == attempts:
                raise GuestError(f"no capture in {attempts} attempts; {failure}") from failure
        else:
            return time.monotonic() - started
    raise LabError(f"{attempts} attempts are too few")


def _crash(recipe: Recipe, machine: Machine, partial: Path, timeout: float) -> None:
    text = crash(machine, partial, timeout)
    said = sections(text)
    check_sections(said, recipe.sections)
    memory = Memory(partial / "ram", memory_pieces(recipe.memory_size, recipe.arch))
    backup = find_backup(memory, text, said["iomem"])
    if (backup is not None) != (recipe.load == "kexec"):
        raise GuestError(f"with load={recipe.load}, the elfcorehdr's backup is {backup}")
    check_vmcore(partial / "vmcore", memory, backup)
    _write_texts(recipe, said, partial)
    if backup is not None:
        _write_backup(backup, memory, partial)
    (partial / "capture.toml").write_text(_describe(recipe, backup))


def _stop(recipe: Recipe, machine: Machine, partial: Path, timeout: float) -> None:
    said = sections(stop(machine, partial, timeout))
    check_sections(said, recipe.sections)
    memory = Memory(partial / "ram", memory_pieces(recipe.memory_size, recipe.arch))
    check_vmcoreinfo(memory, said["vmcoreinfo"], said["uname"])
    _write_texts(recipe, said, partial)
    (partial / "capture.toml").write_text(_describe(recipe, None))


def _write_texts(recipe: Recipe, said: dict[str, str], directory: Path) -> None:
    for name in recipe.sections:
        (directory / name).write_text(said[name])
    if recipe.arch != "amd64":
        return
    e820 = [line for line in said["dmesg"].splitlines() if "BIOS-e820:" in line]
    (directory / "e820").write_text("\n".join(e820) + "\n")


def _write_backup(backup: Backup, memory: Memory, directory: Path) -> None:
    (directory / "lowmem").write_bytes(memory.read(backup.copy, backup.size))
    last = backup.paddr + backup.size - 1  # inclusive, as /proc/iomem writes it
    (directory / "lowmem.range").write_text(f"{backup.paddr:08x} {last:08x}\n")


def _describe(recipe: Recipe, backup: Backup | None) -> str:
    """Return the capture's description for vmcorefs."""
    pieces = memory_pieces(recipe.memory_size, recipe.arch)
    lines = ['map = "iomem"']
    if recipe.arch in _MACHINES:
        lines.append(f'machine = "{_MACHINES[recipe.arch]}"')
    for piece in pieces:
        lines += ["", "[[image]]", 'path = "ram"']
        if pieces != (Piece(0, 0, recipe.memory_size),):
            lines += [
                f"paddr = {piece.paddr:#x}",
                f"offset = {piece.offset:#x}",
                f"size = {piece.size:#x}",
            ]
    if backup is not None:
        lines += ["", "[backup]", 'path = "lowmem"', f"paddr = {backup.paddr:#x}"]
    return "\n".join(lines) + "\n"
