"""The registers of a virtual machine's CPUs in VMware's saved states: the group ``cpu``.

Older states have a tag for each register; newer ones have ``gpregs``, a block with sixteen of them
(crash's vmware_vmss.c, struct vmssregs64). Nothing known here says which segments were loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.vmware.tags import Tag
from vmcorefs.core.formats.window import Window

_NAMES: Final = (
    *("rax", "rcx", "rdx", "rbx", "rbp", "rsp", "rsi", "rdi"),
    *(f"r{number}" for number in range(8, 16)),
)
_BLOCK: Final = struct.Struct("<16Q")
_OTHERS: Final = {b"rip": "rip", b"eflags": "eflags", b"EFLAGS": "eflags"}
_TAGS: Final = {**_OTHERS, **{name.encode(): name for name in _NAMES}}
_COUNT: Final = b"cpu:numVCPUs"
_MOST_CPUS: Final = 1 << 13


def read_registers(window: Window, tags: Iterable[Tag]) -> CpuRegisters | None:
    """The registers of all CPUs.

    Args:
        window: Reads the file.
        tags: Those of the group ``cpu``.

    Returns:
        None if a CPU lacks one of the sixteen registers or ``rip``.

    Raises:
        FormatError: if the tags cannot be true.
    """
    count, states = 0, dict[int, dict[str, int]]()
    for tag in tags:
        if tag.name == _COUNT:
            count = tag.value
        if not tag.indices or tag.indices[0] >= _MOST_CPUS:
            continue
        state = states.setdefault(tag.indices[0], {})
        if tag.name == b"gpregs" and tag.block is not None and tag.value == _BLOCK.size:
            raw = window.take(tag.block, _BLOCK.size)
            if len(raw) == _BLOCK.size:  # the file may end within it
                state |= zip(_NAMES, _BLOCK.unpack(raw), strict=True)
        elif tag.name in _TAGS and tag.block is None and len(tag.indices) == 1:
            name = _TAGS[tag.name]
            state[name] = tag.value | (state.get(name, 0) if name == "eflags" else 0)
    wanted = {*_NAMES, "rip"}
    cpus = [states.get(number, {}) for number in range(min(count, _MOST_CPUS))]
    if not cpus or not all(wanted <= state.keys() for state in cpus):
        return None
    return CpuRegisters(EM_X86_64, tuple(cpus))
