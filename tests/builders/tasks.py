"""Tasks in a kernel's memory, laid out by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.builders.btf import Writer
from vmcorefs.core.elf.notes import ByteOrder
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.switch_frame import SWITCH_FRAMES
from vmcorefs.core.structures.tasks import STRUCTS, Task, TaskLists
from vmcorefs.core.structures.types.btf import Struct, read_structs
from vmcorefs.errors import FormatError, VmcorefsError

BASE = 0xFFFF888000000000
CPU, STATE, STACK, ON_CPU, TASKS, NODE, SIGNAL = 0x10, 0x18, 0x20, 0x30, 0x100, 0x110, 0x120
PID, TGID, COMM, THREAD = 0x130, 0x134, 0x140, 0x180
TASK_SIZE, STACK_SIZE = 0x200, 0x1000
HEAD = 0x10
FRAME = ("r15", "r14", "r13", "r12", "bx", "bp", "ret_addr")
CONTEXT = (*(f"x{number}" for number in range(19, 29)), "fp", "sp", "pc")


@dataclass(frozen=True)
class Place:
    """Where a task of the machine is: addresses."""

    task: int
    signal: int
    stack: int


class Machine:
    """Kernel memory with tasks in it; the first is ``init_task``."""

    def __init__(self, byte_order: ByteOrder = "<", *, smp: bool = True) -> None:
        self.byte_order = byte_order
        self.smp = smp
        self.image = bytearray(1 << 16)
        self.end = 0
        self.init = self._store(0, 0, b"swapper/0", None)
        self.leaders = [self.init]
        self._link()

    def put(self, at: int, layout: str, *values: int) -> None:
        struct.pack_into(self.byte_order + layout, self.image, at - BASE, *values)

    def process(self, pid: int, comm: bytes = b"", *threads: int) -> Place:
        """Add a process with further threads."""
        leader = self._store(pid, pid, comm, None)
        self.leaders.append(leader)
        self._link()
        ring = [leader, *(self._store(thread, pid, comm, leader) for thread in threads)]
        nodes = [leader.signal + HEAD, *(place.task + NODE for place in ring)]
        for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            self.put(node, "Q", following)
        return leader

    def idle(self, cpu: int) -> Place:
        """Add an idle task, which is on no list."""
        place = self._store(0, 0, b"swapper/%d" % cpu, None)
        self.put(place.task + CPU, "I", cpu)
        return place

    def switch_out(self, place: Place, **registers: int) -> int:
        """Put its frame at the end of its stack; where that begins."""
        at = place.stack + STACK_SIZE - 8 * len(FRAME)
        self.put(place.task + THREAD + 8, "Q", at)
        self.put(at, f"{len(FRAME)}Q", *(registers[name] for name in FRAME))
        return at

    def _store(self, pid: int, tgid: int, comm: bytes, leader: Place | None) -> Place:
        task, signal, stack = (self._take(size) for size in (TASK_SIZE, 0x40, STACK_SIZE))
        place = Place(task, signal if leader is None else leader.signal, stack)
        self.put(task + PID, "ii", pid, tgid)
        self.put(task + SIGNAL, "Q", place.signal)
        self.put(task + STACK, "Q", stack)
        self.image[task - BASE + COMM : task - BASE + COMM + len(comm)] = comm
        return place

    def _take(self, size: int) -> int:
        self.end += size
        return BASE + self.end - size

    def _link(self) -> None:
        """Put the leaders on their list."""
        nodes = [place.task + TASKS for place in self.leaders]
        for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            self.put(node, "Q", following)

    # --- reading it ------------------------------------------------------------------------------

    def read(self, vaddr: int, size: int) -> bytes:
        at = vaddr - BASE
        if not 0 <= at <= at + size <= len(self.image):
            raise FormatError(f"nothing at {vaddr:#x}")
        return bytes(self.image[at : at + size])

    @property
    def memory(self) -> KernelMemory:
        return KernelMemory(self.read, self.byte_order, 8)

    def btf(self, **changes: int) -> bytes:
        """Types; ``changes`` are other offsets of members of ``struct task_struct``."""
        btf = Writer(self.byte_order)

        def add(name: str, size: int, fields: dict[str, int]) -> None:
            btf.add_struct(name, size, [(member, 1, at * 8) for member, at in fields.items()])

        add("list_head", 16, {"next": 0, "prev": 8})
        fields = {"thread_info": 0, "__state": STATE, "stack": STACK, "tasks": TASKS}
        fields |= {"thread_node": NODE, "signal": SIGNAL, "pid": PID, "tgid": TGID, "comm": COMM}
        fields |= {"thread": THREAD, **({"on_cpu": ON_CPU} if self.smp else {}), **changes}
        add("task_struct", TASK_SIZE, fields)
        add("thread_info", 0x18, {"flags": 0, "cpu": CPU})
        add("signal_struct", 0x40, {"thread_head": HEAD})
        fields = {"ra": 0, "sp": 8, "ksp": 8, "s": 0x10, "cpu_context": 0x10}
        add("thread_struct", 0x78, fields)  # of each architecture something
        add("pt_regs", 0x180, {"gpr": 0, "nip": 0x100})
        add("stack_frame", 0xA0, {"gprs": 0x48, "back_chain": 0x98})
        for name, members in (("inactive_task_frame", FRAME), ("cpu_context", CONTEXT)):
            add(name, 8 * len(members), {member: 8 * row for row, member in enumerate(members)})
        return btf.finish()

    def structs(self, **changes: int) -> dict[str, Struct]:
        frames = {name for frame in SWITCH_FRAMES.values() for name in frame.structs}
        return read_structs(self.btf(**changes), self.byte_order, {*STRUCTS, *frames})

    def lists(self, **changes: int) -> TaskLists:
        return TaskLists(self.memory, self.structs(**changes), frozenset({self.init.task}))

    def tasks(self, *idle: Place) -> tuple[list[Task], list[str]]:
        """The tasks, and the processes whose threads are not all among them."""
        lost: list[str] = []

        def lose(leader: Task, error: VmcorefsError) -> None:
            lost.append(f"{leader.pid}: {error}")

        addresses = [place.task for place in (idle or (self.init,))]
        return list(self.lists().iter_tasks(self.init.task, addresses, lose)), lost
