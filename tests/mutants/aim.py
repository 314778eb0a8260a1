"""Where in a real image the things lie that vmcorefs reads: to aim at, not to judge by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import vmcorefs
from tests.mutants.base import IMAGE, Spot, read_words
from vmcorefs.core.elf.elf import PT_LOAD, parse_ehdr, parse_phdrs
from vmcorefs.errors import VmcorefsError
from vmcorefs.kernel.arch.known import locate_page_tables
from vmcorefs.tree.file import TreeFile

SYMBOLS: Final = {
    # name: bytes to aim at; what the pointers in the first ones point to is aimed at too
    "iomem_resource": 64, "boot_params": 4096, "e820_table": 8, "memblock": 96,
    "__per_cpu_offset": 64, "crash_notes": 8, "modules": 16, "linux_banner": 128,
    "__start_BTF": 1 << 16, "__start_orc_unwind_ip": 4096, "__start_orc_unwind": 4096, "prb": 8,
    "printk_rb_static": 88, "elfcorehdr_addr": 8, "vmcoreinfo_note": 8, "crashk_res": 64,
    "nr_cpu_ids": 4, "__cpu_possible_mask": 64, "init_uts_ns": 400, "mem_section": 64,
}  # fmt: skip
POINTERS: Final = ("iomem_resource", "e820_table", "memblock", "modules", "prb", "printk_rb_static",
                   "vmcoreinfo_note", "mem_section")  # fmt: skip
TOLD: Final = ("kallsyms_names", "kallsyms_num_syms", "kallsyms_token_table",
               "kallsyms_token_index", "kallsyms_offsets", "kallsyms_relative_base")  # fmt: skip
_FOLLOWED: Final = 4096
_ADDRESS: Final = 0x000FFFFFFFFFF000

Locate = Callable[[int], int | None]


def iter_spots(description: Path) -> Iterator[Spot]:
    """What is read of the capture: each spot lies in its image."""
    with vmcorefs.open(description) as capture:
        image = capture.image
        locate = _by_kcore(capture["kcore"])
        physical = _by_paddr(capture["oldmem"])
        if image.plan.paddr is not None:
            yield from _spot("elfcorehdr", physical(image.plan.paddr), 4096)
            yield from _spot("elfcorehdr", physical(image.plan.paddr), 64)
        for slot in image.notes.cpu_slots:
            yield from _spot("CPU notes", physical(slot.start), 400)
        vmcoreinfo = image.notes.vmcoreinfo
        assert vmcoreinfo is not None
        _, root = locate_page_tables(image.plan.elfcorehdr.header.e_machine, vmcoreinfo)
        with (description.parent / IMAGE).open("rb") as file:

            def read(offset: int, size: int) -> bytes:
                file.seek(offset)
                return file.read(size)

            yield from _tables(physical, read, root, 3)
            told = {name: vmcoreinfo.symbol(name) for name in TOLD
                    if f"SYMBOL({name})" in vmcoreinfo.values}  # fmt: skip
            for name, vaddr in told.items():
                yield from _spot(name, locate(vaddr), 2048)
            yield from _symbols(capture["kallsyms"], locate, read)


def _symbols(
    kallsyms: TreeFile, locate: Locate, read: Callable[[int, int], bytes]
) -> Iterator[Spot]:
    for line in kallsyms.pread(kallsyms.size, 0).decode().splitlines():
        vaddr, _, name, *_ = line.split()
        if name not in SYMBOLS:
            continue
        offset = locate(int(vaddr, 16))
        yield from _spot(name, offset, SYMBOLS[name])
        if name in POINTERS and offset is not None:
            for word in read_words(read(offset, SYMBOLS[name])):
                yield from _spot(f"*{name}", locate(word), _FOLLOWED)


def _tables(
    physical: Locate, read: Callable[[int, int], bytes], root: int, depth: int
) -> Iterator[Spot]:
    offset = physical(root)
    if offset is None:
        return
    yield Spot("page tables", IMAGE, offset, 4096)
    entries = [word for word in read_words(read(offset, 4096)) if word & 1]
    for entry in entries[-3:] if depth else []:
        yield from _tables(physical, read, entry & _ADDRESS, depth - 1)


def _spot(what: str, offset: int | None, size: int) -> Iterator[Spot]:
    if offset is not None:
        yield Spot(what, IMAGE, offset, size)


def _by_paddr(oldmem: TreeFile) -> Locate:
    return lambda paddr: _in_image(oldmem, paddr)


def _by_kcore(kcore: TreeFile) -> Locate:
    try:
        header = parse_ehdr(kcore.pread(64, 0))
        phdrs = parse_phdrs(header, kcore.pread(56 * header.e_phnum, header.ehdr_size))
    except VmcorefsError:
        return lambda _: None
    loads = [
        (int(p["p_vaddr"]), int(p["p_memsz"]), int(p["p_offset"]))
        for p in phdrs
        if p["p_type"] == PT_LOAD
    ]

    def locate(vaddr: int) -> int | None:
        for start, size, offset in loads:
            if start <= vaddr < start + size:
                return _in_image(kcore, offset + vaddr - start)
        return None

    return locate


def _in_image(file: TreeFile, at: int) -> int | None:
    """Where in the image a byte of a file of the tree lies, if it lies there."""
    table = file.reader.table
    if not 0 <= at < file.size:
        return None
    row = file.reader.row_of(at)
    source = int(table.source[row])
    if source < 0 or file.reader.sources[source].role != "image":
        return None
    return int(table.offset[row]) + at - int(table.start[row])
