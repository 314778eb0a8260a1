"""What is true of a capture, worked out from what the guest said and from the kernel's own vmcore.

Nothing here is vmcorefs's: ELF is pyelftools's, and the few formats are read by hand.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elftools.elf.elffile import ELFFile

from tests.lab.evidence import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.capture import Capture, Snapshot

Span = tuple[int, int]
"""A half-open range of physical addresses."""


@dataclass(frozen=True)
class Segments:
    """The program headers of an ELF core, and the contents of its notes."""

    loads: tuple[dict[str, int], ...]
    note: bytes
    descriptions: tuple[tuple[str, bytes], ...]

    @property
    def cpus(self) -> int:
        """How many CPUs saved their registers: one may have hung."""
        return sum(name == "CORE" for name, _ in self.descriptions)


def segments(path: Path) -> Segments:
    """Read an ELF core's program headers."""
    with path.open("rb") as file:
        found: list[Any] = list(ELFFile(file).iter_segments())
        notes = [segment for segment in found if segment["p_type"] == "PT_NOTE"]
        assert len(notes) == 1
        return Segments(
            tuple(dict(s.header) for s in found if s["p_type"] == "PT_LOAD"),
            notes[0].data(),
            tuple((note["n_name"], note["n_descdata"]) for note in notes[0].iter_notes()),
        )


@contextmanager
def by_address(path: Path, space: str) -> Iterator[Callable[[int, int], bytes | None]]:
    """Give a function that reads an ELF core by ``p_paddr`` or ``p_vaddr``.

    ``read(address, size)`` gives None where no PT_LOAD has all of that, or the file cannot be read.
    """
    loads = segments(path).loads
    with path.open("rb", buffering=0) as file:

        def read(address: int, size: int) -> bytes | None:
            for load in loads:
                inside = address - load[space]
                if 0 <= inside <= load["p_memsz"] - size:
                    try:
                        return os.pread(file.fileno(), size, load["p_offset"] + inside)
                    except OSError:
                        return None
            return None

        yield read


def vmcoreinfo(path: Path) -> bytes:
    """Return the text of an ELF core's VMCOREINFO note."""
    (text,) = (body for name, body in segments(path).descriptions if name == "VMCOREINFO")
    return text


def spans(capture: Snapshot, name: str) -> list[Span]:
    """Return the ranges of that name in the guest's ``/proc/iomem``."""
    line = re.compile(rf"^ *([0-9a-f]+)-([0-9a-f]+) : {name}$", re.MULTILINE)
    lines = line.findall(capture.text("iomem"))
    return [(int(first, 16), int(last, 16) + 1) for first, last in lines]


def crashed_ram(capture: Snapshot) -> list[Span]:
    """Return RAM without what the crash kernel had to itself."""
    ram = spans(capture, "System RAM")
    for first, last in spans(capture, "Crash kernel"):
        below = [(start, min(end, first)) for start, end in ram if start < first]
        above = [(max(start, last), end) for start, end in ram if last < end]
        ram = below + above
    return ram


def image_offset(capture: Snapshot, paddr: int) -> int:
    """Return where a physical address lies in the image."""
    for piece in capture.pieces:
        if 0 <= paddr - piece.paddr < piece.size:
            return piece.offset + paddr - piece.paddr
    raise ValueError(f"no memory at {paddr:#x}")


def backup(capture: Capture) -> Span | None:
    """Return the range that ``lowmem`` is the copy of; None with kexec_file_load."""
    if capture.lowmem is None:
        return None
    first, last = capture.text("lowmem.range").split()
    return int(first, 16), int(last, 16) + 1


def in_memory(capture: Snapshot, paddr: int, size: int) -> bytes:
    """Return what the image holds at a physical address."""
    return Memory(capture.ram, capture.pieces).read(paddr, size)
