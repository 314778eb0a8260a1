"""arm64's unwind rules, carried out by hand and by pyelftools' reading of them."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from elftools.dwarf.callframe import FDE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.elf.elffile import ELFFile

from vmcorefs.core.debuginfo.elf_file import Contents
from vmcorefs.core.debuginfo.frame_records import make_record_frame
from vmcorefs.core.debuginfo.vmlinux import make_vmlinux
from vmcorefs.core.elf.elf import EM_AARCH64
from vmcorefs.core.structures.kallsyms import SymbolTable

TEXT = 0xFFFF800080010000
MASK = 0x7F000000000000
SYMBOLS = {
    "_stext": TEXT,
    "schedule": TEXT + 0x100,
    "el0t_64_sync": TEXT + 0x200,
    "el0t_64_irq": TEXT + 0x300,
    "el1h_64_irq": TEXT + 0x400,
    "ret_from_fork": TEXT + 0x500,
    "kthread": TEXT + 0x540,
}


def entries(symbols: dict[str, int] = SYMBOLS, mask: int = MASK) -> list[Any]:
    addresses = np.array(list(symbols.values()), dtype=np.uint64)
    table = SymbolTable(addresses, "T" * len(symbols), tuple(symbols))
    contents = Contents(debug_frame=make_record_frame(table, mask))
    file = make_vmlinux(table, contents, machine=EM_AARCH64, byte_order="<")
    found: list[Any] = ELFFile(io.BytesIO(file)).get_dwarf_info().CFI_entries()
    return found


def rules_at(address: int) -> dict[int | str, tuple[Any, Any]]:
    """What holds at an address: the CFA, and each register's rule."""
    (fde,) = [
        entry
        for entry in entries()
        if isinstance(entry, FDE)
        and entry["initial_location"]
        <= address
        < entry["initial_location"] + entry["address_range"]
    ]
    (line,) = fde.get_decoded().table
    return {
        "cfa": (line["cfa"].reg, line["cfa"].offset),
        **{n: (line[n].type, line[n].arg) for n in (29, 30) if n in line},
    }


def returned_to(stored: int, expression: list[int]) -> int:
    """Carry out the expression for x30, with a record that holds ``stored`` behind x29."""
    stack: list[int] = []
    done = DWARFExprParser(ELFFile(io.BytesIO(_empty())).get_dwarf_info().structs).parse_expr(
        expression
    )
    at = 0
    while at < len(done):
        op = done[at]
        at += 1
        if op.op_name == "DW_OP_breg29":
            assert op.args == [8]
            stack.append(0)
        elif op.op_name == "DW_OP_deref":
            stack[-1] = stored
        elif op.op_name == "DW_OP_dup":
            stack.append(stack[-1])
        elif op.op_name == "DW_OP_const8u":
            stack.append(op.args[0])
        elif op.op_name == "DW_OP_or":
            stack.append(stack.pop() | stack.pop())
        elif op.op_name == "DW_OP_skip" or (op.op_name == "DW_OP_bra" and stack.pop()):
            where = op.offset + 3 + op.args[0]
            at = next((n for n, one in enumerate(done) if one.offset == where), len(done))
            assert at < len(done) or where == len(expression)
        else:
            assert op.op_name == "DW_OP_bra", op
    (value,) = stack
    return value


def _empty() -> bytes:
    table = SymbolTable(np.zeros(0, dtype=np.uint64), "", ())
    contents = Contents(debug_frame=make_record_frame(table, 0))
    return make_vmlinux(table, contents, machine=EM_AARCH64, byte_order="<")


def test_a_record_has_both() -> None:
    rules = rules_at(TEXT + 0x110)
    assert rules["cfa"] == (29, 16)
    assert rules[29] == ("OFFSET", -16)
    kind, expression = rules[30]
    assert kind == "VAL_EXPRESSION"
    assert isinstance(expression, list)
    signed = (TEXT + 0x50) & ~MASK | 0x2A000000000000
    assert returned_to(signed, expression) == TEXT + 0x50
    assert returned_to(TEXT + 0x50, expression) == TEXT + 0x50
    assert returned_to(0, expression) == 0


@pytest.mark.parametrize("name", ["el0t_64_sync", "el0t_64_irq", "ret_from_fork"])
def test_stacks_end_where_they_began(name: str) -> None:
    assert rules_at(SYMBOLS[name])[30] == ("UNDEFINED", None)


@pytest.mark.parametrize("address", [TEXT, TEXT + 0x400, TEXT + 0x540, 1 << 63, (1 << 64) - 2])
def test_elsewhere_there_is_one_rule_for_modules_too(address: int) -> None:
    assert rules_at(address)[30][0] == "VAL_EXPRESSION"


def test_ranges_are_in_order_without_a_gap() -> None:
    fdes = [entry for entry in entries() if isinstance(entry, FDE)]
    ends = [fde["initial_location"] + fde["address_range"] for fde in fdes]
    assert [fde["initial_location"] for fde in fdes] == [1 << 63, *ends[:-1]]
    assert ends[-1] == (1 << 64) - 1


def test_symbols_that_cannot_be_the_kernels_change_nothing() -> None:
    odd = {"ret_from_fork": 0x1000, "el0t_64_sync": (1 << 64) - 1}
    assert len([entry for entry in entries(odd) if isinstance(entry, FDE)]) == 1


def test_every_entry_is_padded_to_eight_bytes() -> None:
    table = SymbolTable(np.zeros(0, dtype=np.uint64), "", ())
    frame, at = make_record_frame(table, MASK), 0
    while at < len(frame):
        (size,) = struct.unpack_from("<I", frame, at)
        at += 4 + size
        assert at % 8 == 0
    assert at == len(frame)
