"""Is a capture sound? Its memory, its vmcore and what the guest said must tell one story.

This is not vmcorefs's own reading of a capture, and shares no code with it: the ELF headers are
pyelftools's business, and bytes are compared only where no overlay is in play.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from tests.lab.console import expect
from tests.lab.host import GuestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.lab.qemu import Piece

_PAGE_SIZE: Final = 4096
_ELFCOREHDR_SIZE: Final = 64 * 1024  # far more than a guest's few program headers take
_SUFFIXES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Backup:
    """The copy of low memory that kexec's purgatory made before the capture kernel ran.

    Args:
        paddr: of what was copied.
        size: in bytes.
        copy: paddr of the copy.
    """

    paddr: int
    size: int
    copy: int


@dataclass(frozen=True)
class Memory:
    """A guest's memory file, read by physical address."""

    path: Path
    pieces: Sequence[Piece]

    def read(self, paddr: int, size: int) -> bytes:
        """Return ``size`` bytes from ``paddr`` on.

        Raises:
            GuestError: if the guest has no memory there.
        """
        for piece in self.pieces:
            if piece.paddr <= paddr and paddr + size <= piece.end:
                with self.path.open("rb") as file:
                    file.seek(piece.offset_of(paddr))
                    return file.read(size)
        raise GuestError(f"{self.path.name}: no memory at [{paddr:#x}, {paddr + size:#x})")


def check_sections(said: Mapping[str, str], wanted: Sequence[str]) -> None:
    """Check that the kernel said all that it should.

    Args:
        said: the sections by name.
        wanted: names of the sections that it should have said.

    Raises:
        GuestError: if a section is missing, or empty though it can't be.
    """
    # kexec --debug is silent about kexec_file_load, where the kernel does the work
    missing = [name for name in wanted if name not in said]
    missing += [name for name in wanted if said.get(name) == "" and name != "kexec"]
    if missing:
        raise GuestError(f"the guest said nothing, or not all, of: {', '.join(missing)}")


def find_backup(memory: Memory, console: str, iomem: str) -> Backup | None:
    """Read the elfcorehdr, check it, and return the backup that it tells of.

    Args:
        memory: of the guest, after the capture.
        console: all that the guest said.
        iomem: the crashed kernel's ``/proc/iomem``.

    Raises:
        GuestError: if there is no sound elfcorehdr where the capture kernel was told to look, or
            it lies outside the crash kernel's range.
    """
    paddr = _elfcorehdr_paddr(expect(console, "CAPTURE"))
    reserved = _crash_kernel(iomem)
    if not any(start <= paddr < end for start, end in reserved):
        shown = ", ".join(f"[{start:#x}, {end:#x})" for start, end in reserved)
        raise GuestError(f"elfcorehdr at {paddr:#x} is outside the crash kernel's range {shown}")
    loads = _loads(io.BytesIO(memory.read(paddr, _ELFCOREHDR_SIZE)), f"elfcorehdr at {paddr:#x}")
    # in an elfcorehdr, p_offset is the physical address that the bytes are to be read from
    diverted = [load for load in loads if load["p_offset"] != load["p_paddr"]]
    if not diverted:
        return None
    if len(diverted) > 1:
        raise GuestError(f"elfcorehdr at {paddr:#x}: {len(diverted)} segments are backups, not 1")
    load = diverted[0]
    return Backup(int(load["p_paddr"]), int(load["p_filesz"]), int(load["p_offset"]))


def check_vmcore(vmcore: Path, memory: Memory, backup: Backup | None) -> None:
    """Compare the first and the last page of each of a vmcore's segments with the memory.

    Raises:
        GuestError: if the vmcore is cut short, or a page differs.
    """
    with vmcore.open("rb") as file:
        loads = _loads(file, vmcore.name)
        needed = max(load["p_offset"] + load["p_filesz"] for load in loads)
        if vmcore.stat().st_size < needed:
            raise GuestError(f"{vmcore.name}: {vmcore.stat().st_size} bytes, not {needed}")
        for load in loads:
            start, size = int(load["p_paddr"]), int(load["p_filesz"])
            moved = backup.copy - start if backup and start == backup.paddr else 0
            for where in (0, size - _PAGE_SIZE):
                file.seek(load["p_offset"] + where)
                if file.read(_PAGE_SIZE) != memory.read(start + where + moved, _PAGE_SIZE):
                    raise GuestError(f"{vmcore.name}: page at {start + where:#x} is not memory's")


def check_vmcoreinfo(memory: Memory, vmcoreinfo: str, uname: str) -> None:
    """Check that the memory holds the VMCOREINFO note of the kernel that spoke.

    Args:
        memory: of the guest.
        vmcoreinfo: its ``/sys/kernel/vmcoreinfo``: the note's paddr and size.
        uname: what ``uname -a`` said.

    Raises:
        GuestError: if it holds something else there.
    """
    paddr, size = (int(word, 16) for word in vmcoreinfo.split())
    note = memory.read(paddr, size)
    release = uname.split()[2]
    if note[12:23] != b"VMCOREINFO\0" or f"OSRELEASE={release}\n".encode() not in note:
        raise GuestError(f"no VMCOREINFO of {release} at {paddr:#x}, but {note[:64]!r}")


def _loads(file: IO[bytes], name: str) -> list[Any]:
    try:
        segments = [segment.header for segment in ELFFile(file).iter_segments("PT_LOAD")]
    except ELFError as error:
        raise GuestError(f"{name}: not ELF: {error}") from error
    if not segments:
        raise GuestError(f"{name}: no PT_LOAD")
    return segments


def _elfcorehdr_paddr(cmdline: str) -> int:
    found = re.search(r"elfcorehdr=(?:\w+@)?(0x[0-9a-f]+|[0-9]+)([KMG]?)", cmdline)
    if found is None:
        raise GuestError(f"the capture kernel was given no elfcorehdr: {cmdline}")
    return int(found[1], 0) * _SUFFIXES[found[2]]


def _crash_kernel(iomem: str) -> list[tuple[int, int]]:
    """Return the crash kernel's ranges, half-open."""
    lines = re.findall(r"^ *([0-9a-f]+)-([0-9a-f]+) : Crash kernel$", iomem, re.MULTILINE)
    return [(int(first, 16), int(last, 16) + 1) for first, last in lines]
