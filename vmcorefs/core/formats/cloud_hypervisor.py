"""cloud-hypervisor's snapshots: what state.json says of memory and of the CPUs.

The file memory-ranges has the ranges one behind the other, in the order of a table that the
snapshot of the memory manager has (its vmm/src/memory_manager.rs and
vm-migration/src/protocol.rs, MemoryRangeTable). Each part's state is JSON in a string of JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

MEMORY, STATE = "memory-ranges", "state.json"
"""The files of a snapshot that are read."""

_MOST_RANGES: Final = 1 << 12
_MOST_CPUS: Final = 1 << 13
_DEEPEST: Final = 8
_GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "rip")
_MORE: Final = tuple(f"r{number}" for number in range(8, 16))
_ABSENT: Final = -1  # no register has that
_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss")


class _Data(msgspec.Struct):
    state: str = "{}"


class _Part(msgspec.Struct):
    snapshots: dict[str, _Part] = {}
    snapshot_data: _Data | None = None


class _Range(msgspec.Struct):
    gpa: int
    length: int


class _Table(msgspec.Struct):
    data: list[_Range]


class _Memory(msgspec.Struct):
    memory_ranges: _Table


class Snapshot(msgspec.Struct, frozen=True):
    """What a snapshot says.

    Attributes:
        ranges: First physical address and bytes of each range, in the order of the file.
        cpus: The registers of its CPUs; None if they are not told in a form that is known here.
    """

    ranges: tuple[tuple[int, int], ...]
    cpus: CpuRegisters | None


def parse_state(text: bytes) -> Snapshot | None:
    """Read state.json; None if it does not say where memory belongs.

    Raises:
        FormatError: if a range cannot be true.
    """
    try:
        whole = msgspec.json.decode(text, type=_Part)
        manager = whole.snapshots["memory-manager"].snapshot_data
        told = msgspec.json.decode(manager.state if manager else "", type=_Memory)
    except (msgspec.DecodeError, KeyError, RecursionError):
        return None
    ranges = tuple((one.gpa, one.length) for one in told.memory_ranges.data)
    if not ranges or len(ranges) > _MOST_RANGES:
        raise FormatError(f"{STATE}: {len(ranges)} ranges of memory")
    for start, size in ranges:
        if start < 0 or size <= 0 or start + size > MAX_ADDRESS:
            raise FormatError(f"{STATE}: a range of {size} bytes at {start:#x}")
    return Snapshot(ranges, _read_cpus(whole))


def _read_cpus(whole: _Part) -> CpuRegisters | None:
    manager = whole.snapshots.get("cpu-manager")
    numbered = {
        int(name): part
        for name, part in (manager.snapshots if manager else {}).items()
        if name.isascii() and name.isdigit() and len(name) < 5
    }
    states = [_registers(numbered[number]) for number in sorted(numbered)[:_MOST_CPUS]]
    found = tuple(state for state in states if state is not None)
    if not found or len(found) < len(states):
        return None
    return CpuRegisters(EM_X86_64, found)


def _registers(part: _Part) -> dict[str, int] | None:
    """The registers of an x86-64 CPU, wherever in its state they are."""
    state: Any = None
    with suppress(msgspec.DecodeError, RecursionError):
        state = msgspec.json.decode(part.snapshot_data.state if part.snapshot_data else "")
    found: dict[str, int] = {}
    for one in _objects(state, _DEEPEST):
        if {*_GENERAL, *_MORE, "rflags"} <= one.keys():
            found |= {name: one[name] for name in (*_GENERAL, *_MORE)}
            found["eflags"] = one["rflags"]
        elif set(_SEGMENTS) <= one.keys():
            for name in _SEGMENTS:
                segment = one[name] if isinstance(one[name], dict) else {}
                found[name] = segment.get("selector", _ABSENT)
                if name in ("fs", "gs"):
                    found[f"{name}_base"] = segment.get("base", _ABSENT)
    numbers = all(isinstance(one, int) and 0 <= one < 1 << 64 for one in found.values())
    return found if numbers and {"rip", "cs"} <= found.keys() else None


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:  # noqa: ANN401  # it is JSON
    if isinstance(value, dict) and depth:
        yield value
        for one in value.values():
            yield from _objects(one, depth - 1)
