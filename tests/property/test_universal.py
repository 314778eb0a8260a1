"""The universal layout against a page-by-page model: every page once, every view kept."""

from __future__ import annotations

import io
from itertools import pairwise

from elftools.elf.elffile import ELFFile
from hypothesis import given, strategies as st

from tests.builders.dead_machines import Phdr, load_phdr, note_phdr, pack_elf
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.layouts.universal import lay_out_universal

PAGE = 4096
NO_PADDR = 2**64 - 1
SLIDES = [0xFFFF888000000000, 0xFFFFFFFF7F000000, 0xFFFF900000000000]


@st.composite
def _loads(draw: st.DrawFn) -> Phdr:
    start = draw(st.integers(0, 40 * PAGE))
    end = start + draw(st.integers(0, 12 * PAGE))
    slide = draw(st.sampled_from([None, *SLIDES]))
    return load_phdr(start, end, vaddr=0 if slide is None else slide + start)


def _pages(load: Phdr) -> range:
    """The numbers of the pages that a load touches."""
    return range(load.p_offset // PAGE, -(-(load.p_offset + load.p_memsz) // PAGE))


@given(st.lists(_loads(), max_size=12))
def test_every_page_stands_once_and_every_view_of_it_is_kept(loads: list[Phdr]) -> None:
    elfcorehdr = parse_elfcorehdr(pack_elf([note_phdr(0x1000, 16), *loads]))
    known = parse_vmcoreinfo(b"NUMBER(phys_base)=0\n")
    layout = lay_out_universal(elfcorehdr, 16, known, page_size=PAGE, note_align=4)
    _, *segments = [dict(s.header) for s in ELFFile(io.BytesIO(layout.head)).iter_segments()]
    ram = [s for s in segments if s["p_paddr"] != NO_PADDR]
    aliases = segments[len(ram) :]
    assert all(s["p_filesz"] == s["p_memsz"] for s in ram)
    assert all(s["p_filesz"] < s["p_memsz"] for s in aliases)

    # page of memory -> where it stands in the file, by the RAM segments
    place: dict[int, int] = {}
    for segment in ram:
        for at in range(0, segment["p_filesz"], PAGE):
            paddr = segment["p_paddr"] + at
            assert paddr not in place
            place[paddr] = segment["p_offset"] + at
    wanted = {page * PAGE for load in loads if load.p_memsz for page in _pages(load)}
    assert list(place) == sorted(wanted)
    assert list(place.values()) == [0x2000 + PAGE * n for n in range(len(place))]
    assert layout.size == 0x2000 + PAGE * len(place)
    assert all(one["p_paddr"] + one["p_memsz"] <= two["p_paddr"] for one, two in pairwise(ram))

    # virtual page -> where it stands in the file
    views = {
        (segment["p_vaddr"] + at, segment["p_offset"] + at)
        for segment in segments
        if segment["p_vaddr"]
        for at in range(0, segment["p_filesz"], PAGE)
    }
    for load in loads:
        if load.p_vaddr and load.p_memsz:
            slide = load.p_vaddr - load.p_offset
            for page in _pages(load):
                assert (slide + page * PAGE, place[page * PAGE]) in views

    # what is RAM, byte by byte at the edges
    exact = {(a, b) for a, b in layout.loads.tolist()}
    for start, end in exact:
        assert 0x2000 <= start < end <= layout.size
    assert sum(b - a for a, b in exact) == sum(
        end - start for start, end in elfcorehdr.ram.tolist()
    )
