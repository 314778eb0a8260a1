"""What a report takes out of the log."""

from __future__ import annotations

import pytest

from vmcorefs.reports.report.logged import hardware_errors, last_oom, last_warnings
from vmcorefs.reports.report.schema import Oom


@pytest.mark.parametrize(
    "line",
    [
        "[    1.0] mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 4: b200000000070f0f",
        "[    2.0] EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#0_DIMM#0",
        "[    3.0] pcieport 0000:00:1c.0: AER: Corrected error received: 0000:01:00.0",
        "[    4.0] {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1",
        "[    5.0] I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
        "[    6.0] nvme nvme0: I/O 5 QID 3 timeout, aborting",
    ],
)
def test_complaints_of_the_hardware(line: str) -> None:
    assert hardware_errors(f"[    0.0] Linux version 6.1.0\n{line}\n") == [line]


def test_a_healthy_log_has_neither() -> None:
    log = "[    0.0] Linux version 6.1.0\n[    1.0] EDAC MC: Ver: 3.0.0\n[    1.0] usb 1-1: new\n"
    assert hardware_errors(log) == []
    assert last_warnings(log) == []
    assert last_oom(log) is None


def test_the_last_warnings_are_kept() -> None:
    lines = [f"[{n:5}.0] WARNING: CPU: 0 PID: {n} at kernel/x.c:1 f+0x1/0x2" for n in range(100)]
    assert last_warnings("\n".join(lines)) == lines[-20:]


_INVOKED = "[    7.5] tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
_KILLED = "Killed process 7 (tail) total-vm:9kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB, UID:0"
_LIMITED = (
    "[    8.5] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/small,task_memcg=/small,task=tail,pid=7,uid=0"
)


@pytest.mark.parametrize(
    ("lines", "oom"),
    [
        ([_INVOKED], Oom(1, "tail", 0, "0xcc0(GFP_KERNEL)", "", "")),
        (
            [_INVOKED, _INVOKED.replace("tail", "Web Content"), _LIMITED, f"[    9.0] {_KILLED}"],
            Oom(2, "Web Content", 0, "0xcc0(GFP_KERNEL)", "CONSTRAINT_MEMCG", _KILLED),
        ),
        (
            # before 4.19, and with the number of the caller
            ["[    7.5][    T7] sh invoked oom-killer: gfp_mask=0x1(X), nodemask=0,  order=3,"],
            Oom(1, "sh", 3, "0x1(X)", "", ""),
        ),
    ],
)
def test_the_last_time_that_memory_ran_out(lines: list[str], oom: Oom) -> None:
    assert last_oom("\n".join(["[    0.0] Linux version 6.1.0", *lines, ""])) == oom
