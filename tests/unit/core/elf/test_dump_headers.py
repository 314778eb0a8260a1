"""Reading a dump's headers as they stand, well made or not."""

from __future__ import annotations

import struct

import pytest

from tests.builders.dead_machines import (
    EM_PPC64,
    Flavour,
    Phdr,
    load_phdr,
    note_phdr,
    pack_elf,
    prstatus_note,
    vmcoreinfo_note,
)
from tests.matching import exactly
from vmcorefs.core.elf.dump_headers import DumpHeaders, read_dump_headers
from vmcorefs.errors import FormatError

NOTES = prstatus_note(1, 2, 3) + vmcoreinfo_note(b"OSRELEASE=6.1.0\n")


def read(data: bytes) -> DumpHeaders:
    def pread(size: int, offset: int) -> bytes:
        return data[offset : offset + size]

    return read_dump_headers(pread, len(data))


def test_headers_and_notes_are_found_wherever_they_are() -> None:
    # the program headers at 128, the notes at 0x1000
    phdrs = [load_phdr(0x1000, 0x2000), note_phdr(0x1000, len(NOTES))]
    packed = pack_elf(phdrs, e_phoff=128)
    data = (packed[:64].ljust(128, b"\0") + packed[64:]).ljust(0x1000, b"\0") + NOTES
    dump = read(data)
    assert dump.header.e_phoff == 128
    assert dump.phdrs["p_type"].tolist() == [1, 4]
    assert dump.loads["p_paddr"].tolist() == [0x1000]
    assert [[note.name for note in segment] for segment in dump.notes] == [[b"CORE", b"VMCOREINFO"]]
    assert dump.vmcoreinfo is not None
    assert dump.vmcoreinfo.release == "6.1.0"
    assert dump.size == len(data)


def test_notes_of_several_segments_are_kept_apart() -> None:
    size = len(NOTES)
    phdrs = [note_phdr(0x1000, size), note_phdr(0x1000 + size, 16)]
    dump = read(pack_elf(phdrs).ljust(0x1000, b"\0") + NOTES + bytes(16))
    assert [len(segment) for segment in dump.notes] == [2, 0]


def test_big_endian_and_32_bits_are_read_too() -> None:
    order = read(pack_elf([load_phdr(0x1000, 0x2000)], Flavour(64, ">", EM_PPC64))).header
    assert (order.byte_order, order.e_machine) == (">", EM_PPC64)
    small = read(pack_elf([load_phdr(0x1000, 0x2000)], Flavour(32, "<", 3)))
    assert (small.header.phdr_size, small.no_address) == (32, 2**32 - 1)


def test_extended_numbering_is_followed() -> None:
    phdrs = [load_phdr(n << 12, (n + 1) << 12) for n in range(3)]
    section = struct.pack("<IIQQQQIIQQ", *[0] * 7, 3, 0, 0)
    packed = pack_elf(phdrs, e_phnum=0xFFFF, e_shoff=64 + 3 * 56, e_shnum=1, e_shentsize=64)
    dump = read(packed + section)
    assert dump.header.e_phnum == 0xFFFF
    assert len(dump.phdrs) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"KDMP".ljust(64), r"not an ELF header: starts with b'KDMP', expected b'\x7fELF'"),
        (
            pack_elf([load_phdr(0, 1)], e_phentsize=32),
            "e_phentsize is 32, expected 56",
        ),
        (
            pack_elf([load_phdr(0, 1)], e_phnum=2),
            "2 program headers: 112 bytes, but there are 56",
        ),
        (
            pack_elf([load_phdr(0, 1)], e_phnum=0xFFFF, e_shoff=1 << 40),
            "section header 0 has 0 bytes",
        ),
        (
            pack_elf([], e_phnum=0xFFFF, e_shoff=64) + struct.pack("<44x2IQQ", 2**32 - 1, 0, 0, 0),
            "4294967295 program headers, expected at most 1048576",
        ),
        (
            pack_elf([Phdr(4, 0, 2**40), Phdr(4, 0, 2**63)]),
            f"notes of {2**40 + 2**63} bytes, expected at most 67108864",
        ),
    ],
)
def test_what_is_no_dump_or_too_much_of_one_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        read(data)
