"""A machine that was stopped, read from its memory and what /sys/kernel/vmcoreinfo said.

The shortest way from a memory file to the kernel's virtual memory: no elfcorehdr and no notes.
"""

from __future__ import annotations

import base64
import io
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elftools.elf.elffile import ELFFile

from vmcorefs.config import load_capture_file
from vmcorefs.core.elf.elf import EM_AARCH64, EM_PPC64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.machines import EM_S390, usual_byte_order
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.paging.mappings import Mappings
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.discovery.given_map import load_map
from vmcorefs.kernel.page_tables import find_page_tables
from vmcorefs.kernel.virtual import read_through
from vmcorefs.reader import Reader
from vmcorefs.sources.registry import RawMemory, open_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.capture import Snapshot

MACHINES: Final = {
    "amd64": EM_X86_64,
    "arm64": EM_AARCH64,
    "ppc64el": EM_PPC64,
    "riscv64": EM_RISCV,
    "s390x": EM_S390,
}
_UNKNOWN: Final = (1 << 64) - 1  # of vmalloc space and the like (fs/proc/kcore.c)


@dataclass(frozen=True)
class Load:
    """Where the kernel itself holds a stretch of its virtual memory to be."""

    vaddr: int
    paddr: int
    size: int

    @property
    def end(self) -> int:
        """The physical address behind its last byte."""
        return self.paddr + self.size


@dataclass(frozen=True)
class Walked:
    """A stopped machine's memory, and what its page tables map.

    Args:
        memory: by physical address.
        vmcoreinfo: the kernel's note.
        mappings: of its page tables.
        kernel: its virtual memory, through them.
    """

    memory: Reader
    vmcoreinfo: Vmcoreinfo
    mappings: Mappings
    kernel: KernelMemory


@contextmanager
def walked(snapshot: Snapshot) -> Iterator[Walked]:
    """Open a snapshot's memory with its map, and walk its page tables."""
    config = load_capture_file(str(snapshot.config))
    with ExitStack() as stack:
        ram_end = load_map(str(snapshot.directory / "iomem"), config).end
        opened = open_inputs(config.images, ram_end=ram_end)
        assert isinstance(opened, RawMemory)
        for source in opened.sources:
            stack.callback(source.close)
        memory = Reader("memory", opened.captured, opened.sources)
        vmcoreinfo = read_vmcoreinfo(snapshot, memory)
        mappings = find_page_tables(memory, MACHINES[snapshot.recipe.arch], vmcoreinfo)
        kernel = read_through(memory, mappings, byte_order=_order(snapshot), word_size=8)
        yield Walked(memory, vmcoreinfo, mappings, kernel)


def read_vmcoreinfo(snapshot: Snapshot, memory: Reader) -> Vmcoreinfo:
    """Read the note at the address that the guest's /sys/kernel/vmcoreinfo gives."""
    paddr, size = (int(word, 16) for word in snapshot.text("vmcoreinfo").split())
    note = memory.pread(size, paddr)
    name_size, size, _ = struct.unpack_from(f"{_order(snapshot)}3I", note)
    assert note[12 : 12 + name_size] == b"VMCOREINFO\0"[:name_size]
    return parse_vmcoreinfo(note[24 : 24 + size])


def _order(snapshot: Snapshot) -> ByteOrder:
    return usual_byte_order(MACHINES[snapshot.recipe.arch])


def kcore_loads(snapshot: Snapshot) -> list[Load]:
    """Return the PT_LOADs of the guest's own /proc/kcore whose physical address it gives."""
    headers = io.BytesIO(base64.b64decode(snapshot.text("kcore-headers")))
    loads = [segment.header for segment in ELFFile(headers).iter_segments("PT_LOAD")]
    return [
        Load(load["p_vaddr"], load["p_paddr"], load["p_memsz"])
        for load in loads
        if load["p_paddr"] != _UNKNOWN
    ]
