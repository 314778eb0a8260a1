"""A real capture of which a page cannot be read: each kind of page that opening looks at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from tests.builders.bad_pages import PAGE, bad_pages
from tests.real.marks import REAL, only
from vmcorefs.api import open_capture
from vmcorefs.config import CaptureConfig
from vmcorefs.discovery.search import scan
from vmcorefs.kernel import page_tables
from vmcorefs.piece import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.capture import Capture
    from vmcorefs.api import Capture as Opened
    from vmcorefs.reader import Reader

pytestmark = [*REAL, only("kexec", "kexec-newer")]

_OF_EACH_KIND = 2


def _opened(capture: Capture) -> Opened:
    return open_capture(CaptureConfig((Piece(str(capture.ram)),)))


def _looked_at(capture: Capture) -> set[int]:
    """The pages that opening reads, apart from looking through all of memory."""
    with bad_pages(capture.ram) as read:
        through = scan._read

        def apart(*args: object) -> object:
            before = set(read)
            found = through(*args)  # type: ignore[arg-type]
            read.clear()
            read.update(before)
            return found

        with patch.object(scan, "_read", apart):
            _opened(capture).close()
    return read


def _kinds(opened: Opened, pages: set[int]) -> Iterator[tuple[str, list[int]]]:
    """The pages by what they hold; what is none of these is left out."""
    image, kernel = opened.image, opened.image.kernel
    assert kernel is not None
    assert kernel.text is not None
    assert image.plan.elfcorehdr.backup is not None
    memory, tables = kernel.memory, set[int]()

    class Watching:
        table = memory.table

        def pread_into(self, paddr: int, buffer: memoryview) -> None:
            tables.add(paddr // PAGE)
            memory.pread_into(paddr, buffer)

    watching: Reader = Watching()  # type: ignore[assignment]
    page_tables.find_page_tables(watching, kernel.machine, kernel.vmcoreinfo)
    yield "page tables", sorted(pages & tables)
    notes = {slot.start // PAGE for slot in image.notes.slots}
    yield "note buffers", sorted(pages & notes)
    _, backup_size, backup = image.plan.elfcorehdr.backup
    start, end = backup // PAGE, (backup + backup_size) // PAGE
    yield "the backup of low memory", [page for page in sorted(pages) if start <= page < end]
    info, (vaddr, paddr, _) = kernel.vmcoreinfo, kernel.text
    names, tokens = (info.symbol(f"kallsyms_{name}") for name in ("names", "token_index"))
    for what, first, last in (
        ("kallsyms", names, tokens),
        ("BTF", kernel.symbol("__start_BTF"), kernel.symbol("__stop_BTF")),
        ("the kernel's data", kernel.symbol("_sdata"), kernel.symbol("_edata")),
    ):
        low, high = ((at - vaddr + paddr) // PAGE for at in (first, last))
        yield what, [page for page in sorted(pages) if low <= page < high]


def test_it_opens_and_names_the_page(capture: Capture) -> None:
    pages = _looked_at(capture)
    with _opened(capture) as whole:
        kinds = dict(_kinds(whole, pages))
    for what, some in kinds.items():
        assert some, what
        for page in some[:: len(some) // _OF_EACH_KIND or 1]:
            with bad_pages(capture.ram, page), _opened(capture) as opened:
                named = [line for line in opened.image.warnings if "taken for absent" in line]
                assert len(named) == 1, (what, hex(page * PAGE))
                offset = re.search(r" at offset (0x[0-9a-f]+): ", named[0])
                assert offset is not None, named
                assert int(offset[1], 16) // PAGE == page, what
                assert opened["vmcore"].size > 0


@pytest.mark.parametrize("level", [1, 31])
def test_pages_whose_structures_cannot_be_read_are_kept(capture: Capture, level: int) -> None:
    """Case 09 of the field, in memory: a page of the page array."""
    with _opened(capture) as whole:
        kernel = whole.image.kernel
        assert kernel is not None
        kinds = whole.image.pages
        row = len(kinds.array.pfn) // 2
        vaddr = int(kinds.array.vaddr[row]) + kinds.layout.size * 1024
        paddr = kernel.mappings.translate(vaddr % (1 << 64))
        assert paddr is not None
        first = int(kinds.array.pfn[row])
        before = kinds.of(first, 4096)
    with bad_pages(capture.ram, paddr // PAGE):
        config = CaptureConfig((Piece(str(capture.ram)),), dump_level=level)
        with open_capture(config) as opened:
            after = opened.image.pages.of(first, 4096)
            named = [line for line in opened.image.warnings if "taken for absent" in line]
    changed = (before != after).nonzero()[0]
    assert not after[changed].any()  # PageKind.KERNEL
    assert not after[1024 : 1024 + PAGE // kinds.layout.size].any()
    assert len(named) == 1


@pytest.mark.parametrize("how", ["EIO", "missing"])
def test_a_page_of_the_log_costs_what_stands_in_it_alone(capture: Capture, how: str) -> None:
    with _opened(capture) as whole:
        kernel, log = whole.image.kernel, whole.image.log
        assert kernel is not None
        assert log is not None
        memory, info = kernel.image, kernel.vmcoreinfo
        ring = memory.pointer(info.symbol("prb")) + info.offset("printk_ringbuffer.text_data_ring")
        text = memory.pointer(ring + info.offset("prb_data_ring.data"))
        paddr = kernel.mappings.translate(text)
        assert paddr is not None
        page = paddr // PAGE + 1
    ram = str(capture.ram)
    if how == "EIO":
        with bad_pages(capture.ram, page), _opened(capture) as opened:
            found, warnings = opened.image.log, opened.image.warnings
    else:
        after = (page + 1) * PAGE
        size = capture.ram.stat().st_size
        pieces = (Piece(ram, 0, size=page * PAGE), Piece(ram, after, after, size - after))
        with open_capture(CaptureConfig(pieces, truncated=True)) as opened:
            found, warnings = opened.image.log, opened.image.warnings
    assert found is not None
    assert "dmesg: 4 KiB of the log could not be read" in warnings
    lines, before = found.splitlines(), log.splitlines()
    torn = [line for line in lines if b"of the log could not be read]" in line]
    # records take 32 bytes at least, and none is lost, but for its text
    assert 1 <= len(torn) <= PAGE // 32 + 1
    assert len(lines) == len(before)
    assert [line for line in lines if line not in torn] == [
        line for line, now in zip(before, lines, strict=True) if now not in torn
    ]
