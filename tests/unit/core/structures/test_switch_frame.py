"""The registers of a task that is switched out, in memory laid out by hand."""

from __future__ import annotations

import pytest

from tests.builders.tasks import CONTEXT, FRAME, THREAD, Machine
from vmcorefs.core.elf.elf import EM_AARCH64, EM_PPC64, EM_RISCV, EM_X86_64
from vmcorefs.core.elf.machines import EM_S390
from vmcorefs.core.elf.registers import REGISTER_SETS
from vmcorefs.core.structures.switch_frame import SWITCH_FRAMES
from vmcorefs.errors import FormatError


def test_x86_64_has_them_on_the_stack() -> None:
    machine = Machine()
    place = machine.process(1)
    at = machine.switch_out(place, **{name: 10 + row for row, name in enumerate(FRAME)})
    found = SWITCH_FRAMES[EM_X86_64].read(machine.memory, machine.structs(), place.task)

    assert found == {
        "r15": 10,
        "r14": 11,
        "r13": 12,
        "r12": 13,
        "rbx": 14,
        "rbp": 15,
        "rip": 16,
        "rsp": at + 56,
    }


def test_arm64_has_them_in_the_task() -> None:
    machine = Machine()
    place = machine.process(1)
    machine.put(place.task + THREAD + 0x10, f"{len(CONTEXT)}Q", *range(19, 19 + len(CONTEXT)))
    found = SWITCH_FRAMES[EM_AARCH64].read(machine.memory, machine.structs(), place.task)

    assert found == {**{f"x{n}": n for n in range(19, 30)}, "sp": 30, "pc": 31}


def test_riscv64_has_them_in_the_task_some_in_an_array() -> None:
    machine = Machine()
    place = machine.process(1)
    machine.put(place.task + THREAD, "14Q", 100, 101, *range(12))
    found = SWITCH_FRAMES[EM_RISCV].read(machine.memory, machine.structs(), place.task)

    assert found == {"pc": 100, "sp": 101, **{f"s{n}": n for n in range(12)}}


def test_ppc64_has_them_on_the_stack_behind_a_frames_header() -> None:
    machine = Machine()
    place = machine.process(1)
    at = place.stack + 0x100
    machine.put(place.task + THREAD + 8, "Q", at)
    machine.put(at + 48 + 14 * 8, "18Q", *range(14, 32))
    machine.put(at + 48 + 0x100, "Q", 4711)
    found = SWITCH_FRAMES[EM_PPC64].read(machine.memory, machine.structs(), place.task)

    assert found == {
        **{f"gpr{n}": n for n in range(14, 32)},
        "nip": 4711,
        "gpr1": at + 48 + 0x180,
    }


def test_s390x_has_them_in_a_stack_frame() -> None:
    machine = Machine(">")
    place = machine.process(1)
    at = place.stack + 0x100
    machine.put(place.task + THREAD + 8, "Q", at)
    machine.put(at + 0x48, "10Q", *range(6, 16))
    found = SWITCH_FRAMES[EM_S390].read(machine.memory, machine.structs(), place.task)

    assert found == {**{f"r{n}": n for n in range(6, 14)}, "pswa": 14, "r15": 15}


@pytest.mark.parametrize("machine", SWITCH_FRAMES)
def test_the_registers_are_those_of_a_note(machine: int) -> None:
    frame, known = SWITCH_FRAMES[machine], REGISTER_SETS[machine]
    named = {*frame.registers.values(), *filter(None, [frame.on_stack])}
    assert named <= set(known.names)
    assert {known.ip, known.sp} <= named


def test_a_stack_pointer_that_leads_nowhere() -> None:
    machine = Machine()
    place = machine.process(1)
    machine.put(place.task + THREAD + 8, "Q", 0x1000)

    with pytest.raises(FormatError, match="nothing at 0x1000"):
        SWITCH_FRAMES[EM_X86_64].read(machine.memory, machine.structs(), place.task)
