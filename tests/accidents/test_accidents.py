"""What ``vmcorefs report`` says of a machine, against what was done to it."""

from __future__ import annotations

import faulthandler
from typing import TYPE_CHECKING

import pytest

import vmcorefs
from tests.accidents.machines import Accident, had
from vmcorefs.reports.report.gather import make_report
from vmcorefs.reports.report.text import format_report

if TYPE_CHECKING:
    from tests.lab.kernels import Role
    from vmcorefs.reports.report.schema import Report

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]


def _report(accident: Accident) -> Report:
    faulthandler.cancel_dump_traceback_later()  # the machine may have to be made: that is no hang
    with vmcorefs.open(had(accident)) as capture:
        return make_report(capture.image)


_NULL = (
    "BUG: unable to handle kernel NULL pointer dereference in lab_inner",
    "NULL-POINTER-DEREFERENCE",
)
_WRITE = ("accident_write", "proc_reg_write", "vfs_write", "ksys_write")


@pytest.mark.parametrize(
    ("accident", "titled", "functions"),
    [
        (
            Accident("null"),
            _NULL,
            ("lab_inner", "lab_null", *_WRITE),
        ),
        (
            Accident("bug", "newer"),
            ("kernel BUG in lab_bug", "BUG"),
            ("lab_bug", *_WRITE),
        ),
        (
            Accident("spin", append="softlockup_panic=1 watchdog_thresh=4"),
            ("BUG: soft lockup in proc_reg_write", "HANG"),
            ("lab_spin", *_WRITE),
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
    assert f"{functions[0]}+0x" in "\n".join(format_report(report))


@pytest.mark.parametrize("kernel", ["stable", "newer"])
def test_who_waits_for_whom_in_a_machine_that_hangs(kernel: Role) -> None:
    report = _report(Accident("deadlock", kernel, hangs=True))
    locks = {task.comm: group for group in report.blocked for task in group.tasks}

    assert report.why.panicked is False
    assert report.tasks["D"] == 5  # the fifth holds the semaphore, and sleeps
    for waiter, name, owner in (
        ("lab-one-way", "lab_second", "lab-other-way"),
        ("lab-other-way", "lab_first", "lab-one-way"),
    ):
        lock = locks[waiter].lock
        assert lock is not None
        assert lock.owner is not None
        assert (lock.kind, lock.symbol, lock.owner.comm) == ("mutex", name, owner)
        # gcc 14 makes lab_take.isra.0 of it
        assert any(name.startswith("lab_take") for name in locks[waiter].stack.functions)
    (readers,) = [group for group in report.blocked if len(group.tasks) == 2]
    assert {task.comm for task in readers.tasks} == {"lab-reader-1", "lab-reader-2"}
    assert readers.lock is not None
    assert (readers.lock.kind, readers.lock.symbol) == ("rw_semaphore", "lab_shared")
    assert readers.lock.owner is not None
    assert readers.lock.owner.comm == "lab-writer"
    assert readers.seconds is not None
    assert readers.seconds > 1
    said = "\n".join(format_report(report))
    assert "waits for lab_shared, held by pid" in said
