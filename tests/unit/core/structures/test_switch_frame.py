"""The registers of a task that is switched out, in memory laid out by hand."""

from __future__ import annotations

import pytest

from tests.builders.tasks import CONTEXT, FRAME, THREAD, Machine
from vmcorefs.core.elf.elf import EM_AARCH64, EM_X86_64
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
