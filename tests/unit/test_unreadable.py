"""Pages that cannot be read are taken for absent, named once, and keep nothing else away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.bad_pages import PAGE, bad_pages
from tests.builders.dead_machines import load_phdr, note_phdr, pack_elf
from tests.builders.kernels import (
    CPUS_AT,
    IMAGE_SIZE,
    KALLSYMS_AT,
    LOW,
    MIB,
    NOTE_AT,
    TABLES_AT,
    DeadKernel,
    Span,
    make_kernel,
)
from tests.builders.pages import FILE, LRU, SECTION, PageArray, with_page_array
from tests.conftest import Opener
from vmcorefs import Capture, VmcorefsError
from vmcorefs.core.pages.dump_level import PageKind
from vmcorefs.reports.check import make_check
from vmcorefs.reports.estimate import estimate
from vmcorefs.reports.inspect import make_report
from vmcorefs.save.command import make_order, save_image
from vmcorefs.save.report import Report
from vmcorefs.save.saver import Console

CRASH: Span = (32 * MIB, 40 * MIB)
RAM = (LOW, (MIB, 512 * MIB))


def told(warnings: tuple[str, ...]) -> list[str]:
    return [line for line in warnings if "is taken for absent" in line]


def pages_with_data(path: Path) -> list[int]:
    """The pages of a sparse file that are not all zeros."""
    data = path.read_bytes()
    return [at // PAGE for at in range(0, len(data), PAGE) if any(data[at : at + PAGE])]


def save(capture: Capture, output: Path, level: int) -> Report:
    order = make_order(str(output), (level,), "kdump", "none")
    return save_image(capture.image, order, 1, Console(bar=False, say=None, warn=lambda _: None))


def test_each_page_in_turn_warns_or_is_refused_for_the_right_reason(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    refused: dict[int, str] = {}
    pages = pages_with_data(ram)
    for page in pages:
        where = f"memory at [{page * PAGE:#x}, {(page + 1) * PAGE:#x}) is taken for absent"
        with bad_pages(ram, page):
            try:
                image = open_capture(ram).image
            except VmcorefsError as error:
                refused[page] = str(error)
                continue
        (line,) = told(image.warnings)
        assert line.startswith(where)
        assert line.endswith(
            f"cannot read 4096 bytes at offset {page * PAGE:#x}: Input/output error"
        )
    assert len(pages) > 12
    for page, why in refused.items():
        assert f"memory at [{page * PAGE:#x}, {(page + 1) * PAGE:#x}) is taken for absent" in why
    root = (kernel.base + TABLES_AT) // PAGE
    # the tables by which the root maps itself, and the only VMCOREINFO
    note = (kernel.base + NOTE_AT) // PAGE
    assert sorted(refused) == [root, root + 1, root + 2, note]
    assert "no page tables at 0x1100000 map themselves" in refused[root]
    assert "no VMCOREINFO note and no elfcorehdr was found" in refused[note]


def test_a_map_is_all_that_the_refused_ones_need(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n")
    for at in (TABLES_AT, TABLES_AT + PAGE, NOTE_AT):
        with bad_pages(ram, (kernel.base + at) // PAGE):
            image = open_capture(ram, memory_map=iomem).image
        assert len(told(image.warnings)) == 1


def test_a_first_page_that_does_not_tell_what_the_file_is(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = make_kernel().save(tmp_path / "ram")
    with bad_pages(ram, 0):
        with pytest.raises(VmcorefsError, match=f"what kind of file it is cannot be told.*{ram}@0"):
            open_capture(ram)
        assert open_capture(f"{ram}@0").image.kernel is not None


def test_what_only_tells_whether_it_is_memory_is_named_too(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = make_kernel().save(tmp_path / "ram")
    iomem = tmp_path / "iomem"
    iomem.write_text("00001000-0009fbff : System RAM\n00100000-03ffffff : System RAM\n")
    with bad_pages(ram, 3):
        opened = open_capture(ram, memory_map=iomem, use_elfcorehdr=False, use_vmcoreinfo=False)
    (line,) = told(opened.image.warnings)
    assert line.startswith("memory at [0x3000, 0x4000) is taken for absent")


def with_elfcorehdr() -> DeadKernel:
    kernel = make_kernel(crash_kernel=CRASH)
    backup = CRASH[0] + MIB
    phdrs = [
        *(note_phdr(kernel.base + CPUS_AT + 512 * cpu, 368) for cpu in range(3)),
        note_phdr(kernel.base + NOTE_AT, 4132),
        load_phdr(*LOW, offset=backup, vaddr=kernel.distance + LOW[0]),
        load_phdr(MIB, CRASH[0], vaddr=kernel.distance + MIB),
        load_phdr(CRASH[1], 64 * MIB, vaddr=kernel.distance + CRASH[1]),
    ]
    # it begins in one page and ends in the next
    kernel.put(CRASH[1] - MIB - 1024, pack_elf([*phdrs, *[note_phdr(CRASH[0], 0)] * 20]))
    kernel.put(backup, b"\x01" * (LOW[1] - LOW[0]))
    return kernel


def test_a_bad_page_of_the_backup_costs_that_page_alone(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = with_elfcorehdr().save(tmp_path / "ram")
    with bad_pages(ram, (CRASH[0] + MIB) // PAGE + 7):
        capture = open_capture(ram)
        assert capture.image.backup is not None
        assert told(capture.image.warnings)[0].startswith("memory at [0x8000, 0x9000)")
        oldmem = capture["oldmem"]
        assert oldmem.pread(PAGE, 0x7000) == oldmem.pread(PAGE, 0x9000) == b"\x01" * PAGE
        with pytest.raises(VmcorefsError):
            oldmem.pread(1, 0x8000)


@pytest.mark.parametrize("page", [-1, 0])
def test_an_elfcorehdr_that_cannot_be_read_gives_headers_that_are_built(
    tmp_path: Path, open_capture: Opener, page: int
) -> None:
    ram = with_elfcorehdr().save(tmp_path / "ram")
    assert open_capture(ram).image.plan.paddr is not None
    with bad_pages(ram, (CRASH[1] - MIB) // PAGE + page):
        image = open_capture(ram).image
    assert image.plan.is_built
    assert any("low memory may be what that left there" in line for line in image.warnings)


def test_a_note_buffer_that_cannot_be_read_is_left_out(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    with bad_pages(ram, (kernel.base + CPUS_AT) // PAGE):
        image = open_capture(ram).image
    assert image.notes.cpu_slots == ()
    assert any(line.startswith("note slot at") for line in image.warnings)


def test_a_bad_page_hides_nothing_beside_it(tmp_path: Path, open_capture: Opener) -> None:
    """VMCOREINFO's note lies between two bad pages, in a chunk that is read at once."""
    kernel = make_kernel()
    kernel.put(kernel.base + NOTE_AT - PAGE, b"\x55" * PAGE)
    kernel.put(kernel.base + NOTE_AT + 2 * PAGE, b"\x55" * PAGE)
    ram = kernel.save(tmp_path / "ram")
    note = (kernel.base + NOTE_AT) // PAGE
    with bad_pages(ram, note - 1, note + 2):
        image = open_capture(ram).image
    assert image.kernel is not None
    assert len(told(image.warnings)) == 2


def test_symbols_that_cannot_be_read_are_absent(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    with bad_pages(ram, (kernel.base + KALLSYMS_AT) // PAGE):
        capture = open_capture(ram)
        assert capture.image.memory_map.dialect == "iomem_resource"
        found = {finding["what"]: finding for finding in make_check(capture)["findings"]}
        assert found["kallsyms"]["sure"] == "not found"
        assert "Input/output error" in found["kallsyms"]["against"][0]


def kernel_with_pages() -> tuple[DeadKernel, int]:
    """A kernel whose pages 100 to 229 are cached files, and where their structures are."""
    pages = PageArray("6.1", 4 * SECTION)
    for pfn in range(100, 230):
        pages.put(pfn, flags=LRU["6.1"], mapping=FILE)
    kernel = with_page_array(pages, RAM)
    kernel.put(100 * PAGE, b"\x55" * (130 * PAGE))
    return kernel, 100


@pytest.mark.parametrize("level", [0, 1, 31])
def test_a_dump_is_written_though_a_page_of_the_page_array_cannot_be_read(
    tmp_path: Path, open_capture: Opener, level: int
) -> None:
    """Case 09 of the field: the pages that it describes are kept, as what nothing is known of."""
    kernel, first = kernel_with_pages()
    ram = kernel.save(tmp_path / "ram")
    with open_capture(ram) as whole:
        kinds = whole.image.pages
        vaddr = int(kinds.array.vaddr[0]) + first * kinds.layout.size
        assert whole.image.kernel is not None
        bad = whole.image.kernel.mappings.translate(vaddr)
        assert bad is not None
        before = save(whole, tmp_path / "whole", level)
    with bad_pages(ram, bad // PAGE):
        capture = open_capture(ram)
        report = save(capture, tmp_path / "dump", level)
    kept = report.kept[PageKind.KERNEL] - before.kept[PageKind.KERNEL]
    # a page has 64 structures: those of 64 to 127
    assert kept == 28
    # all that is lost is the page itself, which is memory too
    assert [(loss.start, loss.size) for loss in report.losses.listed] == [
        (bad // PAGE * PAGE, PAGE)
    ]
    named = [line for line in report.warnings if f"[{bad // PAGE * PAGE:#x}, " in line]
    assert len(named) == 1
    assert "is taken for absent" in named[0]


def test_an_estimate_names_a_page_of_the_page_array_once(
    tmp_path: Path, open_capture: Opener
) -> None:
    kernel, first = kernel_with_pages()
    ram = kernel.save(tmp_path / "ram")
    with open_capture(ram) as whole:
        kinds = whole.image.pages
        assert whole.image.kernel is not None
        vaddr = int(kinds.array.vaddr[0]) + first * kinds.layout.size
        bad = whole.image.kernel.mappings.translate(vaddr)
        assert bad is not None
    with bad_pages(ram, bad // PAGE):
        found = estimate(open_capture(ram))
        assert len(told(found.warnings)) == 1
        mounted = open_capture(ram, dump_level=31)
        assert len(told(mounted.image.warnings)) == 1


def test_a_disk_of_which_nothing_can_be_read_is_refused(
    tmp_path: Path, open_capture: Opener
) -> None:
    ram = make_kernel().save(tmp_path / "ram")
    pages = range(ram.stat().st_size // PAGE)
    with bad_pages(ram, *pages), pytest.raises(VmcorefsError, match="Input/output error"):
        open_capture(f"{ram}@0")


def test_a_thousand_bad_pages_are_told_in_a_screen(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    kernel.chunks[:0] = [(20 * MIB, b"\x55" * (8 * MIB))]
    ram = kernel.save(tmp_path / "ram")
    with bad_pages(ram, *range(20 * MIB // PAGE, 28 * MIB // PAGE, 2)):
        warnings = open_capture(ram).image.warnings
    assert 15 < len(warnings) < 25
    assert IMAGE_SIZE < 20 * MIB


def test_each_page_of_a_dump_in_turn(tmp_path: Path, open_capture: Opener) -> None:
    """Of kdump files, only those are refused of which nothing can be found."""
    whole = open_capture(make_kernel().save(tmp_path / "ram"))
    save(whole, tmp_path / "dump", 1)
    kernel = whole.image.kernel
    assert kernel is not None
    refused, unnoticed = {}, []
    for page in range(-(-(tmp_path / "dump").stat().st_size // PAGE)):
        with bad_pages(tmp_path / "dump", page):
            try:
                image = open_capture(tmp_path / "dump").image
            except VmcorefsError as error:
                refused[page] = str(error).rpartition(": ")[2]
                continue
        if not image.warnings:
            unnoticed.append(page)
            assert image.kernel is not None
            assert image.kernel.vmcoreinfo.text == kernel.vmcoreinfo.text
    assert list(refused) == [0, 1, 3]
    assert "what kind of file it is cannot be told" in refused[0]
    assert refused[1] == refused[3] == "without its headers and its bitmap no page can be found"
    assert 2 not in unnoticed  # the bitmap of RAM: what is stored is RAM all the same


def test_the_notes_of_an_elf_dump_that_cannot_be_read(tmp_path: Path, open_capture: Opener) -> None:
    kernel = make_kernel()
    whole = open_capture(kernel.save(tmp_path / "ram"))
    dump = tmp_path / "vmcore"
    order = make_order(str(dump), (1,), "elf", None)
    save_image(whole.image, order, 1, Console(bar=False, say=None, warn=lambda _: None))
    at = dump.read_bytes().index(b"VMCOREINFO") // PAGE
    with bad_pages(dump, at):
        capture = open_capture(dump)
        assert any("bytes of notes are left out" in line for line in capture.image.warnings)
        make_check(capture)
        # its memory has VMCOREINFO too
        assert capture.image.kernel is not None


@pytest.mark.parametrize("level", [1, 2, 3])
def test_every_command_gets_on_without_a_page_table(
    tmp_path: Path, open_capture: Opener, level: int
) -> None:
    kernel = make_kernel()
    ram = kernel.save(tmp_path / "ram")
    table = kernel.tables.descend(kernel.arch.direct, level)
    assert table > kernel.base + TABLES_AT
    with bad_pages(ram, table // PAGE):
        capture = open_capture(ram)
        assert capture.image.kernel is not None
        assert told(capture.image.warnings)
        assert make_report(capture)["files"]
        assert make_check(capture)["tools"]
        assert estimate(capture).pages.sum()
        report = save(capture, tmp_path / "dump", 1)
        assert report.losses.size == PAGE
        for name in ("vmcore", "kcore", "crash_notes"):
            assert capture[name].pread(64, 0)
