"""The registers of CPUs in a stream, found by what the stream says of its devices."""

from __future__ import annotations

import json
import struct

import pytest

from tests.builders.qemu_devices import (
    arm_fields,
    pack_devices,
    riscv_fields,
    section_of,
    x86_fields,
)
from vmcorefs.core.elf.elf import EM_AARCH64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.registers import REGISTER_SETS, CpuRegisters
from vmcorefs.core.formats.qemu.devices import read_cpus
from vmcorefs.core.formats.window import Window

BEFORE = b"\0\6\0\0\0\3{}}" + bytes(99)  # it looks like a description, and is none


def found(data: bytes, start: int = len(BEFORE)) -> CpuRegisters | None:
    whole = BEFORE + data
    return read_cpus(Window(lambda offset, size: whole[offset : offset + size], len(whole)), start)


def some(machine: int, number: int) -> dict[str, int]:
    """A different value for each register."""
    names = REGISTER_SETS[machine].names
    width = 32 if machine == EM_X86_64 else 64  # selectors and the flags are shorter
    return {
        name: (number << 20) + at if name in ("pstate", *SHORT) else (at + 1 << width - 8) + number
        for at, name in enumerate(names)
        if name != "orig_rax"
    }


SHORT = ("cs", "ds", "es", "fs", "gs", "ss")
CPUS = {EM_X86_64: x86_fields, EM_AARCH64: arm_fields, EM_RISCV: riscv_fields}


@pytest.mark.parametrize("machine", CPUS)
@pytest.mark.parametrize("footers", [True, False])
def test_the_registers_of_each_cpu_are_found(machine: int, footers: bool) -> None:
    cpus = [some(machine, number) for number in range(3)]
    segments = cpus if machine == EM_X86_64 else ()
    packed = pack_devices([CPUS[machine](one) for one in cpus], segments, footers=footers)
    assert found(packed + b"what follows") == CpuRegisters(machine, tuple(cpus))
    assert found(packed, 0) == CpuRegisters(machine, tuple(cpus))


def test_what_was_sent_before_ram_is_described_too() -> None:
    cpu = some(EM_X86_64, 1)
    packed = pack_devices([x86_fields(cpu)], [cpu], early=True)
    assert found(packed) == CpuRegisters(EM_X86_64, (cpu,))


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_stream_that_ends_before_has_none(cut: int) -> None:
    packed = pack_devices([x86_fields({})])
    assert found(packed[: len(packed) * cut // 10]) is None


def test_sections_that_are_not_as_described_are_not_read() -> None:
    cpus = [some(EM_X86_64, number) for number in range(2)]
    packed = pack_devices([x86_fields(cpu) for cpu in cpus], cpus)
    assert found(packed) is not None
    for old, new in (
        (b"\3cpu\0\0\0\0", b"\3cpu\0\0\0\2"),
        (b"\3cpu\0\0\0\1", b"\3cpu\0\0\0\2"),
        (b"i8254\0", b"i8255\0"),
        (b"\x7e\0\0\0\1", b"\x7e\0\0\0\2"),
    ):
        assert packed.count(old) == 1
        assert found(packed.replace(old, new)) is None


@pytest.mark.parametrize("name", ["env.eip", "env.regs", "env.eflags", "env.segs"])
def test_a_machine_whose_fields_have_other_names_is_not_known(name: str) -> None:
    cpu = some(EM_X86_64, 0)
    packed = pack_devices([x86_fields(cpu)], [cpu])
    assert found(packed) is not None
    assert found(packed.replace(name.encode(), b"x" * len(name))) is None


@pytest.mark.parametrize(
    "fields",
    [
        [{"name": "env.regs", "size": -8, "array_len": 16}],
        [{"name": "env.regs", "size": 8, "array_len": 1 << 60}],
        [{"name": "env.regs", "size": "8"}],
        [],
    ],
)
def test_a_description_that_cannot_be_true_is_none(fields: list[dict[str, object]]) -> None:
    told = {"devices": [{"name": "cpu", "instance_id": -1, "fields": fields}]}
    text = json.dumps(told).encode()
    section = section_of("cpu", 0, 1, bytes(128), footers=True)
    assert found(section + b"\0\6" + struct.pack(">I", len(text)) + text) is None


def test_a_description_that_is_nested_too_deeply_is_none() -> None:
    inside = '{"name":"a","struct":{"fields":[' * 9999
    text = f'{{"devices":[{{"name":"cpu","instance_id":0,"fields":[{inside}'.encode()
    assert found(b"\0\6" + struct.pack(">I", len(text)) + text) is None
