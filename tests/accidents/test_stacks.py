"""Stacks and run queues of machines that had an accident, against drgn with the debug package."""

from __future__ import annotations

import faulthandler
from functools import cache
from typing import TYPE_CHECKING

import drgn
import pytest
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.sched import (
    cpu_curr,
    cpu_rq,
    rq_for_each_fair_task,
    rq_for_each_rt_task,
)

import vmcorefs
from tests.accidents import accidents
from tests.accidents.machines import Accident, had
from tests.accidents.module import build_module
from tests.lab.kernels import debug_vmlinux, kernel
from vmcorefs.reports.report.asked import Asked
from vmcorefs.reports.report.names import Names
from vmcorefs.reports.report.walk.program import open_program
from vmcorefs.reports.report.walk.queues import find_queued, furthest_clock
from vmcorefs.reports.report.walk.stacks import try_stack
from vmcorefs.reports.report.walk.tasks import all_tasks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.kernels import Role
    from vmcorefs.kernel.kernel import Kernel

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]

_ALL = [
    value
    for value in vars(accidents).values()
    # the other kernels' debug packages are not in the lab's cache
    if isinstance(value, Accident) and value.arch == "amd64" and value.kernel != "hardware"
]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Role], Path]:
    """Gives the module, with its debug information, for a kernel."""

    @cache
    def build(role: Role) -> Path:
        return build_module(kernel(role), tmp_path_factory.mktemp("module"))

    return build


def _truth(dead: Kernel, vmlinux: Path, accident: Path | None) -> drgn.Program:
    """The same memory, with the debug package's types, symbols and unwind tables."""
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        return dead.memory.pread(count, offset)

    program.add_memory_segment(0, 1 << 32, read, physical=True)
    program.set_linux_kernel_custom(dead.vmcoreinfo.text, is_live=False)
    program.load_debug_info([vmlinux])
    for module, _ in program.loaded_modules():
        if accident is not None and module.name == "accident":
            module.try_file(accident, force=True)  # built anew: its build ID is another
            assert module.debug_file_status == drgn.ModuleFileStatus.HAVE
    return program


def _pcs(program: drgn.Program, address: int) -> list[int] | None:
    """Addresses of all but inlined calls; None if drgn says that it cannot know them."""
    try:
        trace = program.stack_trace(drgn.Object(program, "struct task_struct *", address))
    except (ValueError, LookupError):
        return None
    pcs = []
    for frame in trace:
        try:
            pc = frame.pc
        except LookupError:
            break
        if not frame.is_inline:
            pcs.append(pc)
    return pcs


@pytest.mark.parametrize("accident", _ALL, ids=lambda one: f"{one.name}-{one.kernel}")
def test_every_task_is_where_drgn_says_with_the_debug_package(
    accident: Accident, built: Callable[[Role], Path]
) -> None:
    faulthandler.cancel_dump_traceback_later()  # the machine may have to be made: that is no hang
    with vmcorefs.open(had(accident)) as capture:
        dead = capture.image.kernel
        assert dead is not None
        module = built(accident.kernel) if accident.module else None
        truth = _truth(dead, debug_vmlinux(accident.kernel), module)
        program = open_program(dead)
        names = Names((dead.all_symbols.kernel, *dead.all_symbols.modules))
        asked = Asked()
        tasks = all_tasks(asked, dead, program)
        compared = 0
        for object_, task in [*tasks, *((cpu_curr(program, n), None) for n in (0, 1))]:
            ours, true = try_stack(names, object_), _pcs(truth, int(object_))
            if true is None:
                assert ours.frames == []
                assert "not saved" in ours.broken
                continue
            # behind the entry from user space, drgn shows the program's own registers
            assert [frame.pc for frame in ours.frames] == true[: len(ours.frames)], task
            assert ours.broken == "", task
            compared += 1
        queued = find_queued(asked, tasks, furthest_clock(program))
        assert asked.unknown == []
        assert compared > 40
        for cpu in for_each_online_cpu(truth):
            rq = cpu_rq(truth, cpu)
            lists = [*rq_for_each_fair_task(rq), *rq_for_each_rt_task(rq)]
            true_pids = {int(task.pid) for task in lists if not task.on_cpu}
            # migration/0 and its like are of a class that drgn has no list of
            ours_pids = {one.task.pid for one in queued.get(cpu, []) if one.priority >= 0}
            stop = int(rq.stop.pid) if rq.stop else -1
            assert ours_pids - {stop} == true_pids
