"""ORC entries retold as DWARF, judged by pyelftools."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from elftools.dwarf.callframe import CallFrameInfo
from elftools.dwarf.structs import DWARFStructs

from tests.builders.kernels import virtual
from tests.builders.orc import (
    CALL,
    END,
    ENTRIES,
    ORC,
    REGS,
    SP,
    TEXT,
    Entry,
)
from vmcorefs.core.debuginfo.orc import find_addresses, read_debug_frame, read_module_frame
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError


def frames(
    entries: list[Entry], symbols: dict[str, int] | None = None, code: bytes = b"", count: int = 0
) -> list[Any]:
    """Entries of the .debug_frame section that is made of these."""
    count = count or len(entries)
    ips = b"".join(
        struct.pack("<i", TEXT + at - (ORC + 4 * row)) for row, (at, *_) in enumerate(entries)
    )
    rows = b"".join(struct.pack("<hhH", *entry[1:]) for entry in entries)
    image = code.ljust(0x2000, b"\0") + ips + rows
    places = {
        "__start_orc_unwind_ip": ORC,
        "__stop_orc_unwind_ip": ORC + 4 * count,
        "__start_orc_unwind": ORC + len(ips),
    } | (symbols or {})
    kernel = SymbolTable(
        np.array(list(places.values()), dtype=np.uint64), "R" * len(places), tuple(places)
    )

    def read(vaddr: int, size: int) -> bytes:
        if not TEXT <= vaddr <= vaddr + size <= TEXT + len(image):
            raise FormatError(f"nothing at {vaddr:#x}")
        return image[vaddr - TEXT : vaddr - TEXT + size]

    return parse(read_debug_frame(kernel, KernelMemory(read, "<", 8)))


def parse(data: bytes) -> list[Any]:
    """Entries of a .debug_frame section."""
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    info = CallFrameInfo(io.BytesIO(data), len(data), 0, structs)
    return [entry for entry in info.get_entries() if hasattr(entry, "cie") and entry.cie]


def rule(entries: list[Any], at: int) -> dict[Any, Any]:
    """What holds at an offset in the text."""
    (fde,) = [
        fde for fde in entries if 0 <= TEXT + at - fde["initial_location"] < fde["address_range"]
    ]
    table = fde.get_decoded().table
    (row,) = [row for row in table if row["pc"] <= TEXT + at][-1:]
    return dict(row)


def unknown(known: Any) -> bool:
    """Whether a rule says that a register cannot be found."""
    return getattr(known, "type", None) == "UNDEFINED"


def test_calls() -> None:
    made = frames(ENTRIES)

    assert (rule(made, 0)["cfa"].reg, rule(made, 0)["cfa"].offset) == (7, 8)
    assert (rule(made, 3)["cfa"].reg, rule(made, 3)["cfa"].offset) == (7, 16)
    assert (rule(made, 0x8F)["cfa"].reg, rule(made, 0x8F)["cfa"].offset) == (6, 16)
    assert rule(made, 3)[6].arg == -16
    assert rule(made, 3)[16].arg == -8
    assert rule(made, 0x2FF)["cfa"].offset == 200


def test_the_whole_range_is_described_once() -> None:
    made = frames(ENTRIES)

    ranges = sorted((fde["initial_location"], fde["address_range"]) for fde in made)
    assert ranges[0][0] == TEXT
    assert all(a + size == b for (a, size), (b, _) in pairwise(ranges))
    assert sum(ranges[-1]) == TEXT + 0x400


def test_where_a_stack_ends() -> None:
    assert rule(frames(ENTRIES), 0x100)[16].type == "UNDEFINED"


def test_interrupted_code() -> None:
    made = frames(ENTRIES)
    regs, partial = rule(made, 0x200), rule(made, 0x210)

    # DW_OP_breg7 N; DW_OP_consts N; DW_OP_plus; DW_OP_deref: fields of struct pt_regs
    assert regs["cfa"].expr == [0x77, 0, 0x11, 0x98, 1, 0x22, 6]
    assert regs[16].arg == [0x77, 0, 0x11, 0x80, 1, 0x22]
    assert regs[6].arg == [0x77, 0, 0x11, 0x20, 0x22]
    assert partial["cfa"].expr == [0x77, 8, 0x11, 0x18, 0x22, 6]
    assert partial[16].arg == [0x77, 8]
    signals = {fde["initial_location"] - TEXT for fde in made if fde.cie["augmentation"] == b"zS"}
    assert signals == {0x200}


def test_a_stack_pointer_that_is_in_memory() -> None:
    made = frames(ENTRIES)

    assert rule(made, 0x300)["cfa"].expr == [0x76, 0x78, 6]
    assert rule(made, 0x310)["cfa"].expr == [0x77, 0, 6, 0x11, 24, 0x22]
    assert rule(made, 0x320)[6].arg == [0x76, 0x68]


def test_entries_from_before_6_4() -> None:
    older = [(0, 8, 0, SP), (4, 16, 0, SP), (8, 0, 0, SP | 1 << 8), (16, 0, 0, 1 << 10)]

    made = frames(older)

    assert rule(made, 5)["cfa"].offset == 16
    assert rule(made, 8)[16].arg == [0x77, 0, 0x11, 0x80, 1, 0x22]


# ORC_REG_* since 2026, by what they were
RENUMBERED = {0: 0, 1: 8, 4: 4, 5: 3, 8: 10, 9: 9}


def test_registers_that_are_numbered_anew() -> None:
    def renumber(flags: int) -> int:
        return flags & 0xF00 | RENUMBERED[flags >> 4 & 15] << 4 | RENUMBERED[flags & 15]

    newer = [(at, sp, bp, renumber(flags)) for at, sp, bp, flags in ENTRIES]
    crash_kexec = {"__crash_kexec": TEXT + 0xA0}, bytes(0xA0) + bytes.fromhex("534883ec18")

    for code in ((), crash_kexec):
        tables = [
            [fde.get_decoded().table for fde in frames(entries, *code)]
            for entries in (ENTRIES, newer)
        ]
        assert repr(tables[0]) == repr(tables[1])


def test_a_stack_pointer_that_clang_keeps_in_rax() -> None:
    newer = [(0, 8, 0, 3 | CALL), (4, 16, 0, 1 | CALL), (8, 8, 0, 3 | CALL), (12, 0, 0, 0)]

    assert (rule(frames(newer), 5)["cfa"].reg, rule(frames(newer), 5)["cfa"].offset) == (0, 16)


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("0f1f440000 53 ba01000000 4881ecb0000000 65488b04", 0xC0),  # 6.1
        ("f30f1efa 0f1f440000 4157 55 4889e5 4883ec18", 0x30),
        ("660f1f00 53 c3", None),
        ("53 4883ecf0", None),
    ],
)
def test_the_frame_of_crash_kexec(code: str, size: int | None) -> None:
    made = frames(ENTRIES, {"__crash_kexec": TEXT + 0xA0}, bytes(0xA0) + bytes.fromhex(code))

    if size is None:
        assert rule(made, 0xB0)[16].type == "UNDEFINED"
    else:
        assert rule(made, 0xB0)["cfa"].offset == size


def test_registers_that_nothing_tells_of() -> None:
    made = frames([*ENTRIES[:-1], (0x400, 0, 0, END), (0x420, 8, 0, SP | CALL), (0x440, 0, 0, 0)])

    # rbx and r12 to r15; rbp, rsp and the return address
    assert {kind for kind, known in rule(made, 3).items() if unknown(known)} == {3, 12, 13, 14, 15}
    ends = {kind for kind, known in rule(made, 0x400).items() if unknown(known)}
    assert ends == {3, 6, 7, 12, 13, 14, 15, 16}
    assert not any(map(unknown, rule(made, 0x200).values()))
    assert rule(made, 0x200)[12].arg == [0x77, 0, 0x11, 24, 0x22]
    assert not any(map(unknown, rule(made, 0x210).values()))
    assert {kind for kind, known in rule(made, 0x420).items() if unknown(known)} == {
        3,
        12,
        13,
        14,
        15,
    }


@pytest.mark.parametrize("count", [1, 0x8000000, -5])
def test_sizes_are_checked(count: int) -> None:
    with pytest.raises(FormatError, match=r"ORC: .* bytes of addresses"):
        frames(ENTRIES, count=count)


def test_a_kernel_without_orc() -> None:
    kernel = SymbolTable(np.zeros(1, dtype=np.uint64), "T", ("_stext",))

    with pytest.raises(FormatError, match="ORC: 0 bytes"):
        read_debug_frame(kernel, KernelMemory(lambda _, size: bytes(size), "<", 8))


def test_addresses_out_of_order() -> None:
    with pytest.raises(FormatError, match="not in order"):
        frames(ENTRIES[::-1])


def test_entries_that_all_differ() -> None:
    entries = [(at, at - 0x8000, 0, SP | CALL) for at in range(0x4001)]

    with pytest.raises(FormatError, match="16385 distinct entries"):
        frames(entries)


def test_so_many_interrupts_as_no_kernel_has() -> None:
    entries = [(0, 8, 0, SP | CALL), *((at, 8, 0, SP | REGS) for at in range(1, 1 << 19))]

    with pytest.raises(FormatError, match="bytes of DWARF, expected at most 67108864"):
        frames(entries)


def test_a_modules_tables() -> None:
    ips = b"".join(
        struct.pack("<i", TEXT + at - (ORC + 4 * row)) for row, (at, *_) in enumerate(ENTRIES)
    )
    rows = b"".join(struct.pack("<hhH", *entry[1:]) for entry in ENTRIES)
    memory = virtual({ORC: ips, ORC + 0x1000: rows})

    made = read_module_frame(memory, ORC, ORC + 0x1000, len(ENTRIES))

    places = [int.from_bytes(made[at : at + 8], "little") for at in find_addresses(made)]
    assert places == [TEXT, TEXT + 0x200, TEXT + 0x220]  # where interrupts begin and end
    assert rule(parse(made), 0x04)["cfa"].reg == 6


@pytest.mark.parametrize("count", [0, 1, 1 << 31])
def test_how_many_entries_a_module_has_is_checked(count: int) -> None:
    with pytest.raises(FormatError, match=f"ORC: {4 * count} bytes of addresses"):
        read_module_frame(virtual({}), ORC, ORC, count)
