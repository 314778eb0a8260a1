"""What lies in memory with a format of its own: ELF headers, notes, registers, BTF."""

from __future__ import annotations

import struct

from tests.builders import dead_machines
from tests.builders.btf import Writer
from tests.fuzz.target import target
from tests.oracles.vmcore import trim_notes
from vmcorefs.core.consumers.verdicts import judge
from vmcorefs.core.elf.dump_headers import MAX_NOTES, MAX_PHDRS, read_dump_headers
from vmcorefs.core.elf.elf import EM_X86_64, make_ehdr, pack_headers, parse_ehdr, parse_phdrs
from vmcorefs.core.elf.elfcorehdr import check_found, looks_like_elfcorehdr, parse_elfcorehdr
from vmcorefs.core.elf.notes import ByteOrder, find_vmcoreinfo, pack_note, walk_notes
from vmcorefs.core.elf.registers import REGISTER_SETS, decode_prstatus
from vmcorefs.core.layouts.kernel import lay_out_vmcore
from vmcorefs.core.space.ranges import make_ranges
from vmcorefs.core.structures.types.btf import check_btf, read_structs
from vmcorefs.errors import FormatError, VmcorefsError

ORDERS: tuple[ByteOrder, ByteOrder] = ("<", ">")
KEXEC = dead_machines.pack_elf(dead_machines.kexec_tools_phdrs())
BIG = dead_machines.pack_elf(dead_machines.cpu_note_phdrs(2), dead_machines.Flavour(32, ">"))
HUGE = (1 << 64) - 1


@target(
    "elf-headers",
    valid=[KEXEC, BIG],
    nasty=[
        b"\x7fELF",
        b"\x7fELF" + b"\xff" * 60,
        KEXEC[:64],
        dead_machines.pack_elf([], e_phnum=65535),
        dead_machines.pack_elf([dead_machines.load_phdr(0, 1)], e_phnum=65534),
    ],
)
def _elf_headers(data: bytes) -> None:
    header = parse_ehdr(data)
    phdrs = parse_phdrs(header, data[header.ehdr_size :])
    packed = pack_headers(header, phdrs)
    assert parse_phdrs(header, packed[header.ehdr_size :]).tolist() == phdrs.tolist()
    wide = make_ehdr(e_machine=header.e_machine, byte_order=header.byte_order)
    assert len(pack_headers(wide, phdrs)) == 64 + 56 * len(phdrs)


@target(
    "elfcorehdr",
    valid=[KEXEC],
    nasty=[
        BIG,
        dead_machines.pack_elf([dead_machines.note_phdr(0x1000, 1 << 20)] * 65),
        dead_machines.pack_elf([dead_machines.Phdr(1, HUGE, HUGE)]),
        dead_machines.pack_elf(
            [dead_machines.load_phdr(0, 1 << 61), dead_machines.load_phdr(0, 1 << 61)]
        ),
        dead_machines.pack_elf([dead_machines.load_phdr(0x1000, 0x2000, offset=1 << 60)] * 2),
    ],
)
def _elfcorehdr(data: bytes) -> None:
    parsed = parse_elfcorehdr(data)
    if len(parsed.ram):
        assert (parsed.ram[:, 0] < parsed.ram[:, 1]).all()
        check_found(parsed, make_ranges([(0, 1 << 62)]))
    looks_like_elfcorehdr(parsed.phdrs)
    for page_size in (4096, 65536):
        layout = lay_out_vmcore(parsed, 4000, page_size=page_size, note_align=4)
        assert len(layout.head) + 4000 <= layout.size + page_size
        assert len(layout.head) <= 65536 + page_size + 56 * 65535


NOTES = dead_machines.prstatus_note(1, 2, 3) + dead_machines.vmcoreinfo_note(b"A=1\n")


@target(
    "notes",
    valid=[NOTES, NOTES + bytes(100), pack_note(b"", 0, b"", ">")],
    nasty=[
        b"\xff" * 12,
        struct.pack("<III", 0xFFFFFFFD, 0xFFFFFFFD, 1) + bytes(100),
        struct.pack("<III", 1, 0, 0) * 1000,
        NOTES[:-1],
        bytes(4096),
    ],
)
def _notes(data: bytes) -> None:
    for order in ORDERS:
        walk = walk_notes(data, order)
        assert walk.size == len(trim_notes(data, order)) <= len(data)
        assert sum(12 + len(note.desc) for note in walk.notes) <= walk.size
        text = find_vmcoreinfo(walk.notes)
        assert text is None or text in data


@target(
    "registers",
    valid=[
        dead_machines.prstatus_note(1, 2, 3),
        *(pack_note(b"CORE", 1, b"\xff" * known.size) for known in REGISTER_SETS.values()),
    ],
    nasty=[pack_note(b"CORE", 1, bytes(size)) for size in (0, 111, 335, 337, 5000)],
)
def _registers(data: bytes) -> None:
    states = [
        (machine, decode_prstatus(note, machine, order))
        for order in ORDERS
        for note in walk_notes(data, order).notes
        for machine in (*REGISTER_SETS, 3)
    ]
    found = [(machine, state) for machine, state in states if state is not None]
    for machine, state in found:
        lines = state.format().decode("ascii").splitlines()
        assert lines[0] == f"pid {state.pid}"
        assert -(1 << 31) <= state.pid < 1 << 31
        assert [line.split()[0] for line in lines[1:]] == list(REGISTER_SETS[machine].names)
        assert all(0 <= int(line.split()[1], 16) <= HUGE for line in lines[1:])
    if not found:
        raise FormatError("no registers")


def _btf() -> bytes:
    btf = Writer()
    btf.add_struct("list_head", 16, [("next", 1, 0), ("prev", 1, 64)])
    btf.add_struct("module", 128, [("list", 1, 64), ("", 1, 256), ("state", 1, 0)])
    return btf.finish()


def _nested() -> bytes:
    """Each of 40 structures has the one before it within it, 60 times over."""
    btf = Writer()
    for number in range(40):
        members = [("", number, bits) for bits in range(0, 480, 8)] if number else [("a", 1, 0)]
        btf.add_struct("module" if number == 39 else "x", 60, members)
    btf.add_struct("list_head", 16, [("", 41, 0)])  # itself
    return btf.finish()


@target(
    "btf",
    valid=[_btf()],
    nasty=[
        _nested(),
        _btf()[:30],
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1)
        + struct.pack("<III", 1, 4 << 24 | 0xFFFF, 0xFFFFFFFF),
    ],
)
def _read_btf(data: bytes) -> None:
    refused = None
    for order in ORDERS:
        try:
            assert data.startswith(check_btf(data, order))
            for found in read_structs(data, order, ["module", "list_head"]).values():
                assert len(found.offsets) <= 1 << 14
        except VmcorefsError as error:
            refused = error if order == "<" else refused
    if refused is not None:
        raise refused


NOTE = dead_machines.prstatus_note(1, 2, 3) + dead_machines.vmcoreinfo_note(
    dead_machines.vmcoreinfo_text()
)
DUMP = dead_machines.pack_elf(
    [dead_machines.Phdr(4, 64 + 56 * 2, len(NOTE)), dead_machines.load_phdr(0, 4096)]
)


@target(
    "dump-headers",
    valid=[DUMP + NOTE, KEXEC.ljust(8192, b"\0")],
    nasty=[
        dead_machines.pack_elf([], e_phnum=65535),
        dead_machines.pack_elf([dead_machines.Phdr(4, HUGE, HUGE)]),
        DUMP + NOTE[:300],
    ],
)
def _dump_headers(data: bytes) -> None:
    """A file of these bytes; every rule of every tool has its say."""

    def read(size: int, offset: int) -> bytes:
        assert 0 <= size <= MAX_NOTES + MAX_PHDRS * 56
        return data[offset : offset + size]

    verdicts = judge(read_dump_headers(read, len(data)), EM_X86_64)
    assert len(verdicts) == 7
    assert all(objection.rule for verdict in verdicts for objection in verdict.objections)
