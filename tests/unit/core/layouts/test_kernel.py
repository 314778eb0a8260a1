"""The vmcore's arithmetic, on the cases where it is easy to get wrong."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from tests.builders.dead_machines import Flavour, Phdr, load_phdr, note_phdr, pack_elf
from tests.matching import exactly
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.layouts.kernel import VmcoreLayout, lay_out_vmcore
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import LayoutError

NOTE = note_phdr(0x110000, 368)
CLASSES = [Flavour(64, "<"), Flavour(64, ">"), Flavour(32, "<"), Flavour(32, ">")]


def lay_out(
    *loads: Phdr, notes: int = 356, page: int = 4096, flavour: Flavour = CLASSES[0]
) -> VmcoreLayout:
    elfcorehdr = parse_elfcorehdr(pack_elf([NOTE, *loads], flavour))
    return lay_out_vmcore(elfcorehdr, notes, page_size=page, note_align=0)


def segments(layout: VmcoreLayout) -> list[tuple[str, int, int, int, int]]:
    """What pyelftools sees: ``(type, offset, paddr, filesz, align)`` of each program header."""
    return [
        (s["p_type"], s["p_offset"], s["p_paddr"], s["p_filesz"], s["p_align"])
        for s in ELFFile(io.BytesIO(layout.head)).iter_segments()
    ]


@pytest.mark.parametrize("flavour", CLASSES, ids=str)
def test_one_note_segment_comes_first_and_page_aligned_segments_follow(flavour: Flavour) -> None:
    # 0 headers | 0x1000 notes | 0x2000 first load | 0x4000 second load | 0x5000
    layout = lay_out(load_phdr(0x100000, 0x102000), load_phdr(0x200000, 0x201000), flavour=flavour)
    assert segments(layout) == [
        ("PT_NOTE", 0x1000, 0, 356, 0),
        ("PT_LOAD", 0x2000, 0x100000, 0x2000, 0),
        ("PT_LOAD", 0x4000, 0x200000, 0x1000, 0),
    ]
    assert layout.size == 0x5000
    assert len(layout.head) == 0x1000
    assert layout.notes.tolist() == [[0x1000, 0x1000 + 356]]


def test_an_unaligned_end_takes_the_whole_last_page() -> None:
    # |1000 ... 9f000 ... 9fc00|::::| a0000: the page's rest is shown, as the kernel does
    layout = lay_out(load_phdr(0x1000, 0x9FC00))
    assert segments(layout)[1] == ("PT_LOAD", 0x2000, 0x1000, 0x9EC00, 0)
    assert layout.windows.start.tolist() == [0x1000]
    assert layout.windows.size.tolist() == [0x9F000]
    assert layout.size == 0x2000 + 0x9F000


def test_a_backup_that_is_not_congruent_to_its_addresses_keeps_its_place_in_the_page() -> None:
    # read at 0x200400: p_offset is 0x400 into the page, and the pages are one more than paddr's
    layout = lay_out(load_phdr(0x1000, 0x9FC00, offset=0x200400))
    assert segments(layout)[1] == ("PT_LOAD", 0x2400, 0x1000, 0x9EC00, 0)
    assert layout.windows.start.tolist() == [0x200000]
    assert layout.windows.size.tolist() == [0x9F000]
    assert layout.moved.tolist() == [True]
    assert layout.loads.tolist() == [[0x2400, 0x2400 + 0x9EC00]]


def test_a_page_that_two_segments_share_is_stored_twice() -> None:
    # |1000 ... 1800|1800 ... 2800|   file: page 1 | pages 1 and 2
    layout = lay_out(load_phdr(0x1000, 0x1800), load_phdr(0x1800, 0x2800))
    assert [s[1] for s in segments(layout)[1:]] == [0x2000, 0x3800]
    assert layout.windows.start.tolist() == [0x1000, 0x1000]
    assert layout.windows.to.tolist() == [0x2000, 0x3000]
    assert layout.size == 0x5000


def test_an_empty_segment_at_a_page_boundary_takes_no_page_but_keeps_its_header() -> None:
    layout = lay_out(load_phdr(0x3000, 0x3000), load_phdr(0x1000, 0x2000))
    assert [s[1] for s in segments(layout)[1:]] == [0x2000, 0x2000]
    assert layout.windows.start.tolist() == [0x1000]
    assert layout.size == 0x3000


def test_72_program_headers_fill_a_page_and_the_73rd_takes_another() -> None:
    loads = [load_phdr(n << 12, (n + 1) << 12) for n in range(256, 328)]
    full = lay_out(*loads[:71])
    assert len(full.head) == 0x1000
    assert segments(full)[0][1] == 0x1000
    spilled = lay_out(*loads)
    assert len(spilled.head) == 0x2000
    assert segments(spilled)[0][1] == 0x2000
    assert segments(spilled)[-1] == ("PT_LOAD", 0x3000 + 71 * 0x1000, 327 << 12, 0x1000, 0)


def test_notes_longer_than_a_page_push_the_segments_on() -> None:
    assert segments(lay_out(load_phdr(0x1000, 0x2000), notes=4097))[1][1] == 0x3000


def test_without_notes_there_is_an_empty_note_segment_and_no_note_page() -> None:
    assert segments(lay_out(load_phdr(0x1000, 0x2000), notes=0)) == [
        ("PT_NOTE", 0x1000, 0, 0, 0),
        ("PT_LOAD", 0x1000, 0x1000, 0x1000, 0),
    ]


def test_all_is_rounded_to_the_page_of_the_kernel_that_died() -> None:
    # 64 KiB pages: |0x18000 ... 0x21000| touches pages 1 and 2
    layout = lay_out(load_phdr(0x18000, 0x21000), page=65536)
    assert segments(layout)[0][1] == 0x10000
    assert segments(layout)[1][1] == 0x20000 + 0x8000
    assert layout.windows.start.tolist() == [0x10000]
    assert layout.windows.size.tolist() == [0x20000]
    assert layout.size == 0x40000


def test_fields_that_say_nothing_of_the_layout_are_left_as_they_were() -> None:
    odd = Phdr(1, 0x1000, 0x1000, p_vaddr=0xFFFF888000001000, p_flags=5, p_align=0x200000)
    segment = ELFFile(io.BytesIO(lay_out(odd).head)).get_segment(1)
    assert segment["p_vaddr"] == 0xFFFF888000001000
    assert segment["p_flags"] == 5
    assert segment["p_align"] == 0x200000
    assert segment["p_memsz"] == 0x1000


def test_a_vmcore_larger_than_a_file_can_be_is_refused() -> None:
    half = MAX_ADDRESS // 2
    size = 0x2000 + 2 * half
    with pytest.raises(
        LayoutError,
        match=exactly(f"the vmcore would have {size} bytes, more than {MAX_ADDRESS}"),
    ):
        lay_out(load_phdr(0, half), load_phdr(half, MAX_ADDRESS))


def test_sizes_whose_sum_wraps_around_64_bits_are_refused() -> None:
    with pytest.raises(LayoutError):
        lay_out(*[load_phdr(0, MAX_ADDRESS)] * 4)
