"""ELF core headers, against pyelftools and readelf: neither knows anything of vmcorefs."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from tests.builders import dead_machines
from tests.builders.dead_machines import Flavour, load_phdr, note_phdr, pack_elf
from tests.matching import exactly
from vmcorefs.core.elf.elf import (
    PHDR_DTYPE,
    PT_LOAD,
    headers_size,
    make_ehdr,
    pack_headers,
    parse_ehdr,
    parse_phdrs,
)
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.errors import FormatError, UnsupportedError

FLAVOURS = [
    Flavour(64, "<", 62),
    Flavour(64, ">", dead_machines.EM_PPC64),
    Flavour(32, "<", dead_machines.EM_386),
    Flavour(32, ">", 8),
]
PHDRS = [
    note_phdr(0x110000, 368),
    load_phdr(0x1000, 0x9FC00, offset=0x200400, vaddr=0x80001000),
    dead_machines.Phdr(PT_LOAD, 0x100000, 0x300, p_flags=5, p_align=4096, p_filesz=0x200),
]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_headers_of_each_class_and_byte_order_are_read(flavour: Flavour) -> None:
    packed = pack_elf(PHDRS, flavour)
    header = parse_ehdr(packed)
    assert (header.elf_class * 32, header.byte_order) == (flavour.bits, flavour.order)
    assert (header.e_type, header.e_machine, header.e_phnum) == (4, flavour.machine, 3)
    phdrs = parse_phdrs(header, packed[header.ehdr_size :])
    assert phdrs["p_type"].tolist() == [4, 1, 1]
    assert phdrs["p_offset"].tolist() == [0x110000, 0x200400, 0x100000]
    assert phdrs["p_vaddr"].tolist() == [0, 0x80001000, 0]
    assert phdrs["p_paddr"].tolist() == [0x110000, 0x1000, 0x100000]
    assert phdrs["p_filesz"].tolist() == [368, 0x9EC00, 0x200]
    assert phdrs["p_memsz"].tolist() == [368, 0x9EC00, 0x300]
    assert phdrs["p_flags"].tolist() == [0, 7, 5]
    assert phdrs["p_align"].tolist() == [0, 0, 4096]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_headers_are_packed_as_they_were_read(flavour: Flavour) -> None:
    packed = pack_elf(PHDRS, flavour, e_flags=0x1234, e_entry=0x5678)
    header = parse_ehdr(packed)
    phdrs = parse_phdrs(header, packed[header.ehdr_size :])
    assert pack_headers(header, phdrs) == packed
    assert headers_size(header, 3) == len(packed)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_a_made_header_is_the_one_that_the_kernel_makes(flavour: Flavour) -> None:
    order: ByteOrder = "<" if flavour.order == "<" else ">"
    header = make_ehdr(e_machine=flavour.machine, elf_class=flavour.bits // 32, byte_order=order)
    assert pack_headers(header, np.zeros(0, dtype=PHDR_DTYPE)) == pack_elf([], flavour)


def test_a_file_that_is_not_elf_is_refused_with_what_it_starts_with() -> None:
    with pytest.raises(
        FormatError, match=exactly(r"not an ELF header: starts with b'ABCD', expected b'\x7fELF'")
    ):
        parse_ehdr(b"ABCD".ljust(64, b"\0"))


def test_too_few_bytes_for_an_elf_header_are_refused() -> None:
    with pytest.raises(FormatError):
        parse_ehdr(pack_elf(PHDRS)[:63])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ei_version", 0, "EI_VERSION is 0, expected 1"),
        ("e_version", 2, "e_version is 2, expected 1"),
        ("e_type", 2, "e_type is 2, expected 4"),
        ("e_ehsize", 52, "e_ehsize is 52, expected 64"),
        ("e_phentsize", 32, "e_phentsize is 32, expected 56"),
        ("e_phoff", 2**64 - 1, "e_phoff is 18446744073709551615, expected 64"),
        ("e_phnum", 0, "e_phnum is 0: the kernel accepts 1 to 65534"),
        ("e_phnum", 65535, "e_phnum is 65535: the kernel accepts 1 to 65534"),
    ],
)
def test_each_field_that_the_kernel_checks_is_checked(field: str, value: int, message: str) -> None:
    with pytest.raises(FormatError, match=exactly(message)):
        parse_ehdr(pack_elf(PHDRS, FLAVOURS[0], **{field: value}))


@pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 3), (5, 0), (5, 3)])
def test_an_unknown_class_or_encoding_is_refused(at: int, value: int) -> None:
    packed = bytearray(pack_elf(PHDRS))
    packed[at] = value
    with pytest.raises(
        FormatError,
        match=exactly(f"ELF class {packed[4]}, data encoding {packed[5]}: expected 1 or 2"),
    ):
        parse_ehdr(bytes(packed))


def test_fewer_program_headers_than_counted_are_refused() -> None:
    packed = pack_elf(PHDRS, e_phnum=4)
    header = parse_ehdr(packed)
    with pytest.raises(
        FormatError, match=exactly("4 program headers: 224 bytes, but there are 168")
    ):
        parse_phdrs(header, packed[64:])


def test_an_address_above_4_gib_does_not_fit_into_elf32() -> None:
    phdrs = np.zeros(1, dtype=PHDR_DTYPE)
    phdrs["p_paddr"] = 0xFFFFFFFF
    assert len(pack_headers(make_ehdr(e_machine=3, elf_class=1), phdrs)) == 52 + 32
    phdrs["p_paddr"] = 1 << 32
    with pytest.raises(
        UnsupportedError, match=exactly("p_paddr 0x100000000 does not fit into ELF32")
    ):
        pack_headers(make_ehdr(e_machine=3, elf_class=1), phdrs)


def _many(count: int) -> tuple[bytes, int]:
    """Headers with ``count`` PT_LOADs of one page each, and where their file would end."""
    phdrs = np.zeros(count, dtype=PHDR_DTYPE)
    phdrs["p_type"] = PT_LOAD
    phdrs["p_paddr"] = np.arange(count, dtype=np.uint64) * 8192
    phdrs["p_offset"] = 8 << 20
    phdrs["p_filesz"] = phdrs["p_memsz"] = 4096
    return bytes(pack_headers(make_ehdr(e_machine=62), phdrs)), (8 << 20) + 4096


def test_65534_program_headers_need_no_extended_numbering() -> None:
    packed, _ = _many(65534)
    assert struct.unpack_from("<H", packed, 56) == (65534,)
    assert len(packed) == 64 + 65534 * 56


@pytest.mark.parametrize("count", [65535, 70_000])
def test_pyelftools_counts_more_than_65534_program_headers(count: int) -> None:
    packed, _ = _many(count)
    elf = ELFFile(io.BytesIO(packed))
    assert elf["e_phnum"] == 0xFFFF
    assert elf.num_segments() == count
    assert elf.get_segment(count - 1)["p_paddr"] == (count - 1) * 8192
    assert len(packed) == headers_size(make_ehdr(e_machine=62), count)


def test_readelf_counts_70000_program_headers(tmp_path: Path) -> None:
    packed, size = _many(70_000)
    with (tmp_path / "core").open("wb") as file:
        file.write(packed)
        file.truncate(size)
    listing = subprocess.run(
        ["readelf", "-lW", "core"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "There are 70000 program headers, starting at offset 64" in listing.stdout
    assert f"{69_999 * 8192:#018x} 0x001000 0x001000 " in listing.stdout
    assert listing.stderr == ""
