"""A report for a person."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from vmcorefs.reports.crash import Crash
from vmcorefs.reports.report.schema import (
    VERSION,
    Blocked,
    Cpu,
    DeviceDump,
    Died,
    Disk,
    Frame,
    Lock,
    Memory,
    Module,
    Oom,
    Process,
    Queued,
    Recovered,
    Report,
    Slab,
    Stack,
    Taint,
    Task,
    Thread,
    Unknown,
    Why,
    Zone,
)
from vmcorefs.reports.report.text import format_report, format_time, format_uptime

_SHELL = Task(7, 7, "sh", "R")
_STACK = Stack([Frame(0x1010, "boom", 0x10, "driver"), Frame(0x2020, "write", 0x20)])
_DIED = Died(
    host="db1",
    release="6.1.0",
    version="#1 SMP",
    machine="x86_64",
    hardware="Acme 9",
    command_line="quiet",
    time=1700000000.5,
    uptime=90061.0,
    cpus=2,
    memory=1 << 30,
)
REPORT = Report(
    schema=VERSION,
    died=_DIED,
    crash=Crash(
        title="kernel panic: boom",
        alternatives=[],
        fault="DoS",
        function="boom",
        corrupted=False,
        reason="",
        panic="Kernel panic - not syncing: boom",
        lines=["Kernel panic - not syncing: boom"],
    ),
    why=Why(
        panicked=True,
        taints=[Taint("O", "a module from outside")],
        cpu=1,
        task=_SHELL,
        stack=_STACK,
    ),
    cpus=[
        Cpu(
            0,
            Task(0, 0, "swapper/0", "R"),
            False,
            3,
            Stack([Frame(5, "halt", 5)]),
            [Queued(Task(30, 30, "late", "R"), 120, 2.5), Queued(_SHELL, 99, None)],
            7.4,
        ),
        Cpu(1, _SHELL, True, 1, _STACK, [], 1.0),
    ],
    tasks={"D": 3, "R": 1, "S": 90},
    threads=[Thread(7, 7, "sh", "R", cpu=1, seconds=0.5), Thread(20, 20, "a", "D", None, None)],
    blocked=[
        Blocked(
            tasks=[Task(20, 20, "a", "D"), Task(21, 21, "b", "D")],
            seconds=125.25,
            stack=Stack([Frame(0x99, "wait", 9)], "no more"),
            lock=Lock("mutex", 0xFFFF, "", _SHELL),
            io=False,
        ),
        Blocked(
            tasks=[Task(22, 22, "c", "D")],
            seconds=None,
            stack=Stack([Frame(0x99, "wait", 9)]),
            lock=Lock("page lock", 0xEEEE, "", None, "page 3 of sda"),
            io=True,
        ),
    ],
    memory=Memory(
        {"free": 1 << 20, "dirty": 0},
        [Slab("dentry", 1 << 21)],
        [Process(7, "sh", 4096, 0, 8192, -900)],
        [Zone(0, "DMA", 1 << 24, 1 << 20, 1 << 12, 1 << 13, 1 << 14)],
    ),
    modules=[Module("driver", "1.0", 4096, "OE"), Module("ext4", "", None, "")],
    disks=[Disk("sda", 2, 1, 40.0)],
    oom=Oom(1, "dd", 0, "GFP_KERNEL", "CONSTRAINT_NONE", "Killed process 7 (sh)"),
    watchdogs={"kernel.soft_watchdog": 1, "vm.panic_on_oom": 0},
    recovered=[Recovered("pci", 2, 1700000000)],
    devices=[DeviceDump("nic", 4096)],
    hardware=["mce: [Hardware Error]: bad"],
    warnings=["WARNING: one", "WARNING: two"],
    unknown=[Unknown("log", "gone")],
)


def _labelled(report: Report) -> dict[str, list[str]]:
    """The lines by label."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in format_report(report):
        label = line[:12].strip() or label
        found.setdefault(label, []).append(line[13:])
    return found


def test_the_answer_comes_first_and_everything_has_its_line() -> None:
    lines = _labelled(REPORT)

    assert list(lines) == [
        *("machine", "kernel", "died", "why", "tainted", "stack", "cpu 0", "tasks", "blocked"),
        *("disks", "oom", "memory", "modules", "hardware", "watchdog", "log", "unknown"),
    ]
    assert lines["machine"] == ["db1, Acme 9", "x86_64, 2 CPUs, 1 GiB"]
    assert lines["died"] == ["2023-11-14 22:13:20 UTC, up 1 day, 1:01:01"]
    assert lines["why"] == [
        "kernel panic: boom (DoS)",
        "Kernel panic - not syncing: boom",
        "on CPU 1, pid 7 (sh)",
    ]
    assert lines["stack"] == ["boom+0x10 [driver]", "write+0x20"]
    assert lines["cpu 0"] == [
        "pid 0 (swapper/0), 3 in the run queue",
        "halt",
        "waiting for it: pid 30 (late), 2.5 s, pid 7 (sh)",
        "has not run its watchdog for 7 s",
    ]
    assert lines["tasks"] == ["3 blocked, 1 running, 90 sleeping"]
    assert lines["blocked"] == [
        "pid 20 (a), pid 21 (b), 125.2 s",
        "  waits for the mutex at 0xffff, held by pid 7 (sh)",
        "  wait+0x9",
        "  ... no more",
        "pid 22 (c), waiting for input or output",
        "  waits for the page lock of page 3 of sda, whose holder is not recorded",
        "  wait+0x9",
    ]
    assert lines["disks"] == ["sda: 2 reads and 1 writes under way, the oldest for 40 s"]
    assert lines["oom"] == [
        "dd wanted pages of order 0 (GFP_KERNEL), CONSTRAINT_NONE",
        "Killed process 7 (sh)",
    ]
    assert lines["hardware"] == [
        "mce: [Hardware Error]: bad",
        "pci: recovered 2 times, last 2023-11-14 22:13:20 UTC",
        "nic: 4 KiB saved",
    ]
    assert lines["watchdog"] == ["kernel.soft_watchdog=1"]
    assert lines["memory"] == [
        "free 1 MiB",
        "largest processes: sh 4 KiB",
        "largest slab caches: dentry 2 MiB",
    ]
    assert lines["modules"] == ["driver (OE) ext4"]
    assert lines["unknown"] == ["log: gone"]


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    nothing = dict.fromkeys(Died.__struct_fields__)
    why = Why(panicked=None, taints=[], cpu=None, task=None, stack=None)
    crash = Crash("", [], "", "", corrupted=False, reason="no log", panic="", lines=[])
    report = replace(
        REPORT,
        died=Died(**nothing),
        crash=crash,
        why=why,
        cpus=[],
        tasks={},
        threads=[],
        blocked=[],
        memory=None,
        modules=[],
    )
    lines = _labelled(report)

    assert lines["machine"] == [
        "name unknown, hardware unknown",
        "architecture unknown, CPUs unknown, memory unknown",
    ]
    assert lines["kernel"] == ["Linux unknown"]
    assert lines["died"] == ["unknown, up unknown"]
    assert lines["why"] == ["cannot be told whether it panicked"]
    assert lines["tasks"] == ["none found"]


def test_a_function_that_calls_itself_is_told_once() -> None:
    again = Stack([_STACK.frames[0], *[_STACK.frames[1]] * 28])
    report = replace(REPORT, why=replace(REPORT.why, stack=again))
    assert _labelled(report)["stack"] == ["boom+0x10 [driver]", "write+0x20, 28 times"]


def test_many_groups_are_cut_short() -> None:
    report = replace(REPORT, blocked=REPORT.blocked * 20)
    assert _labelled(report)["blocked"][-1] == "and 32 more groups"


def test_it_survives_json() -> None:
    data: Any = msgspec.json.encode(REPORT)
    assert msgspec.json.decode(data, type=Report) == REPORT


@pytest.mark.parametrize("time", [1e12, 2.0**63, -1e15])
def test_a_time_that_no_calendar_has_is_a_number(time: float) -> None:
    assert format_time(time) == f"{time:g} s after 1970"


def test_times_are_dates_and_spans() -> None:
    assert format_time(0) == "1970-01-01 00:00:00 UTC"
    assert format_time(None) == format_uptime(None) == "unknown"
    assert format_uptime(90061.9) == "1 day, 1:01:01"
    assert format_uptime(1e300) == "1e+300 s"
