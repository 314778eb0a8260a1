"""A vmcore that pages were taken out of, against a page-by-page model of the whole one."""

from __future__ import annotations

import io
from itertools import groupby, pairwise
from unittest import mock

from elftools.elf.elffile import ELFFile
from hypothesis import example, given, strategies as st

from tests.builders.dead_machines import Phdr, load_phdr, note_phdr, pack_elf
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.layouts import filtered as filtered_layout
from vmcorefs.core.layouts.filtered import leave_out
from vmcorefs.core.layouts.kernel import VmcoreLayout, lay_out_vmcore
from vmcorefs.core.layouts.universal import lay_out_universal
from vmcorefs.core.space.ranges import Ranges, make_ranges

PAGE = 4096
NOWHERE = 2**64 - 1
SLIDES = [0xFFFF888000000000, 0xFFFFFFFF7F000000]
SPACE = 64

Told = tuple[int, int, int]
"""Physical and virtual address of a byte, and where it is in the file."""


@st.composite
def _loads(draw: st.DrawFn) -> Phdr:
    start = draw(st.integers(0, SPACE * PAGE))
    end = start + draw(st.one_of(st.just(0), st.integers(0, 24 * PAGE)))
    slide = draw(st.sampled_from([None, *SLIDES]))
    return load_phdr(start, end, vaddr=0 if slide is None else slide + start)


TWO_PAGES = make_ranges([(0, 2 * PAGE)])
left_out = st.lists(
    st.tuples(st.integers(0, SPACE + 24), st.integers(1, 9)).map(
        lambda run: (run[0] * PAGE, (run[0] + run[1]) * PAGE)
    ),
    max_size=12,
).map(make_ranges)


def segments(layout: VmcoreLayout) -> list[dict[str, int]]:
    return [dict(s.header) for s in ELFFile(io.BytesIO(layout.head)).iter_segments()]


def told(layout: VmcoreLayout) -> list[Told]:
    """The first and last byte of each page that a PT_LOAD tells of, in their order."""
    _, *loads = segments(layout)
    found = []
    for load in loads:
        alias = load["p_paddr"] == NOWHERE
        size = load["p_filesz"]
        assert load["p_memsz"] == size + alias  # by that, tools know one
        inside = (load["p_vaddr"] if alias else load["p_paddr"]) % PAGE
        edges = {0, size, *range(-inside % PAGE, size, PAGE)}
        for at in sorted({*edges, *(edge - 1 for edge in edges)}):
            if 0 <= at < size:
                paddr = NOWHERE if alias else load["p_paddr"] + at
                vaddr = load["p_vaddr"] + at if load["p_vaddr"] else 0
                found.append((paddr, vaddr, load["p_offset"] + at))
    return found


def memory(layout: VmcoreLayout) -> dict[int, int]:
    """Page of the file to the physical page that it shows."""
    windows = layout.windows
    shown = {}
    for start, size, to in zip(
        windows.start.tolist(), windows.size.tolist(), windows.to.tolist(), strict=True
    ):
        assert size > 0
        for at in range(0, size, PAGE):
            assert to + at not in shown
            shown[to + at] = start + at
    return shown


def long_runs(layout: VmcoreLayout, out: Ranges, least: int) -> set[int]:
    """Pages of the file that stand in a run of at least so many that are left out."""
    gone = {page for start, end in out.tolist() for page in range(start, end, PAGE)}
    windows = layout.windows
    cut: set[int] = set()
    for start, size, to in zip(
        windows.start.tolist(), windows.size.tolist(), windows.to.tolist(), strict=True
    ):
        pages = range(start, start + size, PAGE)
        for is_gone, run in groupby(pages, key=gone.__contains__):
            places = [to + page - start for page in run]
            if is_gone and len(places) >= least:
                cut.update(places)
    return cut


@given(st.lists(_loads(), max_size=8), left_out, st.booleans(), st.integers(1, 6))
# two that tell of the same byte: it goes with the long run of one, and stays in the other
@example([load_phdr(0, 1, vaddr=0), load_phdr(0, PAGE + 1, vaddr=0)], TWO_PAGES, False, 2)
@example(
    [load_phdr(0, PAGE + 1, vaddr=0), load_phdr(0, 2 * PAGE + 1, vaddr=0)],
    make_ranges([(PAGE, 3 * PAGE)]),
    False,
    2,
)
def test_what_stays_is_as_it_was_and_all_of_it_is_told(
    loads: list[Phdr], out: Ranges, universal: bool, least: int
) -> None:
    elfcorehdr = parse_elfcorehdr(pack_elf([note_phdr(0x1000, 16), *loads]))
    if universal:
        known = parse_vmcoreinfo(b"NUMBER(phys_base)=0\n")
        whole = lay_out_universal(elfcorehdr, 16, known, page_size=PAGE, note_align=4)
    else:
        whole = lay_out_vmcore(elfcorehdr, 16, page_size=PAGE, note_align=4)
    with mock.patch.object(filtered_layout, "MIN_RUN", least):
        layout = leave_out(whole, out)

    before, after = memory(whole), memory(layout)
    cut = long_runs(whole, out, least)
    note, *_ = segments(layout)
    assert (note["p_filesz"], note["p_offset"]) == (16, len(layout.head))
    # the file holds the same pages in the same order, but for long runs
    assert list(after) == list(range(len(layout.head) + PAGE, layout.size, PAGE))
    assert list(after.values()) == [page for at, page in before.items() if at not in cut]

    # what every PT_LOAD tells is as before, but for these
    stays = [(paddr, vaddr, at) for paddr, vaddr, at in told(whole) if at // PAGE * PAGE not in cut]
    for (paddr, vaddr, old), now in zip(stays, told(layout), strict=True):
        assert now[:2] == (paddr, vaddr)
        assert after[now[2] // PAGE * PAGE] == before[old // PAGE * PAGE]
        assert now[2] % PAGE == old % PAGE
    # an empty PT_LOAD stays, and is where what comes behind it is
    empty = [load for load in segments(whole)[1:] if not load["p_filesz"]]
    after_them = [load for load in segments(layout)[1:] if not load["p_filesz"]]
    assert [load["p_paddr"] for load in empty] == [load["p_paddr"] for load in after_them]
    for was_empty, is_empty in zip(empty, after_them, strict=True):
        behind = was_empty["p_offset"] // PAGE * PAGE
        rest = [page for at, page in after.items() if at >= is_empty["p_offset"] // PAGE * PAGE]
        assert rest == [page for at, page in before.items() if at >= behind and at not in cut]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_runs_too_many_to_take_out_are_holes(runs: list[int]) -> None:
    """Of every second page there is a run: at most three of them are taken out."""
    out, at = [], 0
    for pages in runs:
        out.append((at, at + pages * PAGE))
        at += (pages + 1) * PAGE
    elfcorehdr = parse_elfcorehdr(pack_elf([note_phdr(0x1000, 16), load_phdr(0, at)]))
    whole = lay_out_vmcore(elfcorehdr, 16, page_size=PAGE, note_align=4)
    with (
        mock.patch.object(filtered_layout, "MIN_RUN", 1),
        mock.patch.object(filtered_layout, "MAX_LOADS", 3),
    ):
        layout = leave_out(whole, make_ranges(out))
    ends = [(load["p_paddr"], load["p_paddr"] + load["p_memsz"]) for load in segments(layout)[1:]]
    cut = [(b - a) // PAGE for a, b in pairwise([0, *(edge for span in ends for edge in span)])][
        ::2
    ]
    cut = [pages for pages in cut if pages]
    assert len(cut) <= 3
    assert cut == [run for run in runs if run >= min(cut, default=99)]
    # the shortest is doubled: one less than half of it would have been too many
    assert cut or len([run for run in runs if run > max(runs) // 2]) > 3
