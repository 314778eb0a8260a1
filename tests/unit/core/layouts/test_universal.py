"""The layout for every tool: RAM once and in order, the kernel's text as an alias behind it."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from tests.builders.dead_machines import (
    DIRECT_MAP,
    EM_386,
    EM_PPC64,
    TEXT_VADDR,
    X86_64,
    Flavour,
    Phdr,
    kexec_tools_phdrs,
    load_phdr,
    note_phdr,
    pack_elf,
)
from tests.matching import exactly
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr, parse_elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.layouts.kernel import VmcoreLayout
from vmcorefs.core.layouts.universal import lay_out_universal
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import LayoutError, UnsupportedError

NOTE = note_phdr(0x110000, 368)
KNOWN = b"OSRELEASE=6.1.0\nNUMBER(phys_base)=354418688\n"
NO_PADDR = 2**64 - 1
TEXT = load_phdr(0x140000, 0x161000, vaddr=TEXT_VADDR)


def lay_out(
    *loads: Phdr,
    flavour: Flavour = X86_64,
    text: bytes | None = KNOWN,
    page: int = 4096,
    notes: int = 356,
) -> VmcoreLayout:
    elfcorehdr = parse_elfcorehdr(pack_elf([NOTE, *loads], flavour))
    vmcoreinfo = None if text is None else parse_vmcoreinfo(text)
    return lay_out_universal(elfcorehdr, notes, vmcoreinfo, page_size=page, note_align=0)


def ram(start: int, end: int) -> Phdr:
    return load_phdr(start, end, vaddr=DIRECT_MAP + start)


def segments(layout: VmcoreLayout) -> list[tuple[str, int, int, int, int, int]]:
    """What pyelftools sees: type, p_offset, p_vaddr, p_paddr, p_filesz, and p_memsz - p_filesz."""
    return [
        (
            s["p_type"],
            s["p_offset"],
            s["p_vaddr"],
            s["p_paddr"],
            s["p_filesz"],
            s["p_memsz"] - s["p_filesz"],
        )
        for s in ELFFile(io.BytesIO(layout.head)).iter_segments()
    ]


def test_ram_is_in_order_and_text_is_an_alias_of_it() -> None:
    # 0 headers | 0x1000 notes | 0x2000 low memory | 0xa1000 | 0x1a1000 above the crash kernel
    layout = lay_out(*[p for p in kexec_tools_phdrs() if p.p_type == 1])
    assert segments(layout) == [
        ("PT_NOTE", 0x1000, 0, 0, 356, 0),
        ("PT_LOAD", 0x2000, DIRECT_MAP + 0x1000, 0x1000, 0x9F000, 0),
        ("PT_LOAD", 0xA1000, DIRECT_MAP + 0x100000, 0x100000, 0x100000, 0),
        ("PT_LOAD", 0x1A1000, DIRECT_MAP + 0x2C0000, 0x2C0000, 0x40000, 0),
        # 0x40000 into the segment of 0x100000
        ("PT_LOAD", 0xE1000, TEXT_VADDR, NO_PADDR, 0x21000, 1),
    ]
    assert layout.size == 0x1A1000 + 0x40000
    assert layout.windows.start.tolist() == [0x1000, 0x100000, 0x2C0000]
    assert layout.windows.to.tolist() == [0x2000, 0xA1000, 0x1A1000]
    assert not layout.moved.any()
    # low memory ends at 0x9fc00: the rest of its last page is no RAM
    assert layout.loads.tolist() == [[0x2000, 0xA0C00], [0xA1000, 0x1E1000]]


def test_headers_are_as_makedumpfile_and_crash_want_them() -> None:
    elf = ELFFile(io.BytesIO(lay_out(TEXT, ram(0x100000, 0x200000)).head))
    assert elf.header["e_phoff"] == 64
    assert [s["p_align"] for s in elf.iter_segments()] == [0, 0, 0]
    assert [s["p_flags"] for s in elf.iter_segments()] == [0, 7, 7]


def test_p_align_of_an_elfcorehdr_is_not_kept() -> None:
    layout = lay_out(Phdr(1, 0x1000, 0x1000, p_vaddr=DIRECT_MAP, p_align=0x1000))
    assert ELFFile(io.BytesIO(layout.head)).get_segment(1)["p_align"] == 0


def test_neighbours_of_one_slide_are_joined() -> None:
    layout = lay_out(ram(0x3000, 0x5000), ram(0x1000, 0x2800), ram(0x2800, 0x3000))
    assert segments(layout)[1:] == [
        ("PT_LOAD", 0x2000, DIRECT_MAP + 0x1000, 0x1000, 0x4000, 0),
    ]


def test_neighbours_of_different_slides_are_not_joined_and_share_no_page() -> None:
    # |1000 ... 2800|2800 ... 4000|: the second's page 2000 is the first's, and an alias shows it
    moved = load_phdr(0x2800, 0x4000, vaddr=TEXT_VADDR + 0x800)
    assert segments(lay_out(ram(0x1000, 0x2800), moved))[1:] == [
        ("PT_LOAD", 0x2000, DIRECT_MAP + 0x1000, 0x1000, 0x2000, 0),
        ("PT_LOAD", 0x4000, TEXT_VADDR + 0x1000, 0x3000, 0x1000, 0),
        ("PT_LOAD", 0x3000, TEXT_VADDR, NO_PADDR, 0x1000, 1),
    ]


def test_unknown_virtual_addresses_stay_0_and_are_joined() -> None:
    layout = lay_out(load_phdr(0x2000, 0x3000), load_phdr(0x1000, 0x2000), text=None)
    assert segments(layout)[1:] == [("PT_LOAD", 0x2000, 0, 0x1000, 0x2000, 0)]


def test_high_memory_keeps_the_virtual_address_that_is_none() -> None:
    high = load_phdr(0x1000, 0x2000, vaddr=NO_PADDR)
    assert segments(lay_out(high))[1][2] == NO_PADDR


def test_a_load_that_says_nothing_new_is_left_out() -> None:
    layout = lay_out(ram(0x1000, 0x2000), ram(0x1000, 0x5000), load_phdr(0x2000, 0x3000))
    assert segments(layout)[1:] == [("PT_LOAD", 0x2000, DIRECT_MAP + 0x1000, 0x1000, 0x4000, 0)]


def test_of_equal_ranges_the_last_is_ram_as_kexec_writes_text_first() -> None:
    text = load_phdr(0x1000, 0x2000, vaddr=TEXT_VADDR)
    assert [s[2:4] for s in segments(lay_out(text, ram(0x1000, 0x2000)))[1:]] == [
        (DIRECT_MAP + 0x1000, 0x1000),
        (TEXT_VADDR, NO_PADDR),
    ]


def test_an_alias_may_go_on_into_the_next_segment() -> None:
    # RAM in two pieces of different slides that touch; text lies across both
    other = load_phdr(0x3000, 0x5000, vaddr=TEXT_VADDR - 0x100000)
    text = load_phdr(0x2000, 0x4000, vaddr=TEXT_VADDR)
    whole = load_phdr(0x1000, 0x4000, vaddr=DIRECT_MAP + 0x1000)
    assert segments(lay_out(text, whole, other))[1:] == [
        ("PT_LOAD", 0x2000, DIRECT_MAP + 0x1000, 0x1000, 0x3000, 0),
        ("PT_LOAD", 0x5000, TEXT_VADDR - 0xFF000, 0x4000, 0x1000, 0),
        ("PT_LOAD", 0x3000, TEXT_VADDR, NO_PADDR, 0x2000, 1),
        ("PT_LOAD", 0x4000, TEXT_VADDR - 0x100000, NO_PADDR, 0x1000, 1),
    ]


def test_text_that_is_in_no_other_segment_is_ram() -> None:
    layout = lay_out(TEXT, ram(0x200000, 0x201000), text=None)
    assert [s[3] for s in segments(layout)[1:]] == [0x140000, 0x200000]


def test_all_is_rounded_to_the_page_of_the_kernel_that_died() -> None:
    layout = lay_out(ram(0x18000, 0x21000), page=65536)
    assert segments(layout) == [
        ("PT_NOTE", 0x10000, 0, 0, 356, 0),
        ("PT_LOAD", 0x20000, DIRECT_MAP + 0x10000, 0x10000, 0x20000, 0),
    ]
    assert layout.loads.tolist() == [[0x28000, 0x31000]]


@pytest.mark.parametrize("machine", [EM_386, 40])
def test_elf32_has_an_address_that_is_none_too(machine: int) -> None:
    text = load_phdr(0x140000, 0x161000, vaddr=0xC1000000)
    layout = lay_out(
        text,
        load_phdr(0x100000, 0x200000, vaddr=0xC0100000),
        flavour=Flavour(32, "<", machine),
        text=None,
    )
    assert [s[2:] for s in segments(layout)[1:]] == [
        (0xC0100000, 0x100000, 0x100000, 0),
        (0xC1000000, 0xFFFFFFFF, 0x21000, 1),
    ]


def test_big_endian_headers_are_big_endian() -> None:
    layout = lay_out(TEXT, ram(0x100000, 0x200000), flavour=Flavour(64, ">", EM_PPC64), text=None)
    assert [s[3] for s in segments(layout)[1:]] == [0x100000, NO_PADDR]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "there is no VMCOREINFO"),
        (b"OSRELEASE=4.9.0\n", "VMCOREINFO has no NUMBER(phys_base)"),
    ],
)
def test_text_needs_phys_base_on_x86_64(text: bytes | None, why: str) -> None:
    with pytest.raises(
        UnsupportedError,
        match=exactly(
            f"the universal layout needs to know phys_base, but {why} (the kernel provides it since"
            " Linux 4.10): crash would take it from the segment of the kernel's text, which has no"
            " physical address in that layout; use the kernel's layout"
        ),
    ):
        lay_out(TEXT, ram(0x100000, 0x200000), text=text)
    assert len(segments(lay_out(ram(0x100000, 0x200000), text=text))) == 2


def test_no_memory_at_all_gives_a_note_segment() -> None:
    assert segments(lay_out(load_phdr(0x1000, 0x1000), notes=0)) == [
        ("PT_NOTE", 0x1000, 0, 0, 0, 0)
    ]


def test_a_vmcore_larger_than_a_file_can_be_is_refused() -> None:
    size = 0x2000 + MAX_ADDRESS
    with pytest.raises(
        LayoutError,
        match=exactly(f"the vmcore would have {size} bytes, more than {MAX_ADDRESS}"),
    ):
        lay_out(load_phdr(0, MAX_ADDRESS))


def test_65535_program_headers_are_counted_in_a_section_header() -> None:
    ranges = make_ranges((n << 13, (n << 13) + 0x1000) for n in range(65534))
    plan = make_elfcorehdr(ranges, e_machine=X86_64.machine)
    layout = lay_out_universal(plan, 0, None, page_size=4096, note_align=0)
    assert ELFFile(io.BytesIO(layout.head)).num_segments() == 65535
    assert layout.size == len(layout.head) + 65534 * 0x1000
