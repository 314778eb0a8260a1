"""Placements, single addresses and the direct map, against models that do it the simplest way."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, strategies as st

from tests.builders.mappings import format_of, mappings, walk_tables
from tests.builders.page_tables import TOP, Tables
from tests.property.strategies import mapped_tables, spans
from vmcorefs.core.elf.elf import pack_headers
from vmcorefs.core.elf.elfcorehdr import make_elfcorehdr, parse_elfcorehdr
from vmcorefs.core.paging.direct_map import directly_mapped, image_span, weigh
from vmcorefs.core.paging.lookup import translate
from vmcorefs.core.space.placement import Placement, concatenated, iter_placements
from vmcorefs.core.space.ranges import make_ranges

GIB = 1 << 30
PAGE = 4096


def by_byte(placement: Placement) -> dict[int, int]:
    """Offset to physical address."""
    columns = (placement.start.tolist(), placement.offset.tolist(), placement.size.tolist())
    return {
        offset + n: start + n
        for start, offset, size in zip(*columns, strict=True)
        for n in range(size)
    }


@given(spans(), st.integers(1, 70))
def test_concatenated_is_ram_byte_by_byte(ram: list[tuple[int, int]], size: int) -> None:
    addresses = [paddr for start, end in ram for paddr in range(start, end)]
    placement = concatenated(make_ranges(ram), size)
    assert by_byte(placement) == dict(enumerate(addresses[:size]))
    for paddr in range(66):
        for offset in (0, 1, 5, 63):
            shown = offset < min(size, len(addresses)) and addresses[offset] == paddr
            assert placement.shows(paddr, offset) == shown


edges = st.integers(0, 24).map(lambda n: n * GIB // 2) | st.integers(0, 12 * GIB)


@given(
    st.lists(edges, min_size=2, max_size=8, unique=True),
    st.integers(1, 12 * GIB) | edges.filter(bool),
    edges,
    st.booleans(),
)
def test_no_placement_makes_up_bytes(rows: list[int], size: int, delta: int, known: bool) -> None:
    rows = sorted(rows[: len(rows) // 2 * 2])
    ram = make_ranges(list(zip(rows[::2], rows[1::2], strict=True)))
    count = 0
    for placement in iter_placements(size, delta, lambda: ram if known else None):
        count += 1
        table = placement.extents(0, 32)  # validates: sorted, no overlap, nothing empty
        order = np.argsort(placement.offset)
        ends = (placement.offset + placement.size)[order]
        assert (placement.offset[order][1:] >= ends[:-1]).all()
        assert int(ends[-1]) <= size
        assert int(table.offset.min()) >= 32
    assert 1 <= count <= 8


@given(
    st.integers(0, 2 * GIB // PAGE),
    st.integers(1, 3 * GIB // PAGE),
    st.integers(1, 8 * GIB // PAGE),
    st.data(),
)
def test_the_true_split_is_among_those_that_are_tried(
    firmware: int, low_pages: int, high_pages: int, data: st.DataObject
) -> None:
    """Whatever firmware keeps below the hole, if the file is whole."""
    low, high = GIB + low_pages * PAGE, high_pages * PAGE
    low = min(low, 4 * GIB)
    end = max(low - firmware * PAGE, PAGE)
    ram = make_ranges([(0, end), (4 * GIB, 4 * GIB + high)])
    delta = data.draw(st.sampled_from([0, 4 * GIB - low]))
    found = [
        (p.start.tolist(), p.size.tolist()) for p in iter_placements(low + high, delta, lambda: ram)
    ]
    assert ([0, 4 * GIB], [low, high]) in found


@given(mapped_tables(), st.data())
def test_one_address_is_translated_as_the_walk_of_all_does(
    tables: Tables, data: st.DataObject
) -> None:
    fmt, found = format_of(tables.machine), walk_tables(tables, whole=True)

    def read_entry(paddr: int) -> int:
        return tables.get(paddr, 0)

    vaddr, paddr, size, _ = data.draw(st.sampled_from(tables.mapped))
    inside = data.draw(st.integers(0, size - 1))
    assert translate(fmt, tables.root, vaddr + inside, read_entry) == paddr + inside
    other = data.draw(st.integers(tables.machine.start, TOP - 1))
    assert translate(fmt, tables.root, other, read_entry) == found.translate(other)
    if other >> 63:  # the same address, signed
        assert translate(fmt, tables.root, other - TOP, read_entry) == found.translate(other)


RUNS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 10), st.integers(1, 6)), max_size=6
).map(lambda rows: _apart([(TOP - (1 << 30) + v * PAGE, p * PAGE, s * PAGE) for v, p, s in rows]))


def _apart(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Runs that do not overlap in virtual memory, sorted."""
    kept: list[tuple[int, int, int]] = []
    for vaddr, paddr, size in sorted(rows):
        if not kept or kept[-1][0] + kept[-1][2] <= vaddr:
            kept.append((vaddr, paddr, size))
    return kept


@given(RUNS, st.integers(0, 12), st.integers(0, 40), st.integers(0, 40) | st.none())
def test_the_direct_map_is_the_distance_on_which_everything_agrees(
    runs: list[tuple[int, int, int]], root_page: int, image_page: int, told_page: int | None
) -> None:
    base, memory = TOP - (1 << 30), {*range(8), *range(10, 14)}
    root, image = root_page * PAGE, base + image_page * PAGE
    shown: dict[int, set[int]] = defaultdict(set)
    for vaddr, paddr, size in runs:
        if vaddr - paddr != image:
            shown[vaddr - paddr] |= memory & {*range(paddr // PAGE, (paddr + size) // PAGE)}
    counts = {distance: len(pages) for distance, pages in shown.items() if pages}
    fit = {v - p for v, p, s in runs if p <= root < p + s} & counts.keys()
    said = {base + told_page * PAGE} if told_page is not None else set()
    most = {distance for distance, count in counts.items() if 2 * count > len(memory)}
    at_root = {max(fit, key=lambda d: counts[d])} if fit else set()
    found = weigh(
        mappings(*runs, root=root),
        image=image,
        memory=make_ranges([(0, 8 * PAGE), (10 * PAGE, 14 * PAGE)]),
        told=[(distance, "it", True) for distance in said],
    )
    assert found.distance is None or found.distance % TOP != image or image in said
    if len(said | most) > 1 or not said | most | at_root:
        assert found.distance is None
    if found.distance is not None:
        assert {found.distance} >= said | most
        assert found.distance in said | most | fit
        pages = {n for v, p, s in runs if v - p == found.distance
                 for n in range(p // PAGE, (p + s) // PAGE)}  # fmt: skip
        ranges = directly_mapped(mappings(*runs, root=root), found.distance).tolist()
        assert {n for a, b in ranges for n in range(a // PAGE, b // PAGE)} == pages


@given(RUNS, st.integers(-10, 40))
def test_the_image_is_what_is_mapped_at_its_distance(
    runs: list[tuple[int, int, int]], pages: int
) -> None:
    distance = TOP - (1 << 30) + pages * PAGE
    there = [(v, v + s) for v, p, s in runs if v - p == distance]
    expected = (there[0][0], there[-1][1]) if there else None
    assert image_span(mappings(*runs), distance) == expected


@given(
    spans(1 << 20),
    st.lists(st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 20)), max_size=5),
    st.integers(0, TOP - 1) | st.none(),
    st.booleans(),
)
def test_headers_that_are_made_are_read_back(
    ram: list[tuple[int, int]], notes: list[tuple[int, int]], direct_map: int | None, text: bool
) -> None:
    image = (TOP - (1 << 31), 0x1000, 0x2000) if text else None
    made = make_elfcorehdr(
        make_ranges(ram), e_machine=62, notes=notes, text=image, direct_map=direct_map
    )
    if not len(made.phdrs):
        return
    read = parse_elfcorehdr(bytes(pack_headers(made.header, made.phdrs)))
    assert read.phdrs.tolist() == made.phdrs.tolist()
    assert [(int(n["p_offset"]), int(n["p_memsz"])) for n in read.notes] == notes
    for load in read.loads[int(text) :]:
        expected = 0 if direct_map is None else (int(load["p_paddr"]) + direct_map) % TOP
        assert int(load["p_vaddr"]) == expected
