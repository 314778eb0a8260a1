"""Any selection of pages: what is read back is the memory, and nothing else is there."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings, strategies as st

from tests.builders.dead_machines import stamped
from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.elf_reader import ElfFile
from tests.oracles.kdump_reader import KdumpFile
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.save.codecs import CODEC_NAMES, find_codec
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats.elf import ElfFormat
from vmcorefs.save.formats.kdump import KdumpFormat

PAGES = 600
LEFT_OUT: dict[PageKind, Callable[[int], object]] = {
    PageKind.KERNEL: lambda _level: False,
    PageKind.CACHE: lambda level: level & 6,
    PageKind.CACHE_PRIVATE: lambda level: level & 4,
    PageKind.USER: lambda level: level & 8,
    PageKind.FREE: lambda level: level & 16,
    PageKind.HWPOISON: lambda _level: True,
    PageKind.OFFLINE: lambda _level: True,
}
"""Which levels leave a kind out (makedumpfile.8), written here by hand."""

runs = st.lists(st.tuples(st.sampled_from(list(LEFT_OUT)), st.integers(1, 300)), max_size=12)
pages = st.sets(st.integers(0, PAGES - 1), max_size=20)
edges = st.lists(st.integers(0, PAGES * PAGE), min_size=2, max_size=8, unique=True)


class Case:
    """Memory, and which of it a dump must have."""

    def __init__(self, draw: st.DrawFn) -> None:
        kinds = [kind for kind, count in draw(runs) for _ in range(count)][:PAGES]
        self.kinds = kinds + [PageKind.KERNEL] * (PAGES - len(kinds))
        self.level = draw(st.integers(0, 31))
        self.zero = draw(pages) | set(range(draw(st.integers(0, PAGES)), PAGES, 3))
        self.bad = draw(pages)
        cuts = sorted(draw(edges))
        cuts = cuts[: len(cuts) // 2 * 2]
        self.ram = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]

    @property
    def dump(self) -> Dump:
        return small_dump(
            self.ram,
            kinds=self.kinds,
            level=self.level,
            zero=sorted(self.zero),
            bad=sorted(self.bad),
        )

    @property
    def present(self) -> list[int]:
        """Pages that have a byte of RAM."""
        return sorted({pfn for a, b in self.ram for pfn in range(a // PAGE, -(-b // PAGE))})

    @property
    def kept(self) -> list[int]:
        return [pfn for pfn in self.present if not LEFT_OUT[self.kinds[pfn]](self.level)]

    def page(self, pfn: int) -> bytes | None:
        """What a dump must say of a page that it has."""
        if pfn in self.bad:
            return None
        page = bytearray(PAGE)
        for low, high in self.pieces(pfn):
            page[low - pfn * PAGE : high - pfn * PAGE] = self.bytes(pfn, low, high)
        return bytes(page)

    def pieces(self, pfn: int) -> list[tuple[int, int]]:
        """Where a page is RAM."""
        start, end = pfn * PAGE, (pfn + 1) * PAGE
        clipped = [(max(a, start), min(b, end)) for a, b in self.ram]
        return [(low, high) for low, high in clipped if low < high]

    def bytes(self, pfn: int, low: int, high: int) -> bytes:
        return bytes(high - low) if pfn in self.zero else stamped(low, high)


cases = st.composite(Case)()


def lost(watch: Watch) -> set[int]:
    spans = [range(paddr // PAGE, (paddr + size) // PAGE) for paddr, size, _ in watch.losses]
    return {pfn for span in spans for pfn in span}


@settings(max_examples=40, deadline=None)
@given(case=cases, codec=st.sampled_from(CODEC_NAMES), threads=st.sampled_from([1, 3]))
def test_a_kdump_file_has_the_kept_pages(case: Case, codec: str, threads: int) -> None:
    output, watch = MemoryOutput(), Watch()

    KdumpFormat(find_codec(codec), threads)(case.dump, [output], watch)
    file = KdumpFile(bytes(output.data))

    assert file.bitmaps == (set(case.present), set(case.kept))
    assert file.pages == {pfn: case.page(pfn) for pfn in case.kept}
    assert lost(watch) == case.bad & set(case.kept)
    assert bool(file.status & 8) == bool(watch.losses)


@settings(max_examples=40, deadline=None)
@given(case=cases, threads=st.sampled_from([1, 3]))
def test_an_elf_file_has_the_kept_pages(case: Case, threads: int) -> None:
    output, watch = MemoryOutput(), Watch()

    ElfFormat(threads)(case.dump, [output], watch)
    file = ElfFile(bytes(output.data))

    assert lost(watch) == case.bad & set(case.kept)
    for pfn in case.present:
        for low, high in case.pieces(pfn):
            seen = file.read(low, high - low)
            if pfn in lost(watch):
                assert seen is None
            elif pfn in case.kept:
                assert seen == case.bytes(pfn, low, high)
            else:
                assert seen == bytes(high - low)
    assert file.flags == bool(watch.losses)


@settings(max_examples=30, deadline=None)
@given(case=cases, cut=st.floats(0, 1))
def test_a_file_that_was_cut_anywhere_is_completed(case: Case, cut: float) -> None:
    whole = MemoryOutput()
    write = KdumpFormat(find_codec("zlib"), 1)
    write(case.dump, [whole], Watch())
    part = MemoryOutput(data=whole.data[: int(len(whole.data) * cut)])

    write(case.dump, [part], Watch())

    assert part.data == whole.data
