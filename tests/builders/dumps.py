"""Dumps to write: of pages made by hand, or of a vmcore that a kernel gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.builders.dead_machines import (
    PT_NOTE,
    X86_64,
    Flavour,
    load_phdr,
    pack_elf,
    prstatus_note,
    stamped,
    vmcoreinfo_note,
    vmcoreinfo_text,
)
from vmcorefs.core.elf.elf import PT_LOAD, parse_ehdr, parse_phdrs
from vmcorefs.core.elf.elfcorehdr import Elfcorehdr, parse_elfcorehdr
from vmcorefs.core.elf.notes import find_vmcoreinfo, walk_notes
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.pages.dump_level import KindArray, PageKind
from vmcorefs.core.space.extents import Extents, Kind, make_extents, overlay
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.errors import OutputError, SourceIOError
from vmcorefs.reader import Reader
from vmcorefs.save.dump import Dump
from vmcorefs.sources.base import BytesSource
from vmcorefs.sources.file import FileSource

PAGE = 4096


@dataclass
class FixedKinds:
    """Kinds that were told beforehand; pages behind them are the kernel's."""

    kinds: KindArray = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    page_size: int = PAGE

    def of(self, first: int, count: int) -> KindArray:
        known = self.kinds[first : first + count]
        return np.concatenate((known, np.zeros(count - len(known), dtype=np.uint8)))


@dataclass
class MemoryOutput:
    """A file in memory, that tells in which pieces it was written.

    Attributes:
        room: Bytes that it takes; there is no room behind them.
    """

    room: int | None = None
    data: bytearray = field(default_factory=bytearray)
    pieces: list[tuple[int, int]] = field(default_factory=list)

    @property
    def present(self) -> int:
        return len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def truncate(self, size: int) -> None:
        del self.data[size:]

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self.pieces.append((offset, len(data)))
        fits = data if self.room is None else data[: max(self.room - offset, 0)]
        self.data.extend(bytes(max(offset + len(fits) - len(self.data), 0)))
        self.data[offset : offset + len(fits)] = fits
        if len(fits) < len(data):
            raise OutputError("out: cannot write: No space left on device")


@dataclass
class Watch:
    """Keeps what an observer was told."""

    steps: list[tuple[int, int]] = field(default_factory=list)
    losses: list[tuple[int, int, str]] = field(default_factory=list)

    def pages(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def needs(self, sizes: Sequence[int], what: str) -> None:
        pass

    def compared(self, done: int, total: int) -> None:
        pass

    def lost(self, paddr: int, size: int, reason: str) -> None:
        self.losses.append((paddr, size, reason))


class BadSource(BytesSource):
    """Bytes on a disk some of whose pages cannot be read."""

    def __init__(self, data: bytes, bad: Sequence[int] = ()) -> None:
        super().__init__("ram", data)
        self.bad = frozenset(bad)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        for page in range(offset // PAGE, -(-(offset + len(buffer)) // PAGE)):
            if page in self.bad:
                raise SourceIOError(self.name, offset, len(buffer), "Input/output error")
        super().pread_into(offset, buffer)


def small_dump(
    ram: Sequence[tuple[int, int]] = ((0, 64 * PAGE),),
    *,
    kinds: Sequence[int] | KindArray = (),
    level: int = 0,
    zero: Sequence[int] = (),
    bad: Sequence[int] = (),
    memory: bytes | None = None,
    flavour: Flavour = X86_64,
    page_size: int = PAGE,
) -> Dump:
    """A dump of a few pages whose bytes say where they are from.

    Args:
        ram: Its ranges, in bytes.
        kinds: Of its pages, from page 0 on.
        level: The dump level.
        zero: Pages that are nothing but zeros.
        bad: Pages that cannot be read.
        memory: All of the memory instead, from address 0 on.
        flavour: The machine.
        page_size: Its bytes in a page.
    """
    ranges = make_ranges(ram)
    end = int(ranges[-1, 1])
    image = bytearray(stamped(0, end) if memory is None else memory)
    for page in zero:
        image[page * page_size : (page + 1) * page_size] = bytes(page_size)
    table = make_extents(ranges, kind=Kind.DATA, source=0, offset=int(ranges[0, 0]))
    text = vmcoreinfo_text(page_size=page_size)
    notes = prstatus_note(1, 2, 3, flavour.order) + vmcoreinfo_note(text, flavour.order)
    return Dump(
        ram=ranges,
        memory=Reader("memory", table, [BadSource(bytes(image[:end]), bad)]),
        kinds=FixedKinds(np.asarray(kinds, dtype=np.uint8), page_size),
        level=level,
        notes=notes,
        vmcoreinfo=parse_vmcoreinfo(text),
        elfcorehdr=parse_elfcorehdr(pack_elf([load_phdr(a, b) for a, b in ram], flavour)),
    )


@contextmanager
def dump_of(vmcore: Path, kinds: FixedKinds | None = None, level: int = 0) -> Iterator[Dump]:
    """A dump of what a vmcore holds, by its own program headers."""
    source = FileSource(str(vmcore), role="image")
    try:
        head = bytearray(1 << 16)
        source.pread_into(0, memoryview(head))
        header = parse_ehdr(bytes(head))
        phdrs = parse_phdrs(header, bytes(head[header.ehdr_size :]))
        loads = phdrs[phdrs["p_type"] == PT_LOAD].copy()
        note = phdrs[phdrs["p_type"] == PT_NOTE][0]
        notes = bytearray(int(note["p_filesz"]))
        source.pread_into(int(note["p_offset"]), memoryview(notes))
        text = find_vmcoreinfo(walk_notes(bytes(notes), header.byte_order).notes)
        table: Extents | None = None
        for load in loads:
            start, size = int(load["p_paddr"]), int(load["p_filesz"])
            rows = make_extents(
                make_ranges([(start, start + size)]),
                kind=Kind.DATA,
                source=0,
                offset=int(load["p_offset"]),
            )
            table = rows if table is None else overlay(table, rows)
        assert table is not None
        loads["p_offset"] = loads["p_paddr"]
        yield Dump(
            ram=Elfcorehdr(header, loads).ram,
            memory=Reader("memory", table, [source]),
            kinds=FixedKinds() if kinds is None else kinds,
            level=level,
            notes=bytes(notes),
            vmcoreinfo=None if text is None else parse_vmcoreinfo(text),
            elfcorehdr=Elfcorehdr(header, loads),
        )
    finally:
        source.close()


def kinds_by_makedumpfile(kdump: Path) -> FixedKinds:
    """Which pages a dump of makedumpfile's holds, as kinds: the others are free ones."""
    with kdump.open("rb") as file:
        head = file.read(1 << 12)
        block, sub_blocks, bitmap_blocks = (
            int.from_bytes(head[at : at + 4], "little") for at in (428, 432, 436)
        )
        half = bitmap_blocks // 2 * block
        file.seek((1 + sub_blocks) * block + half)
        kept = np.unpackbits(np.frombuffer(file.read(half), np.uint8), bitorder="little")
    return FixedKinds(np.where(kept, PageKind.KERNEL, PageKind.FREE).astype(np.uint8))
