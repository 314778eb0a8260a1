"""Kernel virtual memory through PT_LOADs and through page tables."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders.dead_machines import stamped
from vmcorefs.core.elf.elf import EM_X86_64, PHDR_DTYPE, PT_LOAD, make_ehdr
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr
from vmcorefs.core.paging.formats import x86_64
from vmcorefs.core.paging.mappings import Aliases, Mappings
from vmcorefs.core.space.extents import Kind, make_extents
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError
from vmcorefs.kernel.virtual import read_through, through_loads
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource

SIZE = 0x8000
TEXT, STACK = 0xFFFFFFFF81000000, 0xFFFFC90000000000


def physical() -> Reader:
    table = make_extents(make_ranges([(0, SIZE)]), kind=Kind.DATA, source=0)
    return Reader("memory", table, (BytesSource("ram", stamped(0, SIZE)),))


def kernel() -> KernelMemory:
    phdrs = np.zeros(2, dtype=PHDR_DTYPE)
    phdrs["p_type"] = PT_LOAD
    phdrs["p_memsz"] = phdrs["p_filesz"] = 0x2000
    phdrs["p_paddr"] = phdrs["p_offset"] = [0x1000, 0x4000]
    phdrs["p_vaddr"] = [TEXT, 0]  # the second's is not known
    return through_loads(physical(), Elfcorehdr(make_ehdr(e_machine=EM_X86_64), phdrs))


def mappings(*runs: tuple[int, int, int]) -> Mappings:
    """``(vaddr, paddr, size)`` runs, sorted."""
    vaddr, paddr, size = (
        np.array(c, dtype=np.uint64).view(np.int64) for c in zip(*runs, strict=True)
    )
    nothing = np.empty(0, dtype=np.int64)
    aliases = Aliases(nothing, nothing, nothing)
    flags = np.zeros(len(runs), dtype=np.uint8)
    return Mappings(x86_64(levels=4), 0, vaddr, paddr, size, flags, aliases, (), 1)


def test_an_address_in_a_pt_load_is_at_its_distance_from_the_start() -> None:
    assert kernel().read(TEXT + 0x10, 16) == stamped(0x1010, 0x1020)
    assert kernel().pointer(TEXT) == 0x1000
    assert (kernel().byte_order, kernel().word_size) == ("<", 8)


@pytest.mark.parametrize("vaddr", [0, TEXT - 8, TEXT + 0x1FFC, 2**64 - 4])
def test_an_address_that_no_pt_load_holds_whole_is_refused(vaddr: int) -> None:
    with pytest.raises(FormatError, match=rf"^no PT_LOAD holds the 8 bytes at vaddr {vaddr:#x}$"):
        kernel().read(vaddr, 8)


def test_pages_that_lie_apart_are_read_as_one() -> None:
    #   vaddr   |page 0|page 1|page 2|
    #   paddr   |0x5000|0x6000|0x2000|
    mapped = read_through(
        physical(),
        mappings((STACK, 0x5000, 0x2000), (STACK + 0x2000, 0x2000, 0x1000)),
        byte_order="<",
        word_size=8,
    )
    expected = stamped(0x5000, 0x7000) + stamped(0x2000, 0x3000)
    assert mapped.read(STACK, 0x3000) == expected
    assert mapped.read(STACK + 0x1FF8, 16) == expected[0x1FF8:0x2008]
    assert mapped.read(STACK + 5, 0) == b""


@pytest.mark.parametrize(("vaddr", "size"), [(STACK - 8, 16), (STACK + 0xFF8, 16), (0, 8)])
def test_a_page_that_is_not_mapped_is_refused(vaddr: int, size: int) -> None:
    mapped = read_through(physical(), mappings((STACK, 0, 0x1000)), byte_order="<", word_size=8)
    with pytest.raises(FormatError, match=rf"^the page tables do not map the {size} bytes at"):
        mapped.read(vaddr, size)


def test_an_address_beyond_64_bits_is_refused() -> None:
    mapped = read_through(physical(), mappings((STACK, 0, 0x1000)), byte_order="<", word_size=8)
    with pytest.raises(FormatError, match=r"^no address space holds the 16 bytes at vaddr"):
        mapped.read(2**64 - 8, 16)
