"""Which threads gdb gets, and what they are called."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from tests.builders.cpus import three_cpus
from tests.builders.dead_machines import pack_note, prstatus_note
from tests.builders.tasks import ON_CPU, STACK, THREAD, Machine, Place
from vmcorefs.core.elf.notes import walk_notes
from vmcorefs.core.structures.switch_frame import SWITCH_FRAMES
from vmcorefs.errors import FormatError
from vmcorefs.kernel.notes import NoteSlot
from vmcorefs.kernel.tasks import KernelTasks
from vmcorefs.tree.debug.threads import PID_MAX_LIMIT, Threads, list_threads

REGISTERS = dict.fromkeys(("r15", "r14", "r13", "r12", "bx", "bp", "ret_addr"), 0)


class Scene:
    """A machine with tasks, and the notes of its CPUs."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.idle = [self.machine.init, self.machine.idle(1), self.machine.idle(2)]
        self.saved: dict[int, bytes] = {}
        self.dumped: dict[int, bytes] = {}

    def sleeping(self, pid: int, comm: bytes) -> Place:
        place = self.machine.process(pid, comm)
        self.machine.switch_out(place, **REGISTERS | {"ret_addr": 0xFFF0 + pid})
        return place

    def running(self, place: Place, cpu: int) -> None:
        self.machine.put(place.task + ON_CPU, "I", 1)
        self.machine.put(place.task + 0x10, "I", cpu)

    def saves(self, cpu: int, pid: int) -> None:
        self.saved[cpu] = prstatus_note(pid, 0x1000 + cpu, 0x2000 + cpu)

    def dumps(self, cpu: int) -> None:
        """The notes of a hypervisor, as QEMU numbers them."""
        self.dumped[cpu] = prstatus_note(cpu + 1, 0x1000 + cpu, 0x2000 + cpu)

    def list(self, machine: int = 62) -> Threads:
        image, symbols = three_cpus(0, self.saved)
        tasks, lost = self.machine.tasks(*self.idle)
        kernel: Any = SimpleNamespace(
            image=image, symbols=symbols, virtual=self.machine.memory, machine=machine
        )
        kernel.names_symbols = True
        kernel.tasks = KernelTasks(kernel, self.machine.structs(), tuple(tasks), tuple(lost))
        return list_threads(self.dead(kernel))

    def dead(self, kernel: Any) -> Any:
        slots = tuple(
            NoteSlot(cpu << 12, data, walk_notes(data, "<").notes, len(data))
            for cpu, data in sorted({**self.saved, **self.dumped}.items())
        )
        header = SimpleNamespace(e_machine=62, byte_order="<")
        return SimpleNamespace(
            kernel=kernel,
            plan=SimpleNamespace(elfcorehdr=SimpleNamespace(header=header)),
            notes=SimpleNamespace(slots=slots, cpu_slots=slots),
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_crash(scene: Scene) -> None:
    panicked = scene.sleeping(5, b"sh")
    scene.sleeping(6, b"sleep")
    for place, cpu in ((panicked, 0), (scene.idle[1], 1), (scene.idle[2], 2)):
        scene.running(place, cpu)
    scene.machine.switch_out(scene.idle[0], **REGISTERS)
    scene.saves(0, 5)
    scene.saves(1, 0)
    scene.saves(2, 0)
    found = scene.list()

    assert [(cpu.pid, cpu.lwp) for cpu in found.cpus] == [
        (5, 5),
        (0, PID_MAX_LIMIT + 1),
        (0, PID_MAX_LIMIT + 2),
    ]
    assert [(one.lwp, one.registers["rip"]) for one in found.tasks] == [
        (6, 0xFFF6),
        (PID_MAX_LIMIT + 3, 0),
    ]
    assert list(found.names.items()) == [
        (5, "sh on CPU 0"),
        (PID_MAX_LIMIT + 1, "swapper/1 on CPU 1"),
        (PID_MAX_LIMIT + 2, "swapper/2 on CPU 2"),
        (6, "sleep"),
        (PID_MAX_LIMIT + 3, "swapper/0"),
    ]
    assert (found.silent, found.warnings) == ((), ())


def test_a_stopped_machine_has_its_sleeping_tasks_and_says_what_the_cpus_ran(scene: Scene) -> None:
    busy = scene.sleeping(5, b"busy")
    scene.sleeping(6, b"sleep")
    for place, cpu in ((scene.idle[0], 0), (busy, 1), (scene.idle[2], 2)):
        scene.running(place, cpu)
    scene.machine.switch_out(scene.idle[1], **REGISTERS)
    found = scene.list()

    assert found.cpus == ()
    assert [one.task.name for one in found.tasks] == ["sleep", "swapper/1"]
    assert [(task.name, task.cpu) for task in found.silent] == [
        ("busy", 1),
        ("swapper/0", 0),
        ("swapper/2", 2),
    ]


def test_a_cpu_that_saved_nothing_beside_one_that_did(scene: Scene) -> None:
    busy = scene.sleeping(5, b"busy")
    for place, cpu in ((busy, 0), (scene.idle[1], 1), (scene.idle[2], 2)):
        scene.running(place, cpu)
    scene.machine.switch_out(scene.idle[0], **REGISTERS)
    scene.saves(1, 0)
    found = scene.list()

    assert found.names[found.cpus[0].lwp] == "swapper/1 on CPU 1"
    assert [task.name for task in found.silent] == ["busy", "swapper/2"]


def test_a_hypervisors_notes_have_the_numbers_of_the_cpus_and_not_of_tasks(scene: Scene) -> None:
    for pid, comm in ((1, b"init"), (2, b"kthreadd")):
        scene.sleeping(pid, comm)
    busy = scene.sleeping(5, b"busy")
    for place, cpu in ((scene.idle[0], 0), (busy, 1), (scene.idle[2], 2)):
        scene.running(place, cpu)
        scene.dumps(cpu)
    scene.machine.switch_out(scene.idle[1], **REGISTERS)
    found = scene.list()

    assert list(found.names.items()) == [
        (PID_MAX_LIMIT + 1, "swapper/0 on CPU 0"),
        (5, "busy on CPU 1"),
        (PID_MAX_LIMIT + 3, "swapper/2 on CPU 2"),
        (1, "init"),
        (2, "kthreadd"),
        (PID_MAX_LIMIT + 4, "swapper/1"),
    ]
    assert found.silent == ()


def test_notes_that_only_gdb_can_read_keep_their_ids(scene: Scene) -> None:
    scene.sleeping(1, b"init")
    scene.sleeping(3, b"other")
    scene.running(scene.idle[0], 0)
    scene.idle = scene.idle[:1]
    scene.dumped[0] = pack_note(b"CORE", 1, struct.pack("<24xi116x", 1))  # as QEMU's of real mode
    found = scene.list()

    assert found.cpus == ()
    assert [one.lwp for one in found.tasks] == [PID_MAX_LIMIT, 3]
    assert [task.name for task in found.silent] == ["swapper/0"]


def test_no_two_threads_have_one_id(scene: Scene) -> None:
    for pid in (6, 6, -3, PID_MAX_LIMIT + 1, PID_MAX_LIMIT):
        scene.sleeping(pid, b"x")
    scene.idle = scene.idle[:1]
    scene.machine.switch_out(scene.idle[0], **REGISTERS)
    lwps = [one.lwp for one in scene.list().tasks]

    assert len(set(lwps)) == len(lwps) == 6
    assert min(lwps) > 0


def test_tasks_without_a_stack_are_left_out_and_unreadable_ones_counted(scene: Scene) -> None:
    ended, torn, other = (scene.sleeping(pid, b"x") for pid in (6, 7, 8))
    scene.machine.put(ended.task + STACK, "Q", 0)
    for place in (torn, other):
        scene.machine.put(place.task + THREAD + 8, "Q", 0x1000)
    scene.running(scene.idle[0], 0)
    scene.idle = scene.idle[:1]
    found = scene.list()

    assert found.tasks == ()
    assert found.warnings == ("no stacks of 2 tasks, first pid 7: nothing at 0x1000",)


def test_a_machine_whose_tasks_keep_their_registers_elsewhere(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SWITCH_FRAMES, 243)
    scene.sleeping(6, b"x")
    found = scene.list(machine=243)

    assert found.tasks == ()
    assert "first pid 6: no registers of tasks" in found.warnings[0]


def test_without_symbols_there_are_the_cpus(scene: Scene) -> None:
    scene.saves(0, 5)

    class Lost:
        names_symbols, machine = True, 62

        @property
        def tasks(self) -> KernelTasks:
            raise FormatError("kallsyms: no init_task")

    found = list_threads(scene.dead(Lost()))
    assert [cpu.lwp for cpu in found.cpus] == [5]
    assert found.warnings == ("no stacks of tasks: kallsyms: no init_task",)
    assert list_threads(scene.dead(None)).cpus == found.cpus


def test_the_notes_are_those_of_the_tasks(scene: Scene) -> None:
    place = scene.sleeping(6, b"x")
    scene.idle = []
    notes = scene.list().pack_notes(62, "<")

    assert notes == prstatus_note(6, 0xFFF6, place.stack + 0x1000)
