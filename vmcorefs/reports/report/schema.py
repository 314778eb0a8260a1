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


class Thread(Task, frozen=True):
    """A thread in the list of all.

    Attributes:
        cpu: The CPU that it runs on, or ran on last; None if that is not known.
        seconds: Since when it was last given a CPU; None if the kernel does not keep it.
    """

    cpu: int | None
    seconds: float | None


class Queued(msgspec.Struct, frozen=True):
    """A task that could run, but did not: it waits for a CPU.

    Attributes:
        task: The task.
        priority: The kernel's: below 100 in real time, 100 to 139 as nice(1) has it.
        seconds: For how long it has waited; None if the kernel does not keep it.
    """

    task: Task
    priority: int
    seconds: float | None


class Cpu(msgspec.Struct, frozen=True):
    """What a CPU did.

    Attributes:
        number: The kernel's number of it.
        task: What ran on it; None if it cannot be told.
        panicked: Whether it is the CPU that ended the machine.
        running: Tasks in its run queue, the current one included unless that is the idle task.
        stack: The current task's; None if it cannot be told.
        queue: The tasks in its run queue that did not run, the one that has waited longest first.
        unwatched: Seconds since its watchdog last saw it change tasks, some 1.1 s at a time; None
            if nothing watched for soft lockups there.
    """

    number: int
    task: Task | None
    panicked: bool
    running: int | None
    stack: Stack | None
    queue: list[Queued]
    unwatched: float | None


class Lock(msgspec.Struct, frozen=True):
    """What a task waits for.

    Attributes:
        kind: A structure of the kernel: ``mutex``, ``rw_semaphore``, ``rt_mutex``, ``semaphore``,
            ``percpu_rw_semaphore``, ``completion`` or ``wait_queue_head``; ``page lock`` or
            ``page writeback``; or ``bit`` or ``variable``, of which it waits for a change.
        address: Where it is; of a page, that of its ``struct page``.
        symbol: Its name, if it is a variable.
        owner: Who holds it; None if that is not recorded: it is of mutexes, rt_mutexes,
            rw_semaphores, and, since 6.16, of semaphores.
        what: Of a page, which one it is of what; else empty.
    """

    kind: str
    address: int
    symbol: str
    owner: Task | None
    what: str = ""


class Blocked(msgspec.Struct, frozen=True):
    """Tasks that wait with no way to be interrupted (state D), all in the same calls.

    Attributes:
        tasks: The tasks, the one that has waited longest first.
        seconds: Since when that one has; None if the kernel does not keep it.
        stack: Its stack.
        lock: What it waits for; None if that is no lock, or cannot be told.
        io: Whether it waits for input or output.
    """

    tasks: list[Task]
    seconds: float | None
    stack: Stack
    lock: Lock | None
    io: bool


class Disk(msgspec.Struct, frozen=True):
    """A block device that had requests under way.

    Attributes:
        name: Its name.
        reads: Requests that read.
        writes: Requests that write, discard, flush and the like.
        seconds: How long ago the oldest was made, in whole seconds; None if none of them says.
    """

    name: str
    reads: int
    writes: int
    seconds: float | None


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
        cpus: CPUs in use, those too that a panic has stopped.
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
    """A process, and the memory that it had.

    Attributes:
        pid: Its number.
        comm: Its name.
        rss: Bytes that are mapped in it.
        swapped: Bytes of it that were swapped out.
        page_tables: Bytes of its page tables.
        oom_score_adj: By how many thousandths of memory it was to look larger (or smaller) to the
            OOM killer.
    """

    pid: int
    comm: str
    rss: int
    swapped: int
    page_tables: int
    oom_score_adj: int


class Zone(msgspec.Struct, frozen=True):
    """A zone of memory: bytes. Below ``min`` only the kernel's emergencies get any of it.

    Attributes:
        node: The NUMA node.
        name: As /proc/zoneinfo has it.
        managed: That the page allocator has.
        free: That nobody uses.
        min: Below this, who wants memory must free some first.
        low: Below this, kswapd wakes.
        high: Above this, kswapd sleeps.
    """

    node: int
    name: str
    managed: int
    free: int
    min: int
    low: int
    high: int


class Oom(msgspec.Struct, frozen=True):
    """The last time that memory ran out, by the log.

    Attributes:
        times: How often it had, as far as the log goes back.
        invoked_by: The task that wanted memory.
        order: It wanted 2**order pages.
        gfp: How it wanted them (include/linux/gfp_types.h).
        constraint: What limited it: ``CONSTRAINT_NONE`` nothing, so that the machine was full,
            ``CONSTRAINT_MEMCG`` its cgroup; empty if the kernel did not get as far as to say.
        killed: What was killed for it, as the kernel says it; empty if nothing was.
    """

    times: int
    invoked_by: str
    order: int | None
    gfp: str
    constraint: str
    killed: str


class Memory(msgspec.Struct, frozen=True):
    """Where memory was, by the kernel's own counters.

    Attributes:
        counters: Bytes, by name as /proc/vmstat has it.
        slabs: The largest slab caches.
        processes: The largest processes.
        zones: The zones that have memory.
    """

    counters: dict[str, int]
    slabs: list[Slab]
    processes: list[Process]
    zones: list[Zone]


class Module(msgspec.Struct, frozen=True):
    """A loaded module; ``taints`` are the letters that it alone has set."""

    name: str
    version: str
    size: int | None
    taints: str


class Recovered(msgspec.Struct, frozen=True):
    """Errors of the hardware that the kernel went on after (``hwerr_data``).

    Attributes:
        kind: ``cpu``, ``memory``, ``pci``, ``cxl`` or ``others``.
        count: How many.
        time: When the last was, in seconds since 1970.
    """

    kind: str
    count: int
    time: int


class DeviceDump(msgspec.Struct, frozen=True):
    """What a driver saved of its device in the capture kernel (NT_VMCOREDD): a name, and bytes."""

    name: str
    size: int


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
        threads: Those tasks, processes in order of creation, each with its threads.
        blocked: The tasks that could not go on, grouped.
        memory: Where memory was; None if nothing of it can be told.
        modules: What was loaded.
        disks: The block devices that had requests under way.
        oom: The last time that memory ran out; None if the log tells of none.
        watchdogs: What would have noticed a hang, or made it a panic: values by sysctl(8)'s names.
        hardware: What the hardware complained of, in the log.
        recovered: Its errors that the kernel counted; None if it does not, as before 6.19.
        devices: What drivers saved of their devices.
        warnings: The last lines of the log that warn, before the end.
        unknown: What could not be had.
    """

    schema: int
    died: Died
    crash: Crash
    why: Why
    cpus: list[Cpu]
    tasks: dict[str, int]
    threads: list[Thread]
    blocked: list[Blocked]
    memory: Memory | None
    modules: list[Module]
    disks: list[Disk]
    oom: Oom | None
    watchdogs: dict[str, int]
    hardware: list[str]
    recovered: list[Recovered] | None
    devices: list[DeviceDump]
    warnings: list[str]
    unknown: list[Unknown]
