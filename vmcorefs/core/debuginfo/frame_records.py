"""How to unwind arm64 kernel stacks: by frame records, as the kernel itself does.

Each function leaves a record at x29: its caller's x29, and where it returns to
(arch/arm64/kernel/stacktrace.c, ``kunwind_next_frame_record``). A CPU that authenticates pointers
has signed that address, which gdb undoes only for user space. So one rule, for all of the kernel's
addresses and its modules', says both. A stack ends where the kernel was entered, or a task began.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import numpy as np

from vmcorefs.core.structures.kallsyms import SymbolTable

_CIE = 0xFFFFFFFF
_X29, _X30 = 29, 30  # DWARF's numbers (Arm's aadwarf64); x30 is the return address
_RECORD = 16
_KERNEL_START, _KERNEL_END = 1 << 63, (1 << 64) - 1
# arch/arm64/kernel/entry.S and head.S
_FIRST = re.compile(
    "ret_from_fork|el0t_(?:64|32)_(?:sync|irq|fiq|error)|__(?:primary|secondary)_switched"
)

# DW_CFA_* and DW_OP_* (DWARF 5, 6.4.2 and 2.5.1)
_DEF_CFA, _OFFSET, _UNDEFINED, _VAL_EXPRESSION = 0x0C, 0x80, 0x07, 0x16
_BREG29, _DEREF, _DUP, _BRA, _SKIP, _CONST8U, _OR = 0x8D, 0x06, 0x12, 0x28, 0x2F, 0x0E, 0x21


def make_record_frame(symbols: SymbolTable, pac_mask: int) -> bytes:
    """Make a ``.debug_frame`` section.

    Args:
        symbols: The kernel's own symbols, at link addresses.
        pac_mask: The bits of an address that a signature may take, which are ones in an address of
            the kernel: VMCOREINFO's ``KERNELPACMASK``.
    """
    strip = struct.pack("<BQB", _CONST8U, pac_mask, _OR)
    # the last record holds zeros, which are to stay zeros
    jump = struct.pack("<BhBh", _BRA, 3, _SKIP, len(strip))
    returned = bytes([_BREG29, 8, _DEREF, _DUP]) + jump + strip
    cfa = bytes([_DEF_CFA, _X29, _RECORD, _OFFSET | _X29, _RECORD // 8])  # times -8, from its end
    cies = [
        _pack_cie(cfa + bytes([_VAL_EXPRESSION, _X30, len(returned)]) + returned),
        _pack_cie(cfa + bytes([_UNDEFINED, _X30])),
    ]
    places = 0, len(cies[0])
    at, fdes = _KERNEL_START, []
    for start, end in _first_functions(symbols):
        fdes += [(places[0], at, start), (places[1], start, end)]
        at = end
    fdes.append((places[0], at, _KERNEL_END))
    packed = (struct.pack("<IQQ", cie, start, end - start) for cie, start, end in fdes)
    return b"".join([*cies, *map(_pack_entry, packed)])


def _first_functions(symbols: SymbolTable) -> Iterator[tuple[int, int]]:
    """Where stacks end: ranges in order, each up to the next symbol."""
    addresses = np.unique(symbols.addresses)
    rows = zip(symbols.names, symbols.addresses.tolist(), strict=True)
    for start in sorted({at for name, at in rows if _FIRST.fullmatch(name)}):
        (following,) = addresses.searchsorted([np.uint64(start)], side="right").tolist()
        if start >= _KERNEL_START and following < len(addresses):
            yield start, int(addresses[following])


def _pack_cie(rules: bytes) -> bytes:
    """Version 1, code in units of 1 and data of -8 bytes, the return address in x30."""
    return _pack_entry(struct.pack("<IBBBBB", _CIE, 1, 0, 1, -8 & 0x7F, _X30) + rules)


def _pack_entry(body: bytes) -> bytes:
    body += bytes(-(len(body) + 4) % 8)  # DW_CFA_nop
    return struct.pack("<I", len(body)) + body
