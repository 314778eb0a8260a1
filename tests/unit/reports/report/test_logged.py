"""What a report takes out of the log."""

from __future__ import annotations

import pytest

from vmcorefs.reports.report.logged import hardware_errors, last_warnings


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
    log = "[    0.0] Linux version 6.1.0\n[    1.0] usb 1-1: new high-speed USB device\n"
    assert hardware_errors(log) == []
    assert last_warnings(log) == []


def test_the_last_warnings_are_kept() -> None:
    lines = [f"[{n:5}.0] WARNING: CPU: 0 PID: {n} at kernel/x.c:1 f+0x1/0x2" for n in range(100)]
    assert last_warnings("\n".join(lines)) == lines[-20:]
