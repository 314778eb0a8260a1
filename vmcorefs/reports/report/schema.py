"""What a report says, as JSON has it: docs/report.schema.json is made of these structures.

A field that could not be had is null (or an empty list), and ``unknown`` says why. Addresses and
sizes are integers, in bytes; times are seconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

from vmcorefs.reports.crash import Crash

VERSION: Final = 1
"""Version of the schema; it grows when a field changes its meaning or goes away."""


class Frame(msgspec.Struct, frozen=True):
    """A call in a stack.

    Attributes:
        pc: Where it goes on.
        function: The symbol that holds ``pc``; empty if there is none.
        offset: Bytes from the symbol's address to ``pc``.
        module: The module that the symbol is in; empty for the kernel's own.
    """

    pc: int
    function: str = ""
    offset: int = 0
    module: str = ""

    def __str__(self) -> str:
        if not self.function:
            return f"{self.pc:#x}"
        return f"{self.function}+{self.offset:#x}" + (f" [{self.module}]" if self.module else "")


class Stack(msgspec.Struct, frozen=True):
    """The calls that a task is in, the innermost first.

    Attributes:
        frames: The calls.
        broken: Why there are no more, if the outermost is not the last that was called; empty if
            the stack is whole.
    """

    frames: list[Frame]
    broken: str = ""

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions alone: what makes two stacks equal."""
        return tuple(frame.function for frame in self.frames)


class Task(msgspec.Struct, frozen=True):
    """A thread.

    Attributes:
        pid: Its number.
        tgid: That of its process.
        comm: Its name.
        state: A letter, as ps(1) has it.
    """

    pid: int
    tgid: int
    comm: str
    state: str


class Cpu(msgspec.Struct, frozen=True):
    """What a CPU did.

    Attributes:
        number: The kernel's number of it.
        task: What ran on it; None if it cannot be told.
        panicked: Whether it is the CPU that ended the machine.
        running: Tasks in its run queue, the current one included unless that is the idle task.
        stack: The current task's; None if it cannot be told.
    """

    number: int
    task: Task | None
    panicked: bool
    running: int | None
    stack: Stack | None


class Lock(msgspec.Struct, frozen=True):
    """What a task waits for.

    Attributes:
        kind: ``mutex`` or ``rw_semaphore``.
        address: Where it is.
        symbol: Its name, if it is a variable.
        owner: Who holds it; None if that is not recorded.
    """

    kind: str
    address: int
    symbol: str
    owner: Task | None


class Blocked(msgspec.Struct, frozen=True):
    """Tasks that wait with no way to be interrupted (state D), all in the same calls.

    Attributes:
        tasks: The tasks, the one that has waited longest first.
        seconds: Since when that one has; None if the kernel does not keep it.
        stack: Its stack.
        lock: What it waits for; None if that is no lock, or cannot be told.
    """

    tasks: list[Task]
    seconds: float | None
    stack: Stack
    lock: Lock | None


class Died(msgspec.Struct, frozen=True):
    """Which machine it was, and when it ended.

    Attributes:
        host: Its name.
        release: The kernel's release.
        version: How, and when, the kernel was built.
        machine: As ``uname -m`` says it.
        hardware: Vendor, model and firmware, from the log.
        command_line: The kernel's.
        time: When it ended, in seconds since 1970.
        uptime: Seconds from its boot to then.
        cpus: CPUs online.
        memory: Bytes that the kernel managed.
    """

    host: str | None
    release: str | None
    version: str | None
    machine: str | None
    hardware: str | None
    command_line: str | None
    time: float | None
    uptime: float | None
    cpus: int | None
    memory: int | None


class Taint(msgspec.Struct, frozen=True):
    """A mark of something that makes a kernel's reports less trustworthy."""

    letter: str
    meaning: str


class Why(msgspec.Struct, frozen=True):
    """What ended the machine.

    Attributes:
        panicked: Whether it panicked; false for one that was stopped from outside.
        taints: What the kernel was marked with.
        cpu: The CPU that ended it.
        task: What ran there.
        stack: The calls that led to the end.
    """

    panicked: bool | None
    taints: list[Taint]
    cpu: int | None
    task: Task | None
    stack: Stack | None


class Slab(msgspec.Struct, frozen=True):
    """A slab cache: its name, and the bytes that its slabs take."""

    name: str
    size: int


class Process(msgspec.Struct, frozen=True):
    """A process, and the bytes of memory that are mapped in it (RSS)."""

    pid: int
    comm: str
    rss: int


class Memory(msgspec.Struct, frozen=True):
    """Where memory was, by the kernel's own counters.

    Attributes:
        counters: Bytes, by name as /proc/vmstat has it.
        slabs: The largest slab caches.
        processes: The largest processes.
    """

    counters: dict[str, int]
    slabs: list[Slab]
    processes: list[Process]


class Module(msgspec.Struct, frozen=True):
    """A loaded module; ``taints`` are the letters that it alone has set."""

    name: str
    version: str
    size: int | None
    taints: str


class Unknown(msgspec.Struct, frozen=True):
    """A field, by its path, that could not be had, and why."""

    field: str
    why: str


class Report(msgspec.Struct, frozen=True):
    """Why a machine died.

    Attributes:
        schema: Version of this structure.
        died: Which machine, when.
        crash: What the crash is called, by the log.
        why: What ended it.
        cpus: What each CPU did.
        tasks: How many tasks there were, by state.
        blocked: The tasks that could not go on, grouped.
        memory: Where memory was; None if nothing of it can be told.
        modules: What was loaded.
        hardware: What the hardware complained of, in the log.
        warnings: The last lines of the log that warn, before the end.
        unknown: What could not be had.
    """

    schema: int
    died: Died
    crash: Crash
    why: Why
    cpus: list[Cpu]
    tasks: dict[str, int]
    blocked: list[Blocked]
    memory: Memory | None
    modules: list[Module]
    hardware: list[str]
    warnings: list[str]
    unknown: list[Unknown]
