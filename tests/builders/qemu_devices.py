"""The devices at the end of QEMU's streams, and their description, after its vmstate.c."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

Field = tuple[str, int, Sequence[int]]
"""A field's name, the bytes of a number in it, and its numbers."""

GENERAL = [
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
]
SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"]


def x86_fields(registers: Mapping[str, int]) -> list[Field]:
    """What a CPU's section begins with (target/i386/machine.c)."""
    return [
        ("env.regs", 8, [registers.get(name, 0) for name in GENERAL]),
        ("env.eip", 8, [registers.get("rip", 0)]),
        ("env.eflags", 8, [registers.get("eflags", 0)]),
        ("env.hflags", 4, [1]),
    ]


def arm_fields(registers: Mapping[str, int]) -> list[Field]:
    """After target/arm/machine.c."""
    names = [*(f"x{number}" for number in range(31)), "sp"]
    return [
        ("env.regs", 4, [7] * 16),
        ("env.xregs", 8, [registers.get(name, 0) for name in names]),
        ("env.pc", 8, [registers.get("pc", 0)]),
        ("cpsr", 4, [registers.get("pstate", 0)]),
    ]


def riscv_fields(registers: Mapping[str, int]) -> list[Field]:
    """After target/riscv/machine.c."""
    names = [
        *("zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0"),
        *("s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"),
    ]
    names += [*(f"s{number}" for number in range(2, 12)), *(f"t{n}" for n in range(3, 7))]
    return [
        ("env.gpr", 8, [registers.get(name, 0) for name in names]),
        ("env.pc", 8, [registers.get("pc", 0)]),
    ]


def pack_devices(
    cpus: Sequence[Sequence[Field]],
    segments: Sequence[Mapping[str, int]] = (),
    *,
    footers: bool = True,
    early: bool = False,
) -> bytes:
    """All sections behind RAM, and their description.

    Args:
        cpus: The fields of each CPU.
        segments: Their segments' registers, of x86; ``fs_base`` and ``gs_base`` too.
        footers: Whether sections have one, as since QEMU 2.4.
        early: Whether the first device that is described was sent before RAM, as virtio-mem is.
    """
    out = section_of("timer", 0, 90, bytes(24), footers=footers)
    told: list[dict[str, object]] = [_old_style("timer", 24)]
    if early:
        told.insert(0, _old_style("early", 99))
    for number, fields in enumerate(cpus):
        body, described = _pack_fields(fields)
        if segments:
            packed, one = _pack_segments(segments[number])
            body, described = body + packed, [*described, one]
        body += b"\5" + _text("cpu/some") + struct.pack(">IB", 1, 9)
        part = {"vmsd_name": "cpu/some", "version": 1, "fields": [{"name": "a", "size": 1}]}
        out += section_of("cpu", number, number, body, footers=footers)
        told.append({"name": "cpu", "instance_id": number, "fields": described})
        told[-1]["subsections"] = [part]
    out += section_of("i8254", 0, 91, b"x" * 5, footers=footers)
    told.append(_old_style("i8254", 5))
    described_by = json.dumps({"page_size": 4096, "devices": told}).encode()
    return out + b"\0\6" + struct.pack(">I", len(described_by)) + described_by


def section_of(name: str, instance: int, number: int, body: bytes, *, footers: bool) -> bytes:
    head = struct.pack(">BI", 4, number) + _text(name) + struct.pack(">II", instance, 12)
    return head + body + (struct.pack(">BI", 0x7E, number) if footers else b"")


def _text(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def _old_style(name: str, size: int) -> dict[str, object]:
    fields = [{"name": "data", "size": size, "type": "buffer"}]
    return {"name": name, "instance_id": 0, "size": size, "fields": fields}


def _pack_fields(fields: Sequence[Field]) -> tuple[bytes, list[dict[str, object]]]:
    body = b"".join(n.to_bytes(size, "big") for _, size, numbers in fields for n in numbers)
    told: list[dict[str, object]] = []
    for name, size, numbers in fields:
        array = {"array_len": len(numbers)} if len(numbers) > 1 else {}
        told.append({"name": name, "size": size, "type": "some", **array})
    return body, told


def _pack_segments(registers: Mapping[str, int]) -> tuple[bytes, dict[str, object]]:
    rows = [
        struct.pack(">IQII", registers.get(one, 0), registers.get(f"{one}_base", 0), 9, 9)
        for one in SEGMENTS
    ]
    sizes = {"selector": 4, "base": 8, "limit": 4, "flags": 4}
    fields = [{"name": name, "size": size} for name, size in sizes.items()]
    inside = {"vmsd_name": "segment", "version": 1, "fields": fields}
    told = {"name": "env.segs", "array_len": 6, "type": "struct", "struct": inside, "size": 20}
    return b"".join(rows), dict(told)
