"""The state of the CPUs in a stream: behind RAM, with the other devices.

A device's section says its name and not its length. What is in all of them is described at the
stream's end, in JSON, field by field and with sizes (QEMU's migration/savevm.c and vmstate.c,
QEMU_VM_VMDESCRIPTION). So the sections are found from their end backwards, and registers by the
names of QEMU's own fields (target/i386/machine.c, target/arm/machine.c, target/riscv/machine.c),
whatever the version is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from vmcorefs.core.elf.elf import EM_AARCH64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.registers import CpuRegisters, names_of
from vmcorefs.core.formats.window import Window

_FULL, _SUBSECTION, _FOOTER = 4, 5, 0x7E
_END_AND_DESCRIPTION: Final = b"\0\6"
_MOST_STATE: Final = 1 << 28
_MOST_TEXT: Final = 1 << 25
_MOST_CPUS: Final = 1 << 13
_MOST_TRIES: Final = 16
_STEP: Final = 1 << 19
_CPU: Final = "cpu"
_MOST_NUMBERS, _LONGEST, _NUMBER = 64, 64, 8  # in an array; bytes of a structure, of a number

# target/i386/cpu.h: R_EAX and so on, R_ES and so on
_X86_NAMES: Final = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{number}" for number in range(8, 16)),
)
_X86_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
_X86_ARRAYS: Final = {
    "env.regs": _X86_NAMES,
    "env.segs.selector": _X86_SEGMENTS,
    "env.segs.base": _X86_SEGMENTS,
}


class _Field(msgspec.Struct, frozen=True):
    name: str = ""
    size: int = 0
    array_len: int = 1
    struct: _Struct | None = None


class _Struct(msgspec.Struct, frozen=True):
    vmsd_name: str = ""
    fields: tuple[_Field, ...] = ()
    subsections: tuple[_Struct, ...] = ()


class _Device(msgspec.Struct, frozen=True):
    name: str
    instance_id: int
    fields: tuple[_Field, ...] = ()
    subsections: tuple[_Struct, ...] = ()


class _Description(msgspec.Struct, frozen=True):
    devices: tuple[_Device, ...]


def read_cpus(window: Window, start: int) -> CpuRegisters | None:
    """Find the registers of all CPUs.

    Args:
        window: Reads the file.
        start: Where RAM ends in the stream.

    Returns:
        None if the stream does not describe its devices, or they are not where they should be, or
        of a machine whose registers are not known here.
    """
    found = _find_description(window, start)
    if found is None:
        return None
    end, description = found
    machine, states = 0, dict[int, dict[str, int]]()
    for device in reversed(description.devices):
        size = sum(map(_size, device.fields)) + sum(map(_subsection_size, device.subsections))
        begin = _begin_of(window, device, end, size)
        if begin is None:
            break  # what was sent before RAM is described first
        if device.name == _CPU:
            machine, states[device.instance_id] = _registers(window, device, begin)
            if not machine:
                break
        end = begin - _head_size(device)
        if end < start or len(states) > _MOST_CPUS:
            break
    if not machine or len(states) != sum(one.name == _CPU for one in description.devices):
        return None
    return CpuRegisters(machine, tuple(states[number] for number in sorted(states)))


def _find_description(window: Window, start: int) -> tuple[int, _Description] | None:
    """Where the devices end, and their description."""
    stop, tries = min(window.size, start + _MOST_STATE), 0
    for at in range(start, stop, _STEP):
        piece = window.take(at, _STEP + 8)
        inside = piece.find(_END_AND_DESCRIPTION)
        while 0 <= inside < _STEP and tries < _MOST_TRIES:
            text = _read_text(window, at + inside)
            tries += bool(text)
            with suppress(msgspec.DecodeError, RecursionError):
                return at + inside, msgspec.json.decode(text, type=_Description)
            inside = piece.find(_END_AND_DESCRIPTION, inside + 1)
    return None


def _read_text(window: Window, at: int) -> bytes:
    """What may be a description at ``at``; empty if it is none."""
    head = window.take(at, 7)
    size = int.from_bytes(head[2:6], "big")
    if head[6:] != b"{" or size > min(_MOST_TEXT, window.size - at - 6):
        return b""
    places = range(at + 6, at + 6 + size, _STEP)
    return b"".join(window.take(one, min(_STEP, at + 6 + size - one)) for one in places)


def _size(field: _Field) -> int:
    return field.size * field.array_len


def _subsection_size(one: _Struct) -> int:
    inside = sum(map(_size, one.fields)) + sum(map(_subsection_size, one.subsections))
    return 6 + len(one.vmsd_name.encode()) + inside


def _head_size(device: _Device) -> int:
    return 14 + len(device.name.encode())


def _begin_of(window: Window, device: _Device, end: int, size: int) -> int | None:
    """Where a device's fields begin, if its section is as described; ``end`` is behind that."""
    name = device.name.encode()
    for footer in (5, 0):  # types of machines before QEMU 2.4 have none
        begin = end - footer - size
        if not 0 <= begin - _head_size(device) <= begin <= end:
            continue
        head = window.take(begin - _head_size(device), _head_size(device))
        fits = head[:1] == bytes([_FULL]) and head[5:] == struct.pack(
            f">B{len(name)}sI4s", len(name) & 0xFF, name, device.instance_id & 0xFFFFFFFF, head[-4:]
        )
        mark = bytes([_FOOTER]) + head[1:5]
        if fits and (not footer or window.take(end - footer, footer) == mark):
            return begin
    return None


def _registers(window: Window, device: _Device, begin: int) -> tuple[int, dict[str, int]]:
    """The machine, and the registers by the names of the kernel; 0 and none if it is not known."""
    fields = dict(_read_fields(window, device.fields, begin))
    if {"env.eip", "env.eflags"} <= fields.keys() and all(
        len(fields.get(name, ())) == len(registers) for name, registers in _X86_ARRAYS.items()
    ):
        return EM_X86_64, _x86(fields)
    if len(fields.get("env.xregs", ())) == 32 and {"env.pc", "cpsr"} <= fields.keys():
        general = zip(names_of(EM_AARCH64), fields["env.xregs"], strict=False)
        return EM_AARCH64, {
            **dict(general),
            "pc": fields["env.pc"][0],
            "pstate": fields["cpsr"][0],
        }
    if len(fields.get("env.gpr", ())) == 32 and "env.pc" in fields:
        values = (*fields["env.pc"], *fields["env.gpr"][1:])
        return EM_RISCV, dict(zip(names_of(EM_RISCV), values, strict=False))
    return 0, {}


def _x86(fields: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    # as QEMU's own dumps have them (target/i386/arch_dump.c), which leave orig_rax 0
    registers = dict(zip(_X86_NAMES, fields["env.regs"], strict=True))
    registers["rip"] = fields["env.eip"][0]
    registers["eflags"] = fields["env.eflags"][0]
    registers |= dict(zip(_X86_SEGMENTS, fields["env.segs.selector"], strict=True))
    bases = dict(zip(_X86_SEGMENTS, fields["env.segs.base"], strict=True))
    return {**registers, "fs_base": bases["fs"], "gs_base": bases["gs"]}


def _read_fields(
    window: Window, fields: tuple[_Field, ...], at: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The numbers in fields by name; of an array of structures, those of each member by its own."""
    for field in fields:
        if 0 < field.array_len <= _MOST_NUMBERS and 0 < field.size <= _LONGEST:
            raw = window.take(at, _size(field))
            if len(raw) < _size(field):
                return
            rows = [raw[first : first + field.size] for first in range(0, len(raw), field.size)]
            inside = 0
            for part in field.struct.fields if field.struct is not None else ():
                if 0 < part.size <= _NUMBER:
                    column = (row[inside : inside + part.size] for row in rows)
                    numbers = tuple(int.from_bytes(one, "big") for one in column)
                    yield f"{field.name}.{part.name}", numbers
                inside += _size(part)
            if field.struct is None and field.size <= _NUMBER:
                yield field.name, tuple(int.from_bytes(row, "big") for row in rows)
        at += _size(field)
