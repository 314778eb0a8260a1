"""The kernel's tasks, found by following its lists; offsets come from its BTF.

``init_task`` is on a list with the leader of every process, and a process has a list of its threads
(include/linux/sched/signal.h, ``for_each_process_thread``). The idle tasks of the CPUs are on
neither: each CPU's run queue names its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import Struct
from vmcorefs.errors import FormatError, VmcorefsError

STRUCTS: Final = ("list_head", "signal_struct", "task_struct", "thread_info")
"""The structures that are needed."""

MAX_TASKS: Final = 1 << 16
"""Most tasks that are read. PID_MAX_LIMIT is 2**22, but a list that is not the kernel's may be as
long."""

_MAX_TASK_SIZE = 1 << 17  # struct task_struct has some 10 KiB
_NAME_SIZE = 16  # TASK_COMM_LEN
_POINTERS = ("tasks", "thread_node", "signal", "stack")


class Task(msgspec.Struct, frozen=True):
    """One task, as ``struct task_struct`` has it.

    Attributes:
        address: Of its ``struct task_struct``.
        pid: Its id, in the initial namespace; 0 for each CPU's idle task.
        tgid: The id of its process.
        comm: Its name as it is in memory, up to 15 bytes.
        state: ``TASK_*`` bits (include/linux/sched.h); 0 if it runs or may run.
        cpu: The CPU that it runs on or ran on last; None if its number is not kept.
        is_on_cpu: Whether a CPU was running it.
        stack: Lowest address of its stack; 0 once that is freed.
    """

    address: int
    pid: int
    tgid: int
    comm: bytes
    state: int
    cpu: int | None
    is_on_cpu: bool
    stack: int

    @property
    def name(self) -> str:
        r"""Its name in printable ASCII; other bytes, and backslashes, as ``\x1b``."""
        return "".join(
            chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}"
            for byte in self.comm
        )


class TaskLists(msgspec.Struct, frozen=True):
    """A kernel's memory, and where its tasks are in it.

    Attributes:
        memory: The kernel's virtual memory, translated by its page tables.
        structs: Those of ``STRUCTS``, by name.
        current: Addresses of the tasks that CPUs are running, by the run queues: without CONFIG_SMP
            a task does not say it of itself.
    """

    memory: KernelMemory
    structs: Mapping[str, Struct]
    current: frozenset[int]

    def iter_tasks(
        self, init_task: int, idle: Iterable[int], lose: Callable[[Task, VmcorefsError], None]
    ) -> Iterator[Task]:
        """Every task: processes in order of creation, each with its threads, then the idle ones.

        Everything that is yielded before an error is sound.

        Args:
            init_task: Address of ``init_task``, which is an idle task itself.
            idle: Addresses of the idle tasks.
            lose: Called for a process the list of whose threads cannot be followed to its end;
                after that it goes on with the next process.

        Raises:
            FormatError: if BTF lacks a member, or a list does not end.
            VmcorefsError: whatever ``memory.read`` raises.
        """
        window = _Window(self)
        seen: set[int] = set()
        head = self.structs["task_struct"].offset("tasks")
        node = window.read(init_task).next_task
        while node != init_task + head:
            address = node - head
            _take(address, seen)
            leader = window.read(address)
            yield leader.task
            try:
                yield from self._iter_threads(window, leader, seen)
            except VmcorefsError as error:
                if len(seen) > MAX_TASKS:
                    raise
                lose(leader.task, error)
            node = leader.next_task
        for address in dict.fromkeys(idle):
            _take(address, seen)
            yield window.read(address).task

    def _iter_threads(self, window: _Window, leader: _Read, seen: set[int]) -> Iterator[Task]:
        """The other threads of a process: all that are on a ring with its leader."""
        if not leader.signal:
            return
        place = self.structs["task_struct"].offset("thread_node")
        head = leader.signal + self.structs["signal_struct"].offset("thread_head")
        following = self.structs["list_head"].offset("next")
        first = leader.task.address + place
        node, has_turned = leader.next_thread, False
        while node != first:
            if node == head:
                if has_turned:
                    raise FormatError(f"the list of threads at {head:#x} does not end")
                node, has_turned = self.memory.pointer(head + following), True
                continue
            _take(node - place, seen)
            thread = window.read(node - place)
            yield thread.task
            node = thread.next_thread


def _take(address: int, seen: set[int]) -> None:
    if address in seen:
        raise FormatError(f"the list of tasks does not end: {address:#x} after {len(seen)}")
    seen.add(address)
    if len(seen) > MAX_TASKS:
        raise FormatError(f"more than {MAX_TASKS} tasks")


class _Read(msgspec.Struct, frozen=True):
    """What one read of a ``struct task_struct`` gives."""

    task: Task
    next_task: int
    next_thread: int
    signal: int


class _Window:
    """The part of ``struct task_struct`` that has all the members: each task takes one read."""

    def __init__(self, lists: TaskLists) -> None:
        self._memory, self._current, structs = lists.memory, lists.current, lists.structs
        task, following = structs["task_struct"], structs["list_head"].offset("next")
        # b03fbd4ff24c ("sched: Introduce task_is_running()") and what followed it, in 5.14
        state = "__state" if "__state" in task.offsets else "state"
        at = {name: task.offset(name) for name in (*_POINTERS, "pid", "tgid", "comm")}
        at |= {"tasks": at["tasks"] + following, "thread_node": at["thread_node"] + following}
        at["state"] = task.offset(state)
        if "on_cpu" in task.offsets:
            at["on_cpu"] = task.offset("on_cpu")
        if "cpu" in task.offsets:
            at["cpu"] = task.offset("cpu")
        elif "cpu" in structs["thread_info"].offsets and "thread_info" in task.offsets:
            # since bcf9033e5449, in 5.16
            at["cpu"] = task.offset("thread_info") + structs["thread_info"].offset("cpu")
        self._start = min(at.values())
        self._size = max(at.values()) + _NAME_SIZE - self._start
        if self._size > _MAX_TASK_SIZE:
            raise FormatError(f"BTF: struct task_struct of {self._size} bytes")
        self._at = {name: offset - self._start for name, offset in at.items()}

    def read(self, address: int) -> _Read:
        data = self._memory.read(address + self._start, self._size)
        decode, word, at = self._memory.decode, self._memory.word_size, self._at

        def number(name: str) -> int:
            return decode(data[at[name] : at[name] + 4])

        def flag(name: str) -> bool:
            # 0 or 1 in an int, or in a byte with others behind it, as in 7.x
            size = 1 if self._memory.byte_order == "<" else 4
            return any(data[at[name] : at[name] + size])

        tasks, thread_node, signal, stack = (
            decode(data[at[name] : at[name] + word]) for name in _POINTERS
        )
        comm = data[at["comm"] : at["comm"] + _NAME_SIZE].partition(b"\0")[0]
        task = Task(
            address,
            _signed(number("pid")),
            _signed(number("tgid")),
            comm[: _NAME_SIZE - 1],
            number("state"),
            number("cpu") if "cpu" in at else None,
            flag("on_cpu") if "on_cpu" in at else address in self._current,
            stack,
        )
        return _Read(task, tasks, thread_node, signal)


def _signed(value: int) -> int:
    return value - (value >> 31 << 32)
