"""What goes into the made vmlinux, of a kernel that answers as it is told."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace
from typing import cast

import pytest
from elftools.elf.elffile import ELFFile

from tests.builders.btf import INT, Writer
from tests.builders.kallsyms import make_table
from vmcorefs.core.elf.elf import EM_AARCH64, EM_X86_64
from vmcorefs.core.elf.vmcoreinfo import parse_vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError
from vmcorefs.kernel.debug.debug_vmlinux import (
    NEEDED,
    _known_sizes,
    _pac_mask,
    _read_constants,
    _read_contents,
    has_signed_chars,
    kernel_offset,
    recover_vmlinux,
)
from vmcorefs.kernel.debug.places import find_places
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.symbols import Symbols

T = 0xFFFFFFFF81000000
OFFSET = 0x29200000
ROWS = [
    (0x0, "A", "__per_cpu_start"),
    (0x100, "A", "__per_cpu_end"),
    (T, "T", "_text"),
    (T, "T", "_stext"),
    (T + 0x80, "t", "twice"),
    (T + 0x90, "t", "once"),
    (T + 0xA0, "t", "twice"),
    (T + 0x100, "T", "_etext"),
    (T + 0x200, "D", "_sdata"),
    (T + 0x240, "d", "here"),
    (T + 0x300, "D", "_edata"),
    (T + 0x400, "B", "_end"),
]


def kernel(
    values: dict[int, bytes] | None = None,
    symbols: dict[str, int] | None = None,
    text: str = "",
    machine: int = EM_X86_64,
) -> Kernel:
    """A kernel whose memory holds ``values`` at addresses, and nothing else."""

    def read(vaddr: int, size: int) -> bytes:
        data = (values or {}).get(vaddr)
        if data is None:
            raise FormatError(f"nothing at {vaddr:#x}")
        return data.ljust(size, b"\0")[:size]

    def symbol(name: str) -> int:
        if name not in (symbols or {}):
            raise FormatError(f"no {name}")
        return (symbols or {})[name]

    memory = KernelMemory(read, "<", 8)
    made = SimpleNamespace(
        image=memory,
        virtual=memory,
        symbol=symbol,
        structs=lambda name: {name: Struct(name, 136, {"tick_length": 8})},
        banner=b"Linux version 6.1.0 (gcc) #1\n",
        word_size=8,
        machine=machine,
        byte_order="<",
        vmcoreinfo=parse_vmcoreinfo(text.encode()),
    )
    return cast("Kernel", made)


def test_bytes_are_read_where_kaslr_moved_them() -> None:
    area = 0xFFFF888000800000
    dead = kernel(
        {
            T + OFFSET: b"code",
            T + OFFSET + 0x200: b"data",
            T + OFFSET + 0x240: area.to_bytes(8, "little"),
            area: b"cpu 0",
        },
        {"__per_cpu_start": 0, "__per_cpu_offset": T + OFFSET + 0x240},
    )

    found = dict(_read_contents(dead, make_table(ROWS), OFFSET))

    assert {name: data[:5] for name, data in found.items()} == {
        ".data..percpu": b"cpu 0",
        ".text": b"code\0",
        ".data": b"data\0",
    }
    assert {name: len(data) for name, data in found.items()} == {
        ".data..percpu": 0x100,
        ".text": 0x100,
        ".data": 0x100,
    }


def test_a_section_that_cannot_be_read_has_no_bytes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = dict(_read_contents(kernel({T: b"code"}), make_table(ROWS), 0))

    assert list(found) == [".text"]
    assert "no bytes in .data..percpu" in caplog.text
    assert "no bytes in .data, readers take them from the dump: nothing at" in caplog.text


def test_a_section_of_a_size_that_no_kernel_has_is_not_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [(T, "T", "_stext"), (T + (1 << 29), "T", "_etext")]

    with caplog.at_level(logging.WARNING):
        assert dict(_read_contents(kernel({T: b""}), make_table(rows), 0)) == {}
    assert "more than" in caplog.text


@pytest.mark.parametrize(
    ("available", "whole"), [(NEEDED - 1, False), (NEEDED, True), (None, True)]
)
def test_where_memory_is_short_the_file_is_small(
    available: int | None, caplog: pytest.LogCaptureFixture, *, whole: bool
) -> None:
    btf = Writer()
    btf.add(INT, "int", 4, [1 << 24 | 32])
    dead = kernel({T: b"code"})
    symbols = Symbols(make_table(ROWS), (), btf.finish(), ())

    with caplog.at_level(logging.WARNING):
        made = ELFFile(io.BytesIO(recover_vmlinux(dead, symbols, available)))

    assert (made.get_section_by_name(".debug_info") is not None) is whole
    text = made.get_section_by_name(".text")
    assert text is not None
    assert (text["sh_type"] == "SHT_PROGBITS") is whole
    assert made.get_section_by_name(".symtab") is not None
    assert made.get_section_by_name(".BTF") is not None
    assert ("too little memory" in caplog.text) is not whole


def test_without_btf_there_are_symbols_alone() -> None:
    symbols = Symbols(make_table(ROWS), (), None, ())

    made = ELFFile(io.BytesIO(recover_vmlinux(kernel(), symbols)))

    assert made.get_section_by_name(".symtab") is not None
    assert [made.get_section_by_name(name) for name in (".debug_info", ".BTF")] == [None, None]


def test_a_name_that_two_functions_have_is_left_out() -> None:
    places = find_places(make_table(ROWS), (T, 0x100))

    assert "twice" not in places.functions
    assert places.functions["once"] == (T + 0x90, 0x10)
    assert places.variables["here"] == T + 0x240
    assert places.code == (T, 0x100)


@pytest.mark.parametrize(
    ("tick", "hz"), [(4_000_000, 250), (3_333_333, 300), (1_000_000, 1000), (10_000_000, 100)]
)
def test_the_frequency_that_crash_looks_for(tick: int, hz: int) -> None:
    dead = kernel({T: tick.to_bytes(8, "little")}, {"tick_nsec": T})

    assert _read_constants(dead) == {"write_expire": 5 * hz}


def test_the_frequency_where_ntp_keeps_it() -> None:
    length = 17179868538849792  # of a 7.3 kernel with CONFIG_HZ=250
    dead = kernel({T + 8: length.to_bytes(8, "little")}, {"tk_ntp_data": T})

    assert _read_constants(dead) == {"write_expire": 5 * 250}


def test_how_large_variables_are() -> None:
    rows = [
        (T, "R", "sys_call_table"),
        (T + 0x60, "R", "linux_banner"),
        (T + 0x1000, "D", "modules"),
        (T + 0x1010, "d", "debug"),
        (T + 0x1020, "d", "debug"),
        (T + 0x1040, "R", "taint_flags"),
        (T + 0x2000, "B", "_end"),
    ]
    table = b"".join((T + 16 * n).to_bytes(8, "little") for n in range(1, 11))
    flags = b"P".ljust(136, b"\0") + b"T"  # a structure has 136 bytes here
    memory = {T: table, T + 0x1040: flags}
    symbols = {"sys_call_table": T, "taint_flags": T + 0x1040}

    sizes = _known_sizes(kernel(memory, symbols), make_table(rows))

    assert sizes == {
        "sys_call_table": 10 * 8,
        "linux_banner": len("Linux version 6.1.0 (gcc) #1\n\0"),
        "modules": 0x10,
        "taint_flags": 2 * 136,
        "_end": 0,
    }


@pytest.mark.parametrize("tick", [0, 1, 1 << 63])
def test_a_frequency_that_no_kernel_has_is_not_told(tick: int) -> None:
    assert _read_constants(kernel({T: tick.to_bytes(8, "little")}, {"tick_nsec": T})) == {}
    assert _read_constants(kernel()) == {}


@pytest.mark.parametrize(
    ("release", "machine", "signed"),
    [
        ("6.1.0-57-cloud-amd64", EM_X86_64, True),
        ("6.2.0", EM_X86_64, False),
        ("6.12.1", EM_X86_64, False),
        ("5.10.0", EM_AARCH64, False),
    ],
)
def test_whether_char_is_signed(release: str, machine: int, *, signed: bool) -> None:
    dead = kernel(text=f"OSRELEASE={release}\n", machine=machine)

    assert has_signed_chars(dead) is signed


@pytest.mark.parametrize(
    ("text", "offset"), [("29200000", 0x29200000), ("", 0), ("0x10", 0), ("1" * 17, 0)]
)
def test_how_far_kaslr_moved_the_kernel(text: str, offset: int) -> None:
    assert kernel_offset(kernel(text=f"KERNELOFFSET={text}\n")) == offset


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("NUMBER(KERNELPACMASK)=0xfff0000000000000\n", 0xFFF0000000000000),
        ("NUMBER(KERNELPACMASK)=0x0\n", 0),
        ("", 0),
        ("NUMBER(KERNELPACMASK)=0xffffffffffffffff0\n", 0),
        ("NUMBER(KERNELPACMASK)=-1\n", 0),
    ],
)
def test_which_bits_a_signature_takes(text: str, mask: int) -> None:
    assert _pac_mask(kernel(text=text)) == mask
