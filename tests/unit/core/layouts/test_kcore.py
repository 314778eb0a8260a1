"""Where the parts of a kcore stand, read back by pyelftools."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

from vmcorefs.core.elf.elf import EM_X86_64, make_ehdr
from vmcorefs.core.layouts.kcore import KcoreLayout, lay_out_kcore

PAGE = 4096
GIB = 1 << 30
DIRECT, VMALLOC, TEXT = 0xFFFF888000000000, 0xFFFFC90000000000, 0xFFFFFFFF81000000


def lay_out(runs: list[tuple[int, int, int]], notes_size: int = 368) -> KcoreLayout:
    """Lay out ``(vaddr, paddr, size)`` runs."""
    vaddr, paddr, size = (np.array(c, dtype=np.uint64) for c in zip(*runs, strict=True))
    return lay_out_kcore(
        make_ehdr(e_machine=EM_X86_64),
        vaddr=vaddr.view(np.int64),
        paddr=paddr.astype(np.int64),
        size=size.astype(np.int64),
        notes_size=notes_size,
        page_size=PAGE,
    )


def segments(layout: KcoreLayout) -> list[dict[str, Any]]:
    elf = ELFFile(io.BytesIO(layout.head))
    return [dict(segment.header) for segment in elf.iter_segments()]


def test_each_part_is_a_segment_and_the_notes_come_first() -> None:
    layout = lay_out([(DIRECT, 0, 2 * GIB), (VMALLOC, 0x5000, PAGE), (TEXT, 0x1000000, 0x200000)])
    note, *loads = segments(layout)
    assert note["p_type"] == "PT_NOTE"
    assert (note["p_offset"], note["p_filesz"], note["p_memsz"]) == (PAGE, 368, 368)
    assert [load["p_vaddr"] for load in loads] == [DIRECT, VMALLOC, TEXT]
    assert [load["p_paddr"] for load in loads] == [0, 0x5000, 0x1000000]
    assert [load["p_offset"] for load in loads] == [
        2 * PAGE,
        2 * PAGE + 2 * GIB,
        3 * PAGE + 2 * GIB,
    ]
    assert layout.size == 3 * PAGE + 2 * GIB + 0x200000


def test_runs_near_each_other_are_one_part_with_holes_between() -> None:
    # |page| guard |page|        more than PART_GAP        |page|
    far = VMALLOC + 4 * GIB
    layout = lay_out([(VMALLOC, 0x9000, PAGE), (VMALLOC + 2 * PAGE, 0x3000, PAGE), (far, 0, PAGE)])
    near, alone = segments(layout)[1:]
    assert (near["p_vaddr"], near["p_filesz"]) == (VMALLOC, 3 * PAGE)
    assert near["p_paddr"] == 2**64 - 1
    assert (alone["p_vaddr"], alone["p_paddr"]) == (far, 0)
    assert layout.windows.start.tolist() == [0x9000, 0x3000, 0]
    assert layout.windows.to.tolist() == [2 * PAGE, 4 * PAGE, 5 * PAGE]


def test_the_notes_push_the_parts_behind_whole_pages() -> None:
    layout = lay_out([(TEXT, 0, PAGE)], notes_size=PAGE + 1)
    assert layout.notes_end == 3 * PAGE
    assert segments(layout)[1]["p_offset"] == 3 * PAGE


def test_no_mappings_at_all_leave_headers_and_notes() -> None:
    empty = np.empty(0, dtype=np.int64)
    layout = lay_out_kcore(
        make_ehdr(e_machine=EM_X86_64),
        vaddr=empty,
        paddr=empty,
        size=empty,
        notes_size=12,
        page_size=PAGE,
    )
    assert [segment["p_type"] for segment in segments(layout)] == ["PT_NOTE"]
    assert layout.size == 2 * PAGE
