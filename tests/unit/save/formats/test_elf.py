"""ELF dumps, read with ``struct`` alone."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.builders.dead_machines import load_phdr, pack_elf, stamped
from tests.builders.dumps import PAGE, MemoryOutput, Watch, small_dump
from tests.oracles.elf_reader import ElfFile
from vmcorefs.core.elf.elfcorehdr import parse_elfcorehdr
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.core.space.extents import restrict
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import ConfigError, OutputError
from vmcorefs.output.local import LocalTarget
from vmcorefs.reader import Reader
from vmcorefs.save.dump import Dump
from vmcorefs.save.formats import elf
from vmcorefs.save.formats.elf import ElfFormat
from vmcorefs.save.written import Written

PAGES = 2048
FREE = range(1000, 1300)
SHORT = range(20, 30)


def page(pfn: int) -> bytes:
    return stamped(pfn * PAGE, (pfn + 1) * PAGE)


def make(**changes: object) -> Dump:
    kinds = [PageKind.KERNEL] * PAGES
    for rows in (FREE, SHORT):
        kinds[rows.start : rows.stop] = [PageKind.FREE] * len(rows)
    fields: dict[str, object] = {"kinds": kinds, "level": 16}
    return small_dump([(0, PAGES * PAGE)], **(fields | changes))  # type: ignore[arg-type]


def write(dump: Dump, output: MemoryOutput | None = None, **options: bool) -> ElfFile:
    output = output or MemoryOutput()
    ElfFormat(2, **options)(dump, [output], Watch())
    return ElfFile(bytes(output.data))


def test_every_kept_page_is_there() -> None:
    dump = make()
    file = write(dump)
    kind, _flags, offset, *_rest, filesz, _memsz, _align = file.phdrs[0]

    assert [file.page(pfn) for pfn in range(PAGES)] == [
        bytes(PAGE) if pfn in FREE or pfn in SHORT else page(pfn) for pfn in range(PAGES)
    ]
    assert file.flags == 0
    assert kind == 4
    assert file.data[offset : offset + filesz] == dump.notes


def test_a_long_run_that_is_left_out_is_not_in_the_file() -> None:
    file = write(make())
    sizes = [fields[4:7] for fields in file.phdrs[1:]]
    loads = [tuple(size // PAGE for size in each) for each in sizes]

    assert loads == [(0, 1000, 1000), (1000, 0, 300), (1300, 748, 748)]
    assert len(file.data) < (PAGES - 300) * PAGE + 90_000


@pytest.mark.parametrize("level", [0, 1])
def test_pages_of_zeros_are_counted_as_left_out_by_bit_1(level: int) -> None:
    output = MemoryOutput()
    dump = make(level=level, zero=range(100, 800), kinds=[PageKind.USER] * PAGES)

    written = ElfFormat(1)(dump, [output], Watch())

    assert (written.kept if level == 0 else written.left_out)[PageKind.ZERO] == 700
    assert written.kept[PageKind.USER] == PAGES - 700
    assert written.size == len(output.data)
    assert ElfFile(bytes(output.data)).page(100) == bytes(PAGE)


def test_zeros_are_holes_of_the_file() -> None:
    output = MemoryOutput()

    file = write(make(level=0, zero=[*range(100, 800), *range(1500, PAGES)]), output)

    assert sum(size for _offset, size in output.pieces) < (PAGES - 1000) * PAGE
    assert file.page(PAGES - 1) == bytes(PAGE)
    assert file.page(1499) == page(1499)


def test_a_page_that_cannot_be_read_is_in_no_segment() -> None:
    watch, output = Watch(), MemoryOutput()

    ElfFormat(1)(make(bad=[3, 4, 1400]), [output], watch)
    file = ElfFile(bytes(output.data))

    assert [pfn for pfn in range(PAGES) if file.page(pfn) is None] == [3, 4, 1400]
    assert file.flags == 1
    assert file.page(5) == page(5)
    assert [(paddr // PAGE, size // PAGE) for paddr, size, _ in watch.losses] == [(3, 2), (1400, 1)]


def test_memory_that_no_input_holds_is_in_no_segment() -> None:
    dump = make(level=0)
    held = make_ranges([(0, 500 * PAGE), (600 * PAGE, PAGES * PAGE)])
    table = restrict(dump.memory.table, held)
    lacking = replace(dump, ram=held, memory=Reader("memory", table, dump.memory.sources))

    file = write(lacking)

    assert [pfn for pfn in range(PAGES) if file.page(pfn) is None] == list(range(500, 600))
    assert file.flags == 0


def test_a_page_that_is_held_in_part_is_lost() -> None:
    dump = make(level=0)
    held = make_ranges([(0, 500 * PAGE + 100)])
    table = restrict(dump.memory.table, held)
    watch, output = Watch(), MemoryOutput()

    memory = Reader("memory", table, dump.memory.sources)
    ElfFormat(1)(replace(dump, ram=held, memory=memory), [output], watch)
    file = ElfFile(bytes(output.data))

    assert [(paddr, size) for paddr, size, _reason in watch.losses] == [(500 * PAGE, PAGE)]
    assert file.page(499) == page(499)
    assert file.page(500) is None


def test_its_sum_is_that_of_the_file_and_takes_no_second_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(LocalTarget(str(tmp_path / "dump"), force=False)) as target:
        monkeypatch.setattr(target, "pread", None)
        ElfFormat(2)(make(zero=range(100, 800)), [target], Watch())
        target.publish()
        found = target.sha256(lambda: None)
    assert found == hashlib.sha256((tmp_path / "dump").read_bytes()).hexdigest()


def test_its_sum_is_that_of_the_file_if_pages_are_lost(tmp_path: Path) -> None:
    with closing(LocalTarget(str(tmp_path / "dump"), force=False)) as target:
        ElfFormat(1)(make(bad=[3, 1400]), [target], Watch())
        found = target.sha256(lambda: None)
    assert found == hashlib.sha256((tmp_path / "dump.incomplete").read_bytes()).hexdigest()


def test_a_pipe_gets_it_in_order_or_an_error() -> None:
    class Pipe(MemoryOutput):
        sequential = True

        def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
            assert offset == len(self.data)
            super().pwrite(data, offset)

    pipe, file = Pipe(), MemoryOutput()
    ElfFormat(2)(make(zero=range(100, 800)), [pipe], Watch())
    ElfFormat(1)(make(zero=range(100, 800)), [file], Watch())

    assert pipe.data == file.data
    with pytest.raises(OutputError, match="an ELF stream cannot say that it lacks this"):
        ElfFormat(1)(make(bad=[1400]), [Pipe()], Watch())


def test_with_more_lost_pages_than_headers_the_pages_between_them_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elf, "_SPARE", 0)
    watch, output = Watch(), MemoryOutput()
    bad = [*range(0, 600, 4), 1400]

    ElfFormat(1)(make(bad=bad, level=0), [output], watch)
    file = ElfFile(bytes(output.data))

    gone = {pfn for pfn in range(PAGES) if file.page(pfn) is None}
    spans = [range(paddr // PAGE, (paddr + size) // PAGE) for paddr, size, _ in watch.losses]
    told = {pfn for span in spans for pfn in span}
    assert set(bad) < gone == told
    assert file.page(599) == page(599)
    assert "no room for more program headers" in watch.losses[-1][2]


def test_memory_that_stands_twice_is_counted_once() -> None:
    """The kernel's image has a PT_LOAD of its own, and is in the RAM's too."""
    text = 0xFFFFFFFF81000000
    phdrs = [load_phdr(8 * PAGE, 16 * PAGE, vaddr=text), load_phdr(0, PAGES * PAGE)]
    dump = replace(make(bad=[10], zero=[11]), elfcorehdr=parse_elfcorehdr(pack_elf(phdrs)))
    watch, output = Watch(), MemoryOutput()

    written = ElfFormat(1)(dump, [output], watch)
    file = ElfFile(bytes(output.data))

    assert watch.steps[-1] == (PAGES - 310, PAGES - 310)
    assert [(paddr, size) for paddr, size, _reason in watch.losses] == [(10 * PAGE, PAGE)]
    assert written.kept[PageKind.ZERO] == 1
    assert [(vaddr, filesz) for *_, vaddr, _, filesz, _, _ in file.phdrs[1:3]] == [
        *((text, 2 * PAGE), (text + 3 * PAGE, 5 * PAGE))
    ]
    assert file.page(9) == page(9)


def test_a_full_disk_leaves_what_was_written() -> None:
    output = MemoryOutput(room=3 << 20)

    with pytest.raises(OutputError, match="No space left"):
        write(make(), output)
    file = ElfFile(bytes(output.data))

    assert file.flags == 1
    assert [file.page(pfn) for pfn in range(600)] == [
        bytes(PAGE) if pfn in SHORT else page(pfn) for pfn in range(600)
    ]
    assert file.page(900) is None


def test_an_elf_dump_has_no_parts() -> None:
    with pytest.raises(ConfigError, match="2 parts: an ELF dump is one file"):
        ElfFormat(1)(make(), [MemoryOutput(), MemoryOutput()], Watch())


def test_the_size_is_the_file_s() -> None:
    output = MemoryOutput()

    written: Written = ElfFormat(1)(make(), [output], Watch())

    assert written.size == len(output.data)
