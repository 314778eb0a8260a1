"""All that is answered by following the kernel's own structures with drgn."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vmcorefs.core.elf.registers import CpuState
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.machine import clock
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.schema import Blocked, Cpu, Disk, Memory, Module, Thread
from vmcorefs.reports.report.walk.disks import find_disks
from vmcorefs.reports.report.walk.memory import describe_memory
from vmcorefs.reports.report.walk.modules import describe_modules
from vmcorefs.reports.report.walk.program import open_program
from vmcorefs.reports.report.walk.queues import find_queued, furthest_clock
from vmcorefs.reports.report.walk.tasks import (
    all_tasks,
    count_states,
    describe_cpus,
    find_blocked,
    list_threads,
)


class Walked(msgspec.Struct, frozen=True):
    """The fields of a report that need the kernel's structures followed."""

    cpus: list[Cpu]
    tasks: dict[str, int]
    threads: list[Thread]
    blocked: list[Blocked]
    memory: Memory
    modules: list[Module]
    disks: list[Disk]


def walk(
    asked: Asked,
    kernel: Kernel,
    panicked: int | None,
    vmlinux: str | None,
    states: Mapping[int, CpuState],
) -> Walked:
    """Follow the kernel's structures.

    Args:
        asked: Is told what cannot be had.
        kernel: The kernel.
        panicked: The CPU that ended the machine, if any did.
        vmlinux: A debug vmlinux, for a kernel without types of its own.
        states: What a hypervisor kept of CPUs, by number, where the kernel has saved nothing.

    Raises:
        VmcorefsError: if that cannot even be begun.
    """
    program = open_program(kernel, vmlinux)
    symbols = kernel.all_symbols
    names = Names((symbols.kernel, *symbols.modules))
    tasks = all_tasks(asked, kernel, program)
    now = furthest_clock(program)
    queued = find_queued(asked, tasks, now)
    uptime = asked.get("disks.seconds", lambda: clock(kernel, "ktime_sec"))
    return Walked(
        cpus=describe_cpus(asked, program, names, panicked, states, queued, now),
        tasks=count_states(tasks),
        threads=list_threads(tasks, now),
        blocked=find_blocked(asked, names, tasks, now),
        memory=describe_memory(asked, program, tasks),
        modules=describe_modules(asked, program),
        disks=find_disks(asked, program, uptime),
    )
