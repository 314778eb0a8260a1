"""A kernel's tasks, where a part of what leads to them is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.builders.tasks import TASKS, Machine
from vmcorefs.core.structures.kallsyms import SymbolTable
from vmcorefs.core.structures.types.btf import Struct, read_structs
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.kernel.tasks import find_tasks

RQ = {"curr": 0x20, "idle": 0x28}
QUEUE = 0xF000


def kernel_of(machine: Machine, machine_number: int = 62, *missing: str) -> Any:
    """A kernel without CONFIG_SMP, whose one run queue is at ``QUEUE`` of the image."""
    symbols = {"init_task": machine.init.task, "runqueues": machine.init.task + QUEUE}
    known = {name: at for name, at in symbols.items() if name not in missing}
    addresses = np.array(list(known.values()), dtype=np.uint64)
    table = SymbolTable(addresses, "D" * len(known), tuple(known))

    def structs(*names: str) -> dict[str, Struct]:
        found = read_structs(machine.btf(), "<", set(names) - {"rq"})
        return {**found, "rq": Struct("rq", 0x100, RQ)}

    return SimpleNamespace(
        machine=machine_number,
        image=machine.memory,
        virtual=machine.memory,
        symbols=table,
        symbol=table.require,
        structs=structs,
    )


def queue(machine: Machine, curr: int, idle: int) -> None:
    machine.put(machine.init.task + QUEUE + RQ["curr"], "QQ", curr, idle)


def test_all_of_them() -> None:
    machine = Machine(smp=False)
    place = machine.process(1, b"init")
    queue(machine, place.task, machine.init.task)
    found = find_tasks(kernel_of(machine))

    assert [(task.name, task.is_on_cpu) for task in found.tasks] == [
        ("init", True),
        ("swapper/0", False),
    ]
    assert found.warnings == ()


def test_without_run_queues_cpu_0_is_taken_to_be_idle() -> None:
    machine = Machine(smp=False)
    machine.process(1, b"init")
    found = find_tasks(kernel_of(machine, 62, "runqueues"))

    assert [(task.name, task.is_on_cpu) for task in found.tasks] == [
        ("init", False),
        ("swapper/0", True),
    ]
    assert found.warnings == ("no idle tasks but CPU 0's: kallsyms: no runqueues",)


def test_what_came_before_an_error_is_kept() -> None:
    machine = Machine()
    machine.process(1, b"init", 2)
    last = machine.process(3, b"last", 4)
    queue(machine, machine.init.task, machine.init.task)
    machine.put(last.task + TASKS, "Q", 0x1000)
    found = find_tasks(kernel_of(machine))

    assert [task.pid for task in found.tasks] == [1, 2, 3, 4]
    (warning,) = found.warnings
    assert warning.startswith("4 tasks, then: nothing at ")


def test_processes_with_lost_threads_are_counted() -> None:
    machine = Machine()
    for pid in (1, 2):
        machine.put(machine.process(pid).task + 0x110, "Q", 0x1000)
    queue(machine, machine.init.task, machine.init.task)
    (warning,) = find_tasks(kernel_of(machine)).warnings

    assert warning.startswith("not all threads of 2 processes, first pid 1: nothing at ")


def test_without_init_task_there_are_none() -> None:
    with pytest.raises(FormatError, match="no init_task"):
        find_tasks(kernel_of(Machine(), 62, "init_task"))


def test_a_machine_whose_registers_are_elsewhere_has_tasks() -> None:
    machine = Machine()
    machine.process(1, b"init")
    queue(machine, machine.init.task, machine.init.task)
    found = find_tasks(kernel_of(machine, 258))  # loongarch

    assert [task.name for task in found.tasks] == ["init", "swapper/0"]
    with pytest.raises(UnsupportedError, match="where this machine keeps them"):
        found.registers(found.tasks[0])
