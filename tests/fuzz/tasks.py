"""The lists of tasks, and the registers of those that are switched out."""

from __future__ import annotations

from typing import Final

from tests.builders.tasks import BASE, NODE, TASK_SIZE, TASKS, THREAD, Machine
from tests.fuzz.memory import pack, prefixed, split, unpack
from tests.fuzz.target import target
from vmcorefs.core.structures.switch_frame import SWITCH_FRAMES
from vmcorefs.core.structures.tasks import MAX_TASKS, STRUCTS, TaskLists
from vmcorefs.core.structures.types.btf import read_structs
from vmcorefs.errors import VmcorefsError

ZEROS: Final = 1  # lie outside of the blocks; see tests.fuzz.memory
SECOND: Final = 0x1240  # where the builder has process 1, behind init_task, its signals and stack


def _machine() -> Machine:
    machine = Machine()
    for place in (machine.process(1, b"init"), machine.process(2, b"two", 3)):
        machine.switch_out(
            place, **dict.fromkeys(["r15", "r14", "r13", "r12", "bx", "bp", "ret_addr"], 7)
        )
    return machine


def _seed(machine: Machine, outside: int = 0, **changes: int) -> bytes:
    block = bytes(machine.image[: machine.end])
    return prefixed(machine.btf(**changes), pack(b"", {BASE: block}, outside))


def _changed(at: int, value: int) -> Machine:
    machine = _machine()
    machine.put(BASE + at, "Q", value)
    return machine


@target(
    "tasks",
    valid=[_seed(Machine()), _seed(_machine())],
    nasty=[
        _seed(_machine(), ZEROS),
        _seed(_machine(), 129),
        _seed(_changed(TASKS, BASE + SECOND + NODE), ZEROS),
        _seed(_changed(SECOND + TASKS, BASE + SECOND + TASKS)),
        _seed(_changed(SECOND + NODE, BASE + SECOND + NODE + TASK_SIZE), ZEROS),
        _seed(_changed(SECOND + THREAD + 8, (1 << 64) - 8), ZEROS),
        _seed(_machine(), ZEROS, comm=1 << 16, tasks=0),
        _seed(_machine(), ZEROS, thread=(1 << 29) - 1),
    ],
)
def _tasks(data: bytes) -> None:
    btf, packed = split(data)
    _, memory = unpack(packed)
    frames = SWITCH_FRAMES.values()
    names = {*STRUCTS, *(name for frame in frames for name in frame.structs)}
    structs = read_structs(btf, "<", names)
    lost: list[int] = []
    lists = TaskLists(memory, structs, frozenset())
    walk = lists.iter_tasks(BASE, [BASE], lambda task, _: lost.append(task.pid))
    for number, task in enumerate(walk):
        assert number < MAX_TASKS
        assert task.name.isprintable()
        for frame in frames:
            try:
                registers = frame.read(memory, structs, task.address)
            except VmcorefsError:
                continue
            assert all(0 <= value < 1 << 64 for value in registers.values())
