"""Dumps as images."""

from __future__ import annotations

import gzip
import resource

from tests.builders import dead_machines
from tests.builders.elf_dumps import LOADS, NOTES, TEXT, Load, direct, pack_dump
from tests.builders.kdumps import CODECS, Kdump, flatten
from tests.builders.qemu import REGISTERS
from tests.builders.virtualbox import pack_virtualbox
from tests.fuzz.target import target
from vmcorefs.core.elf.dump_headers import MAX_NOTES, MAX_PHDRS, read_dump_headers
from vmcorefs.core.elf.dump_memory import read_dump_memory
from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.elf.registers import encode_prstatus
from vmcorefs.core.formats.foreign.recognise import recognise
from vmcorefs.core.formats.foreign.signature import HEAD_SIZE
from vmcorefs.core.space.extents import Kind
from vmcorefs.discovery.dump import cut_into_slots
from vmcorefs.errors import FaultError, SourceIOError
from vmcorefs.reader import Reader
from vmcorefs.sources.base import BytesSource
from vmcorefs.sources.dumps.diskdump import open_diskdump
from vmcorefs.sources.dumps.elf import open_elf
from vmcorefs.sources.dumps.flattened import Unflattened
from vmcorefs.sources.file import FileSource

HUGE = (1 << 64) - 1
_MOST_PAGES = 200


class BytesFile(BytesSource):
    """A file in memory."""

    kind = "bytes"

    @property
    def file(self) -> FileSource:
        raise AssertionError("there is none")


@target(
    "elf-dump",
    valid=[
        pack_dump([direct(0x1000, 0x3000)], NOTES),
        pack_dump([direct(0x1000, 0x9000, held=0x1000), TEXT][:1], b""),
        pack_dump([Load(0x1000, 0x2000, 5)], b"", dead_machines.Flavour(32, ">")),
    ],
    nasty=[
        pack_dump(LOADS)[:4096],
        pack_dump([Load(0x1000, 0x2000, HUGE, 0, HUGE, HUGE)]),
        pack_dump([Load(1 << 61, 1 << 62, 1, 0, 1 << 61)] * 3),
    ],
)
def _elf_dump(data: bytes) -> None:
    def read(size: int, offset: int) -> bytes:
        assert 0 <= size <= MAX_NOTES + MAX_PHDRS * 56
        return data[offset : offset + size]

    dump = read_dump_headers(read, len(data))
    memory = read_dump_memory(dump)
    stored = memory.held.only(Kind.DATA)
    assert (stored.offset + stored.size <= len(data)).all()
    assert memory.held.only(Kind.DATA, Kind.EXCLUDED).is_same(memory.held)
    assert (memory.plan.ram[:, 0] < memory.plan.ram[:, 1]).all()
    for phdr in dump.note_phdrs:
        offset = int(phdr["p_offset"])
        notes = read(int(phdr["p_filesz"]), offset)
        walk = walk_notes(notes, dump.header.byte_order)
        slots = list(cut_into_slots(notes, offset, walk.notes, walk.size))
        assert sum(slot.size for slot in slots) == walk.size
        assert sum(len(slot.notes) for slot in slots) == len(walk.notes)


def _packed(codec: str) -> bytes:
    return Kdump([*range(3, 20), 25], range(2, 30), zeros=[5], codec=codec).pack()


_VBOX = [(0, bytes(4096)), (0x100000, bytes(8192))]


@target(
    "virtualbox-core",
    valid=[pack_virtualbox(_VBOX, REGISTERS), pack_virtualbox(_VBOX, REGISTERS)[:-5000]],
    nasty=[pack_virtualbox(_VBOX, REGISTERS)[:0x1100], pack_virtualbox(_VBOX * 2)],
)
def _virtualbox_core(data: bytes) -> None:
    opened = open_elf(BytesFile("dump", data))
    if opened.cpus is not None:
        for registers in opened.cpus.cpus:
            assert encode_prstatus(1, registers, opened.cpus.machine, "<")


@target(
    "kdump",
    valid=[
        *(_packed(codec) for codec in CODECS),
        Kdump([3], order=">").pack(),
        Kdump([1, 2, 3], notes=None).pack(),
        Kdump([1, 2, 3], split=(2, 3)).pack(),
        Kdump([1, 2, 3], lost=[2], status=8).pack(),
    ],
    nasty=[
        b"KDUMP   ",
        _packed("zlib")[: 5 * 4096],
        Kdump([1], mapped=4096 * 8).pack(max_mapnr=0xFFFFFFFF, bitmap_blocks=0xFFFFFFFF),
        Kdump([1]).pack(header_version=0x7FFFFFFF),
    ],
)
def _kdump(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dump = open_diskdump([BytesFile("dump", data)])
    try:
        memory = Reader("memory", dump.memory, dump.sources)
        stored = dump.memory.only(Kind.DATA)
        assert (stored.offset + stored.size <= dump.sources[0].size).all()
        size = int(dump.sources[0].size)
        for paddr in stored.start[:_MOST_PAGES].tolist():
            try:
                assert len(memory.pread(4096, paddr)) == 4096
            except (FaultError, SourceIOError) as error:
                assert str(error)  # noqa: PT017  # it must say something
        assert dump.memory.ranges.max(initial=0) <= 1 << 62
        assert size >= 0
    finally:
        dump.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 << 10, f"{grown} KiB for {len(data)} bytes"


@target(
    "flattened-dump",
    valid=[
        flatten([(0, b"abc"), (100, b"def"), (1, b"xyz")]),
        flatten([(10, b"abc")], ends=False),
        flatten([]),
    ],
    nasty=[flatten([(0, b"abc")])[:4100], flatten([(1 << 61, b"x")])],
)
def _flattened_dump(data: bytes) -> None:
    dump = Unflattened(BytesFile("dump", data))
    for offset in {0, min(dump.size, 1), max(dump.size - 10, 0)}:
        buffer = bytearray(min(dump.size - offset, 1 << 16))
        try:
            dump.pread_into(offset, memoryview(buffer))
        except SourceIOError:
            assert dump.is_cut


@target(
    "foreign-files",
    valid=[
        gzip.compress(bytes(9999)),
        b"text\n" * 99,
        "text\n".encode("utf-16") * 99,
        bytes(0x438) + b"\x53\xef" + bytes(99),
    ],
    nasty=[
        b"",
        b"MZ" + b"\xff" * 99,
        b"\x50\x2a\x4d\x18" + b"\xff" * 9,
    ],
)
def _foreign_files(data: bytes) -> None:
    def read(offset: int, size: int) -> bytes:
        assert 0 <= size <= HEAD_SIZE
        return data[offset : offset + size]

    found = recognise(read, len(data))
    assert found is None or found.what
