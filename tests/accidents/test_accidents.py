"""What ``vmcorefs report`` says of a machine, against what was done to it."""

from __future__ import annotations

import faulthandler
from functools import cache
from typing import TYPE_CHECKING

import pytest

import vmcorefs
from tests.accidents import accidents
from tests.accidents.machines import Accident, had
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.text import format_report

if TYPE_CHECKING:
    from vmcorefs.reports.report.schema import Blocked, Report

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]

MIB = 1 << 20


@cache
def _report(accident: Accident) -> Report:
    faulthandler.cancel_dump_traceback_later()  # the machine may have to be made: that is no hang
    with vmcorefs.open(had(accident)) as capture:
        return make_report(capture.image)


def _said(report: Report) -> str:
    return "\n".join(format_report(report))


_NULL = (
    "BUG: unable to handle kernel NULL pointer dereference in lab_inner",
    "NULL-POINTER-DEREFERENCE",
)
_WRITE = ("accident_write", "proc_reg_write", "vfs_write", "ksys_write")


@pytest.mark.parametrize(
    ("accident", "titled", "functions"),
    [
        (accidents.NULL, _NULL, ("lab_inner", "lab_null", *_WRITE)),
        (accidents.BUG, ("kernel BUG in lab_bug", "BUG"), ("lab_bug", *_WRITE)),
        (
            accidents.SPIN,
            ("BUG: soft lockup in proc_reg_write", "HANG"),
            ("lab_spin", *_WRITE),
        ),
        (
            accidents.FREED,
            ("general protection fault in lab_use_after_free", "DoS"),
            ("lab_use_after_free", *_WRITE),
        ),
        (
            accidents.OVERFLOW,
            ("BUG: stack guard page was hit in proc_reg_write", ""),
            ("lab_deeper", "lab_deeper", "lab_deeper"),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Accident) else None,
)
def test_the_stack_leads_to_what_went_wrong(
    accident: Accident, titled: tuple[str, str], functions: tuple[str, ...]
) -> None:
    report = _report(accident)
    stack = report.why.stack

    assert report.unknown == []
    assert (report.crash.title, report.crash.fault) == titled
    assert not report.crash.corrupted
    assert stack is not None
    assert stack.broken == ""
    at = stack.functions.index(functions[0])
    assert stack.functions[at : at + len(functions)] == functions
    inner = [frame for frame in stack.frames if frame.module]
    assert {frame.module for frame in inner} == {"accident"}
    assert stack.functions[-1] == "entry_SYSCALL_64_after_hwframe"
    assert {taint.letter for taint in report.why.taints} >= {"O", "E"}
    (module,) = [module for module in report.modules if module.name == "accident"]
    assert module.version == "1.2.3"
    assert set(module.taints) == {"O", "E"}
    assert f"{functions[0]}+0x" in _said(report)


def test_an_rcu_stall_leaves_work_behind_in_the_queue_of_its_cpu() -> None:
    """Its own clock finds it, or that of the other CPU, if that was not idle just then.

    In the other's report no clock has interrupted what is to blame, by which it would be known.
    """
    report = _report(accidents.STALL)
    (cpu,) = [cpu for cpu in report.cpus if cpu.task is not None and cpu.task.comm == "init"]
    by_itself = any("self-detected stall on CPU" in line for line in report.crash.lines)
    blamed = "proc_reg_write" if by_itself else "corrupted"

    assert report.unknown == []
    assert report.crash.title == f"INFO: rcu detected stall in {blamed}"
    assert report.crash.fault == "HANG"
    assert report.crash.corrupted != by_itself
    assert report.watchdogs["kernel.panic_on_rcu_stall"] == 1
    assert cpu.panicked == by_itself
    assert cpu.stack is not None
    assert cpu.stack.broken == ""
    at = cpu.stack.functions.index("lab_spin")
    assert cpu.stack.functions[at + 1 : at + 6] == ("lab_stall", *_WRITE)
    waited = [one.seconds for one in cpu.queue]
    assert cpu.running == 1 + len(waited)
    assert waited[0] is not None
    assert waited[0] > 2  # it was declared one after five
    assert cpu.unwatched is not None
    assert cpu.unwatched > 2


def test_memory_that_ran_out() -> None:
    report = _report(accidents.OOM)
    memory, oom = report.memory, report.oom

    assert report.unknown == []
    assert report.crash.panic.endswith("Out of memory: system-wide panic_on_oom is enabled")
    assert oom is not None
    assert (oom.invoked_by, oom.order, oom.times, oom.killed) == ("dd", 0, 1, "")
    assert memory is not None
    assert memory.processes[0].comm == "dd"
    assert memory.processes[0].rss > 500 * MIB
    assert memory.counters["free"] < 64 * MIB
    (zone,) = [zone for zone in memory.zones if zone.name == "DMA32"]
    assert zone.free < zone.low < zone.high < zone.managed
    assert report.why.stack is not None
    # gcc puts the part that panics elsewhere, as out_of_memory.cold
    assert any(name.startswith("out_of_memory") for name in report.why.stack.functions)
    assert report.watchdogs["vm.panic_on_oom"] == 1
    assert "oom          dd wanted pages of order 0" in _said(report)


def test_a_machine_check() -> None:
    report = _report(accidents.MACHINE_CHECK)

    assert report.unknown == []
    assert report.crash.title == "kernel panic: Fatal local machine check"
    assert not report.crash.corrupted
    assert report.why.cpu == 0
    assert report.why.stack is not None
    functions = report.why.stack.functions
    # what panic() itself is made of differs by version: vpanic()
    at = functions.index("panic")
    assert functions[at + 1 : at + 3] == ("mce_panic", "do_machine_check")
    # the bank and its status, as they were injected
    assert any(
        "CPU 0: Machine Check Exception: 4 Bank 4: b200000000070f0f" in line
        for line in report.hardware
    )
    assert any("Processor Context Corrupt" in line for line in report.hardware)


def test_a_cpu_that_is_locked_up_hard_by_the_machine_s_button() -> None:
    report = _report(accidents.LOCKUP)
    cpus = {cpu.number: cpu for cpu in report.cpus}

    assert report.unknown == []
    assert report.crash.title == "kernel panic: NMI: Not continuing"
    assert report.why.cpu == 0
    stack = cpus[1].stack
    assert stack is not None
    assert stack.broken == ""
    at = stack.functions.index("lab_spin")
    assert stack.functions[at + 1 : at + 3] == ("lab_lockup", "accident_write")
    assert cpus[1].unwatched is not None
    assert cpus[1].unwatched > 2


_NOT_SAVED = [(f"cpus[{cpu}].stack", f"registers for CPU {cpu} were not saved") for cpu in (0, 1)]


def test_a_null_pointer_on_arm64_with_no_crash_kernel() -> None:
    report = _report(accidents.NULL_ARM64)
    calls = "\n".join(report.crash.lines)

    assert [(one.field, one.why) for one in report.unknown] == _NOT_SAVED
    assert (report.crash.title, report.crash.fault) == _NULL
    assert not report.crash.corrupted
    assert report.crash.panic == "Kernel panic - not syncing: Oops: Fatal exception"
    assert "lr : lab_null+0x" in calls
    assert "accident_write+0x" in calls
    assert report.why.task is not None
    assert report.why.task.comm == "init"
    # panic() has stopped one of them
    assert report.died.cpus == 2
    assert [cpu.number for cpu in report.cpus] == [0, 1]
    assert [cpu.panicked for cpu in report.cpus].count(True) == 1


def test_a_cpu_that_is_locked_up_hard_and_that_the_other_one_watches() -> None:
    """By arm64's detector: each CPU looks at another one (CONFIG_HARDLOCKUP_DETECTOR_BUDDY)."""
    report = _report(accidents.LOCKUP_ARM64)
    cpus = {cpu.number: cpu for cpu in report.cpus}

    assert [(one.field, one.why) for one in report.unknown] == _NOT_SAVED
    assert report.crash.title == "kernel panic: Hard LOCKUP"
    assert not report.crash.corrupted
    assert report.crash.panic == "Kernel panic - not syncing: Hard LOCKUP"
    assert report.watchdogs["kernel.hardlockup_panic"] == 1
    assert report.why.cpu == 0
    assert cpus[1].task is not None
    assert cpus[1].task.comm == "sh"
    # it was looked at twice, 4.8 s apart (thresh is 4), and the other CPU, which was idle, knew the
    # time 1.6 s before the second
    assert cpus[1].unwatched is not None
    assert cpus[1].unwatched > 2
    assert "Watchdog detected hard LOCKUP on cpu 1" in _said(report)


@pytest.mark.parametrize(
    ("accident", "unknown"),
    [(accidents.HUNG_TASK, []), (accidents.HUNG_TASK_ARM64, _NOT_SAVED)],
    ids=lambda one: one.arch if isinstance(one, Accident) else "",
)
def test_a_task_that_hangs_until_the_kernel_panics(
    accident: Accident, unknown: list[tuple[str, str]]
) -> None:
    report = _report(accident)

    assert [(one.field, one.why) for one in report.unknown] == unknown
    assert (report.crash.title, report.crash.fault) == ("INFO: task hung in lab_take", "HANG")
    assert report.crash.panic.endswith("hung_task: blocked tasks")
    assert report.watchdogs["kernel.hung_task_panic"] == 1
    assert report.watchdogs["kernel.hung_task_timeout_secs"] == 5
    assert report.why.task is not None
    assert report.why.task.comm == "khungtaskd"
    waits = _by_name(report.blocked)
    for name, symbol in (("lab-one-way", "lab_second"), ("lab-other-way", "lab_first")):
        group = waits[name]
        assert group.lock is not None
        assert group.lock.symbol == symbol
        assert group.seconds is not None
        assert group.seconds > 5


def _by_name(blocked: list[Blocked]) -> dict[str, Blocked]:
    return {task.comm: group for group in blocked for task in group.tasks}


_WAITS = {
    "lab-one-way": ("mutex", "lab_second", "lab-other-way"),
    "lab-other-way": ("mutex", "lab_first", "lab-one-way"),
    "lab-reader-1": ("rw_semaphore", "lab_shared", "lab-writer"),
    "lab-reader-2": ("rw_semaphore", "lab_shared", "lab-writer"),
    "lab-rt-mutex": ("rt_mutex", "lab_turns", "lab-holder"),
    "lab-semaphore": ("semaphore", "lab_gate", None),
    "lab-thaw": ("percpu_rw_semaphore", "lab_frozen", None),
    "lab-freeze": ("percpu_rw_semaphore", "lab_read", None),
    "lab-completion": ("completion", "lab_done", None),
    "lab-event": ("wait_queue_head", "lab_queue", None),
    "lab-bit": ("bit", "lab_bits", None),
    "lab-change": ("variable", "lab_variable", None),
}
"""What each task waits for, and who has it: accident.c."""
_HANGS = [accidents.HANG, accidents.HANG_NEWER]


@pytest.mark.parametrize("accident", _HANGS, ids=lambda one: one.kernel)
def test_who_waits_for_whom_in_a_machine_that_hangs(accident: Accident) -> None:
    report = _report(accident)
    waits = _by_name(report.blocked)

    assert report.why.panicked is False
    assert waits.keys() == _WAITS.keys() | {"dd"}
    for name, (kind, symbol, owner) in _WAITS.items():
        lock = waits[name].lock
        assert lock is not None, name
        held = lock.owner.comm if lock.owner is not None else None
        # since 6.16 the kernel notes who had a semaphore last
        assert (lock.kind, lock.symbol) == (kind, symbol)
        assert held == owner or (kind == "semaphore" and held == "lab-holder")
        seconds = waits[name].seconds
        assert seconds is not None
        assert seconds > 1
        assert not waits[name].io
    # gcc 14 makes lab_take.isra.0 of it
    functions = waits["lab-one-way"].stack.functions
    assert any(name.startswith("lab_take") for name in functions)
    assert len(waits["lab-reader-1"].tasks) == 2
    assert "waits for lab_shared, held by pid" in _said(report)


@pytest.mark.parametrize(
    "accident", [*_HANGS, accidents.DEAD_DISK], ids=lambda one: f"{one.arch}-{one.kernel}"
)
def test_input_that_never_comes(accident: Accident) -> None:
    report = _report(accident)
    (disk,) = report.disks
    readers = [group for group in report.blocked if group.tasks[0].comm == "dd"]

    assert report.why.panicked is False
    assert (disk.name, disk.writes) == ("vdb", 0)
    assert disk.reads >= 2
    assert disk.seconds is not None
    assert disk.seconds > 1
    assert len(readers) == 2
    assert all(group.io and group.stack.broken == "" for group in readers)
    waits = {group.lock.kind: group.lock.what for group in readers if group.lock is not None}
    # the one that reads around the page cache waits for its own request
    assert waits == {"page lock": "page 0 of vdb", "completion": ""}
    assert "the page lock of page 0 of vdb, whose holder is not recorded" in _said(report)
