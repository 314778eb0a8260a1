"""The stack of a CPU by the registers that a hypervisor kept, and by nothing else."""

from __future__ import annotations

import struct
from typing import Final

import drgn
import numpy as np
import pytest

from vmcorefs.core.elf.elf import EM_AARCH64
from vmcorefs.core.elf.registers import CpuState, names_of
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Frame
from vmcorefs.reports.report.walk.stacks import stack_at

_CODE: Final = 0xFFFF800008010000
_STACK: Final = 0xFFFF800010000000
_KEPT: Final = 34 * 8
_NAMES: Final = Names(
    [SymbolTable(np.array([_CODE, _CODE + 0x100], dtype=np.uint64), "tt", ("inner", "outer"))]
)


def _program(behind: int) -> drgn.Program:
    """An arm64 machine, whose pt_regs has so many bytes behind those of user space's."""
    program = drgn.Program(drgn.Platform(drgn.Architecture.AARCH64))
    byte = program.int_type("unsigned char", 1, False)
    member = drgn.TypeMember(program.array_type(byte, _KEPT + behind), "all")
    pt_regs = program.struct_type("pt_regs", _KEPT + behind, [member])
    program.register_type_finder(
        "test", lambda *asked: pt_regs if asked[2] == "pt_regs" else None, enable_index=0
    )
    # the frame of inner; the one that called outer has left none
    records = {_STACK: (_STACK + 64, _CODE + 0x180), _STACK + 64: (0, 0)}

    def read(address: int, count: int, offset: int, _physical: bool) -> bytes:
        memory = bytearray(4096)
        for at, record in records.items():
            struct.pack_into("<2Q", memory, at - _STACK, *record)
        return bytes(memory[offset : offset + count])

    program.add_memory_segment(_STACK, 4096, read)
    return program


@pytest.mark.parametrize("behind", [0, 8, 64])
def test_what_is_behind_the_registers_of_arm64_is_no_frame(behind: int) -> None:
    registers = dict.fromkeys(names_of(EM_AARCH64), 0x55)
    registers |= {"pc": _CODE + 8, "sp": _STACK, "x29": _STACK}
    stack = stack_at(_NAMES, _program(behind), CpuState(1, _CODE + 8, _STACK, registers))

    assert stack.frames == [Frame(_CODE + 8, "inner", 8), Frame(_CODE + 0x180, "outer", 0x80)]
    assert stack.broken == "nothing is known of the caller of outer+0x80"
