"""Dumps as images."""

from __future__ import annotations

from tests import builders
from tests.dump_builders import LOADS, NOTES, TEXT, Load, direct, pack_dump
from tests.fuzz.target import target
from vmcorefs.core.dump_headers import MAX_NOTES, MAX_PHDRS, read_dump_headers
from vmcorefs.core.dump_memory import read_dump_memory
from vmcorefs.core.extents import Kind
from vmcorefs.core.notes import walk_notes
from vmcorefs.discovery.dump import cut_into_slots

HUGE = (1 << 64) - 1


@target(
    "elf-dump",
    valid=[
        pack_dump([direct(0x1000, 0x3000)], NOTES),
        pack_dump([direct(0x1000, 0x9000, held=0x1000), TEXT][:1], b""),
        pack_dump([Load(0x1000, 0x2000, 5)], b"", builders.Flavour(32, ">")),
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
