"""The lists of tasks, in memory laid out by hand."""

from __future__ import annotations

import pytest

from tests.builders import tasks as layout
from tests.builders.tasks import COMM, NODE, PID, SIGNAL, TASKS, Machine
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures import tasks as module
from vmcorefs.core.structures.tasks import Task
from vmcorefs.errors import FormatError


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_processes_with_their_threads_and_idle_tasks_behind_them(byte_order: ByteOrder) -> None:
    machine = Machine(byte_order)
    machine.process(1, b"init")
    machine.process(30, b"threads", 31, 32)
    machine.process(7, b"sleep")
    found, lost = machine.tasks(machine.init, machine.idle(1))

    assert lost == []
    assert [(task.pid, task.tgid, task.name) for task in found] == [
        (1, 1, "init"),
        (30, 30, "threads"),
        (31, 30, "threads"),
        (32, 30, "threads"),
        (7, 7, "sleep"),
        (0, 0, "swapper/0"),
        (0, 0, "swapper/1"),
    ]
    assert [task.cpu for task in found[-2:]] == [0, 1]


def test_all_that_a_task_says() -> None:
    machine = Machine()
    place = machine.process(1, b"fifteen letters")
    machine.put(place.task + layout.STATE, "I", 0x2001)
    machine.put(place.task + layout.CPU, "I", 3)
    machine.put(place.task + layout.ON_CPU, "I", 1)
    (found, _), _ = machine.tasks()

    assert found == Task(place.task, 1, 1, b"fifteen letters", 0x2001, 3, True, place.stack)


def test_on_cpu_may_be_a_byte_with_others_behind_it() -> None:
    machine = Machine()
    place = machine.process(1, b"init")
    machine.put(place.task + layout.ON_CPU, "4B", 0, 1, 1, 1)
    (found, _), _ = machine.tasks()

    assert not found.is_on_cpu


def test_without_smp_the_run_queue_says_what_runs() -> None:
    machine = Machine(smp=False)
    machine.process(1, b"init")
    found, _ = machine.tasks()

    assert [task.is_on_cpu for task in found] == [False, True]


def test_before_5_14_the_state_has_another_name_and_before_5_16_the_cpu_another_place() -> None:
    machine = Machine()
    place = machine.process(1, b"init")
    machine.put(place.task + 0x40, "Q", 0x402)
    machine.put(place.task + 0x48, "I", 5)
    machine.put(place.task + layout.STATE, "I", 9)
    structs = machine.structs(state=0x40, cpu=0x48)
    del structs["task_struct"].offsets["__state"]
    lists = module.TaskLists(machine.memory, structs, frozenset())
    (found,) = lists.iter_tasks(machine.init.task, [], lambda *_: None)

    assert (found.state, found.cpu) == (0x402, 5)


def test_a_name_is_printable_whatever_it_is() -> None:
    machine = Machine()
    machine.process(1, b"\x1b[2J\\n\xff\n")
    (found, _), _ = machine.tasks()

    assert found.name == r"\x1b[2J\x5cn\xff\x0a"


def test_a_process_that_is_about_to_end_has_no_threads() -> None:
    machine = Machine()
    place = machine.process(1, b"init", 2)
    machine.put(place.task + SIGNAL, "Q", 0)

    found, lost = machine.tasks()
    assert ([task.pid for task in found], lost) == ([1, 0], [])


def test_a_list_of_processes_that_does_not_end() -> None:
    machine = Machine()
    first = machine.process(1)
    second = machine.process(2)
    machine.put(second.task + TASKS, "Q", first.task + TASKS)

    with pytest.raises(FormatError, match="the list of tasks does not end: 0xffff88800000"):
        machine.tasks()


def test_what_came_before_an_error_is_given() -> None:
    machine = Machine()
    place = machine.process(1)
    machine.put(place.task + TASKS, "Q", 0x1000)
    walk = machine.lists().iter_tasks(machine.init.task, [], lambda *_: None)

    assert next(walk).pid == 1
    with pytest.raises(FormatError, match="nothing at"):
        next(walk)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("self", "the list of tasks does not end"),
        ("other process", "the list of tasks does not end"),
        ("nowhere", "nothing at"),
    ],
)
def test_threads_that_cannot_be_followed_lose_one_process_alone(target: str, message: str) -> None:
    machine = Machine()
    other = machine.process(1, b"init")
    place = machine.process(2, b"broken", 3)
    machine.process(4, b"last")
    (broken,) = [task for task in machine.tasks()[0] if task.pid == 3]
    node = {"self": broken.address + NODE, "other process": other.task + NODE, "nowhere": 0x1000}
    machine.put(broken.address + NODE, "Q", node[target])

    found, lost = machine.tasks()
    assert [task.pid for task in found] == [1, 2, 3, 4, 0]
    (why,) = lost
    assert why.startswith("2: ")
    assert message in why
    assert place.task == broken.address - layout.TASK_SIZE - 0x40 - layout.STACK_SIZE


def test_a_ring_of_threads_that_only_the_head_is_on() -> None:
    machine = Machine()
    place = machine.process(1)
    head = place.signal + layout.HEAD
    machine.put(head, "Q", head)

    found, lost = machine.tasks()
    assert [task.pid for task in found] == [1, 0]
    assert lost == [f"1: the list of threads at {head:#x} does not end"]


def test_more_tasks_than_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TASKS", 3)
    machine = Machine()
    machine.process(1, b"", 2, 3, 4)

    with pytest.raises(FormatError, match="more than 3 tasks"):
        machine.tasks()


def test_a_structure_that_cannot_be_true() -> None:
    machine = Machine()
    machine.process(1)
    walk = machine.lists(comm=1 << 20).iter_tasks(machine.init.task, [], lambda *_: None)

    with pytest.raises(FormatError, match="struct task_struct of"):
        next(walk)


def test_a_negative_pid_stays_one() -> None:
    machine = Machine()
    place = machine.process(1)
    machine.put(place.task + PID, "i", -5)
    machine.image[place.task - layout.BASE + COMM + 15] = ord("x")

    (found, _), _ = machine.tasks()
    assert (found.pid, found.comm) == (-5, b"")
