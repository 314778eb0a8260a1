"""How to unwind x86-64 kernel stacks: the kernel's ORC tables, converted to DWARF for debuggers.

An x86-64 kernel has no frame pointers, and its DWARF is in the debug package. But the tables it
unwinds its own stacks with are in its memory: for each address where something changes, where the
caller's stack pointer is (arch/x86/include/asm/orc_types.h, arch/x86/kernel/unwind_orc.c,
``unwind_next_frame``). Converted to a ``.debug_frame`` section, they let gdb follow a stack without
the debug package.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

import msgspec
import numpy as np
import numpy.typing as npt

from vmcorefs.core.made_before import made_before
from vmcorefs.core.structures.kallsyms import Addresses, SymbolTable
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_ENTRIES = 1 << 20
"""Most entries accepted: distributions' kernels have 350,000 to 450,000."""

MAX_DISTINCT = 1 << 14
"""Most distinct entries accepted: those kernels have about 1,000."""

MAX_PROGRAMS = 1 << 26
"""Most bytes of DWARF accepted: those kernels' have about 4 MiB. An entry for an interrupt, of
which they have few, takes 250."""

ENTRY_DTYPE = np.dtype([("sp_offset", "<i2"), ("bp_offset", "<i2"), ("flags", "<u2")])
"""``struct orc_entry``; the flags are the two registers, the type, and since 6.4 the signal bit."""

_Table = npt.NDArray[np.void]
_ROWS_PER_FDE = 128  # a debugger scans them from the first
_CFA, _BP, _RA = 7, 6, 16  # DWARF's numbers: rsp, rbp, the return address

# ORC_REG_* that a stack pointer may come from -> DWARF register
_REGISTERS = {1: 0, 2: 1, 3: _CFA, 4: _BP, 5: 5, 6: 10, 7: 13, 9: _CFA, 10: _BP}
_SP_INDIRECT, _BP_INDIRECT = 9, 10
_FROM_SP = 3
_FROM_PREV_SP, _FROM_BP = 8, 4  # ORC_REG_* that the old rbp may be found by
# what they are called since "objtool: Support Clang RAX DRAP sequence" of 2026, by what they were
_RENUMBERED = np.array([0, 8, 2, 5, 4, 3, 6, 7, 10, 9, *[15] * 6], dtype="<u2")
_OLD_FROM_SP = 5
_END, _CALL, _ALL, _PARTIAL = range(-1, 3)  # ORC_TYPE_* from 6.4 on, less 2; REGS is ALL
_OLD_END = 3 << 10  # one of two bits, as 6.3 added one for signals
_REGS_IP, _REGS_SP = 128, 152  # offsets in struct pt_regs
_REGS = dict(
    zip(
        # rax, rdx, rcx, rbx, rsi, rdi, rbp, r8 to r15, rflags, cs, ss
        (0, 1, 2, 3, 4, 5, _BP, *range(8, 16), 49, 51, 52),
        (80, 96, 88, 40, 104, 112, 32, 72, 64, 56, 48, 24, 16, 8, 0, 144, 136, 160),
        strict=True,
    )
)
"""There, the other registers, by DWARF's numbers."""
_KEPT = (3, _BP, 12, 13, 14, 15)  # what functions keep for their callers (the psABI)
_IRET_SP = 24  # offset in the frame that iret takes: ip, cs, flags, sp, ss

_PROLOGUE = 64
# endbr64, nops and ftrace's call, loading a constant; push; sub $N, %rsp
_PROLOGUE_INSTRUCTION = re.compile(
    rb"\xf3\x0f\x1e\xfa|\x90|\x66\x90|\x66?\x0f\x1f(?:\x00|\x44..|\x40.|\x80....|\x84.....)"
    rb"|\xe8....|[\xb8-\xbf]....|\x31[\xc0-\xff]|\x48\x89\xe5"
    rb"|(?P<push>\x41?[\x50-\x57])|\x48\x83\xec(?P<sub8>[\x00-\x7f])|\x48\x81\xec(?P<sub32>..\0\0)",
    re.DOTALL,
)

# DW_CFA_* and DW_OP_*
_ADVANCE, _ADVANCE_4, _OFFSET, _OFFSET_SF = 0x40, 0x04, 0x80, 0x11
_UNDEFINED, _SAME_VALUE, _DEF_CFA, _DEF_CFA_EXPRESSION, _EXPRESSION = 7, 8, 0x0C, 0x0F, 0x10
_BREG, _DEREF, _CONSTS, _PLUS = 0x70, 0x06, 0x11, 0x22
_CIE = 0xFFFFFFFF  # where an FDE names its CIE


class _Caller(IntEnum):
    """How a function's caller is found; each way has a CIE of its own."""

    CALLING = 0
    INTERRUPTED = 1
    NONE = 2


class _Rule(msgspec.Struct, frozen=True):
    """One distinct ORC entry as DWARF."""

    program: bytes
    caller: _Caller


def read_debug_frame(kernel: SymbolTable, memory: KernelMemory, offset: int = 0) -> bytes:
    """Make a ``.debug_frame`` section from the kernel's ORC tables; modules have their own.

    Args:
        kernel: Its own symbols.
        memory: Reads its image.
        offset: How far KASLR moved it, in bytes: the section has link addresses.

    Raises:
        FormatError: if the kernel has none, or they contradict themselves.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    places = [
        kernel.lookup(name)
        for name in ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind")
    ]
    start, stop, entries = (place if place is not None else 0 for place in places)
    count, rest = divmod(stop - start, 4)
    if rest:
        raise FormatError(f"ORC: {stop - start} bytes of addresses, which have 4 each")
    addresses, table = _read_tables(memory, start, entries, count)
    _describe_crash_kexec(kernel, memory, addresses, table)
    linked = addresses - np.uint64(offset)
    return made_before(
        "frames", (linked.tobytes(), table.tobytes()), lambda: make_debug_frame(linked, table)
    )


def read_module_frame(memory: KernelMemory, ips: int, entries: int, count: int) -> bytes:
    """Make a ``.debug_frame`` section from a module's ORC tables.

    Args:
        memory: Reads the kernel's virtual memory.
        ips: Where its table of addresses is (``orc_unwind_ip`` of ``struct mod_arch_specific``).
        entries: Where its entries are (``orc_unwind``).
        count: How many (``num_orcs``).

    Raises:
        FormatError: if it has none, or they contradict themselves.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    return make_debug_frame(*_read_tables(memory, ips, entries, count))


def _read_tables(
    memory: KernelMemory, ips: int, entries: int, count: int
) -> tuple[Addresses, _Table]:
    if not entries or not 1 < count <= MAX_ENTRIES:
        raise FormatError(f"ORC: {4 * count} bytes of addresses, entries at {entries:#x}")
    offsets = np.frombuffer(memory.read(ips, 4 * count), dtype="<i4").astype(np.int64)
    # each is relative to its own address (orc_ip)
    places_of = np.uint64(ips) + 4 * np.arange(count, dtype=np.uint64)
    addresses = places_of + offsets.view(np.uint64)
    if (addresses[1:] < addresses[:-1]).any():
        raise FormatError("ORC: the addresses are not in order")
    table = np.frombuffer(
        memory.read(entries, ENTRY_DTYPE.itemsize * count), dtype=ENTRY_DTYPE
    ).copy()
    _renumber_registers(table)
    return addresses, table


def find_addresses(debug_frame: bytes) -> npt.NDArray[np.int64]:
    """Where in a ``.debug_frame`` section each address is: that at which an FDE begins."""
    found, at = [], 0
    while at < len(debug_frame):
        size, cie = struct.unpack_from("<II", debug_frame, at)
        if cie != _CIE:
            found.append(at + 8)
        at += 4 + size
    return np.array(found, dtype=np.int64)


def _renumber_registers(table: _Table) -> None:
    """Give registers the numbers that newer kernels use, if this one uses the older."""
    flags = table["flags"]
    # nearly every stack pointer is found by the stack pointer
    uses = np.bincount(flags & 15, minlength=16)
    if uses[_FROM_SP] < uses[_OLD_FROM_SP]:
        registers = _RENUMBERED[flags & 15] | _RENUMBERED[flags >> 4 & 15] << 4
        table["flags"] = flags & 0xFF00 | registers


def _describe_crash_kexec(
    kernel: SymbolTable, memory: KernelMemory, addresses: Addresses, table: _Table
) -> None:
    """Put an entry for ``__crash_kexec`` into the table, which has none.

    The registers of the CPU that panicked are saved there, so every backtrace begins in it, but
    objtool leaves it out (STACK_FRAME_NON_STANDARD, kernel/kexec_core.c). Its frame has one size
    from its first instructions on.
    """
    start = kernel.lookup("__crash_kexec")
    if start is None:
        return
    row = max(int(addresses.searchsorted(np.uint64(start), side="right")) - 1, 0)
    frame = _find_frame_size(memory.read(start, _PROLOGUE))
    if frame and not table["flags"][row] & 15:
        table[row] = (frame, 0, _FROM_SP | (2 << 8 if _is_newer(table) else 0))


def _find_frame_size(code: bytes) -> int:
    """Bytes from rsp up to the caller's, after a prologue that ends in ``sub $N, %rsp``; or 0."""
    size = 8  # the return address
    while found := _PROLOGUE_INSTRUCTION.match(code):
        code = code[found.end() :]
        if found.lastgroup == "push":
            size += 8
        elif found.lastgroup in ("sub8", "sub32"):
            return size + int.from_bytes(found[found.lastgroup], "little")
    return 0


def _is_newer(table: _Table) -> bool:
    """ORC_TYPE_CALL was 0 up to 6.3 and is 2 since, and nearly everything is a call."""
    uses = np.bincount(table["flags"] >> 8 & 7, minlength=8)
    return bool(uses[2] > uses[0])


def make_debug_frame(addresses: Addresses, table: _Table) -> bytes:
    """Convert ORC entries to DWARF call frame information.

    Args:
        addresses: The address from which each entry holds, in order; at least two.
        table: ``struct orc_entry`` for each; the last one only ends the one before it.

    Raises:
        FormatError: if too many of them are distinct, or take too many bytes.
    """
    # one number per entry: numpy sorts numbers much faster than structures
    packed = table["sp_offset"].astype(np.int64) << 32
    packed |= (table["bp_offset"].astype(np.int64) & 0xFFFF) << 16 | table["flags"]
    _, first_of, which = np.unique(packed, return_index=True, return_inverse=True)
    if len(first_of) > MAX_DISTINCT:
        raise FormatError(f"ORC: {len(first_of)} distinct entries, expected at most {MAX_DISTINCT}")
    newer = _is_newer(table)
    rules = [_make_rule(*entry, newer=newer) for entry in table[first_of].tolist()]
    size = int(np.array([len(rule.program) for rule in rules])[which].sum())
    if size > MAX_PROGRAMS:
        raise FormatError(f"ORC: {size} bytes of DWARF, expected at most {MAX_PROGRAMS}")
    callers = np.array([rule.caller for rule in rules])[which]
    breaks = np.zeros(len(table), dtype=bool)
    breaks[::_ROWS_PER_FDE] = True
    breaks[1:] |= callers[1:] != callers[:-1]
    parts = [_pack_cie(caller) for caller in _Caller]
    cies = np.cumsum([0, *map(len, parts)]).tolist()
    deltas = np.diff(addresses).tolist()
    starts = np.flatnonzero(breaks[:-1]).tolist()
    for first, end in zip(starts, [*starts[1:], len(table) - 1], strict=True):
        caller = _Caller(callers[first])
        data = b"\0" if caller == _Caller.INTERRUPTED else b""  # augmentation data, of length 0
        program = data + b"".join(_iter_rows(rules, which[first:end].tolist(), deltas[first:end]))
        where = int(addresses[first]), int(addresses[end] - addresses[first])
        parts.append(_pack_fde(cies[caller], *where, program))
    return b"".join(parts)


def _iter_rows(rules: Sequence[_Rule], which: list[int], deltas: list[int]) -> Iterator[bytes]:
    advance = 0
    for rule, delta in zip(which, deltas, strict=True):
        if advance:
            if advance < 0x40:
                yield bytes([_ADVANCE | advance])
            else:
                yield struct.pack("<BI", _ADVANCE_4, min(advance, 0xFFFFFFFF))
        yield rules[rule].program
        advance = delta


def _make_rule(sp_offset: int, bp_offset: int, flags: int, *, newer: bool) -> _Rule:
    kind = (flags >> 8 & 7) - 2 if newer else flags >> 8 & 3
    register = _REGISTERS.get(flags & 15)
    if register is None or kind not in (_CALL, _ALL, _PARTIAL):
        ends = kind == _END if newer else flags & _OLD_END
        if ends:
            return _Rule(b"", _Caller.NONE)
        # padding, for the most part: nothing says how the stack continues
        return _Rule(bytes([_DEF_CFA, _CFA, 8, _UNDEFINED, _RA]), _Caller.CALLING)
    base = _sum(register, sp_offset)
    if flags & 15 == _BP_INDIRECT:
        base += bytes([_DEREF])
    elif flags & 15 == _SP_INDIRECT:
        base = bytes([*_sum(register, 0), _DEREF, _CONSTS, *_sleb(sp_offset), _PLUS])
    if kind == _CALL:
        simple = flags & 15 not in (_BP_INDIRECT, _SP_INDIRECT) and sp_offset >= 0
        cfa = bytes([_DEF_CFA, register, *_uleb(sp_offset)]) if simple else _cfa(base)
        ra = bytes([_OFFSET | _RA, 1])  # 1 times the data alignment below the CFA
        return _Rule(cfa + ra + _bp_rule(flags >> 4 & 15, bp_offset), _Caller.CALLING)
    if kind == _ALL:
        kept = b"".join(_found_at(reg, _add(base, place)) for reg, place in _REGS.items())
        ip, sp = _add(base, _REGS_IP), _add(base, _REGS_SP)
    else:
        kept = b"".join(bytes([_SAME_VALUE, reg]) for reg in _KEPT)
        ip, sp = base, _add(base, _IRET_SP)
    return _Rule(_cfa(sp + bytes([_DEREF])) + _found_at(_RA, ip) + kept, _Caller.INTERRUPTED)


def _bp_rule(register: int, offset: int) -> bytes:
    if register == _FROM_PREV_SP and offset % 8 == 0:
        return bytes([_OFFSET_SF, _BP, *_sleb(offset // -8)])
    if register == _FROM_BP:
        return _found_at(_BP, _sum(_BP, offset))
    return bytes([_SAME_VALUE, _BP])


def _sum(register: int, offset: int) -> bytes:
    return bytes([_BREG + register, *_sleb(offset)])


def _add(expression: bytes, offset: int) -> bytes:
    return expression + bytes([_CONSTS, *_sleb(offset), _PLUS])


def _cfa(expression: bytes) -> bytes:
    return bytes([_DEF_CFA_EXPRESSION, *_uleb(len(expression))]) + expression


def _found_at(register: int, expression: bytes) -> bytes:
    return bytes([_EXPRESSION, register, *_uleb(len(expression))]) + expression


def _uleb(value: int) -> bytes:
    result = []
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def _sleb(value: int) -> bytes:
    result = []
    while not -0x40 <= value < 0x40:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value & 0x7F])


def _pack_cie(caller: _Caller) -> bytes:
    """Version 1, code in units of 1 and data in units of -8 bytes (DWARF 5, 6.4.1).

    ORC does not tell where a function keeps registers but rbp: none of the caller's are known. At
    the end of a stack nothing is, or drgn would add a frame without an address.
    """
    signal = caller == _Caller.INTERRUPTED
    augmentation = b"zS" if signal else b""
    body = struct.pack("<IB", _CIE, 1) + augmentation + bytes([0, 1, *_sleb(-8), _RA])
    body += b"\0" if signal else b""  # augmentation data, of length 0
    body += bytes([_DEF_CFA, _CFA, 8])
    unknown = [reg for reg in _KEPT if reg != _BP]
    if caller == _Caller.NONE:
        unknown = [*_KEPT, _CFA, _RA]
    else:
        body += bytes([_OFFSET | _RA, 1])
    return _pack_entry(body + b"".join(bytes([_UNDEFINED, reg]) for reg in unknown))


def _pack_fde(cie: int, start: int, size: int, program: bytes) -> bytes:
    return _pack_entry(struct.pack("<IQQ", cie, start, size) + program)


def _pack_entry(body: bytes) -> bytes:
    body += bytes(-(len(body) + 4) % 8)  # DW_CFA_nop
    return struct.pack("<I", len(body)) + body
