"""What happens to machines that panic: each function here is one crash, and gives its outcome.

A test names the crash that it looks at (``@pytest.mark.crash(saved_on_root)``); several may look
at one. Crashes run two at a time, as conftest.py starts them.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elftools.elf.elffile import ELFFile

from tests.boot.armed import wait_until_armed
from tests.boot.machine import ROOT, VMCORE
from tests.boot.store import tool
from tests.lab.host import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.boot.machine import Machine

_BOOT_SECONDS: Final = 900
_SAVE_SECONDS: Final = 1800
_FAIL_SECONDS: Final = 900
_PAGE_SIZE: Final = 4096
_TOO_LITTLE: Final = 28 << 20
"""Bytes of memory that a capture kernel has available: too few for vmcorefs.

With 20 MiB, systemd-shutdown cannot lock its own pages, and 6.1 panics. With 35, vmcorefs still
does not start.
"""
_FAILURE: Final = ("[finish]", 'failure = "poweroff"')
"""Settings that let a failure be told from a success, which reboots."""


@dataclass(frozen=True)
class Outcome:
    """What a crash left behind.

    Args:
        directory: QEMU's, with the disks.
        panicked: the console, from the panic on.
        said: the second serial port, from the panic on.
        end: ``guest-reset`` or ``guest-shutdown``: how the capture kernel ended.
        seconds: from the panic to that.
    """

    directory: Path
    panicked: str
    said: str
    end: str
    seconds: float

    @property
    def truth(self) -> Path:
        """The copy of /proc/vmcore that was made in the same boot, cut to its size."""
        path = self.directory / VMCORE
        with path.open("r+b") as file:
            segments = [segment.header for segment in ELFFile(file).iter_segments("PT_LOAD")]
            end = max(segment["p_offset"] + segment["p_filesz"] for segment in segments)
            file.truncate(-(-end // _PAGE_SIZE) * _PAGE_SIZE)
        return path

    def files(self, path: str) -> Path:
        """Return a copy of a directory of the machine's root file system."""
        image = self.directory / "root.raw"
        if not image.exists():
            run([tool("qemu-img"), "convert", "-O", "raw", self.directory / ROOT, image])
        return self._copy(image, path)

    def files_on(self, label: str) -> Path:
        """Return a copy of the whole of another of its file systems."""
        return self._copy(self.directory / f"{label}.img", "/")

    def _copy(self, image: Path, path: str) -> Path:
        root = self.directory / f"{image.name}.files"
        copy = root / path.lstrip("/")
        if not copy.exists():
            into = root if path == "/" else copy.parent
            into.mkdir(parents=True, exist_ok=True)
            # what the machine had only in the journal when it ended
            run([tool("e2fsck"), "-p", "-E", "journal_only", image])
            run([tool("debugfs"), "-R", f"rdump {path} {into}", image])
        return copy


def panic(machine: Machine, seconds: float) -> Outcome:
    """Have a machine panic, and wait until its capture kernel has ended."""
    console, said = len(machine.console), len(machine.said)
    machine.ask("sync")
    start = time.monotonic()
    machine.tell("echo c >/proc/sysrq-trigger")
    end, when = machine.wait_for_end(seconds)
    return Outcome(
        machine.directory, machine.console[console:], machine.said[said:], end, when - start
    )


def leave(machine: Machine, name: str, *lines: str) -> None:
    """Leave a script for the capture kernel: ``before`` or ``mounted`` (guest/*.service)."""
    for line in lines:
        machine.ask(f"printf '%s\\n' {_quoted(line)} >>/opt/lab/{name}")


def configure(machine: Machine, *lines: str, path: str = "/etc/vmcorefs.toml") -> None:
    """Write the settings: what is said there of saving holds with no loading anew."""
    words = " ".join(map(_quoted, lines))
    machine.ask(f"printf '%s\\n' {words} >{path}")


def save_triage_too(machine: Machine) -> None:
    """Have the capture kernel save what a report needs, to /var/lab/triage, before all else."""
    machine.ask("mkdir -p /var/lab")
    target = ("[target]", 'directory = "/var/lab/triage"')
    configure(machine, *target, "[dump]", 'level = "triage"', path="/opt/lab/triage.toml")
    leave(
        machine,
        "mounted",
        "start=$(date +%s%N)",
        "vmcorefs capture save --config /opt/lab/triage.toml 2>&1 || true",
        "echo LAB-TRIAGE $(($(date +%s%N) - start))",
    )


def _quoted(line: str) -> str:
    assert "'" not in line, line
    return f"'{line}'"


def saved_on_root(machine: Machine) -> Outcome:
    """Save to the root file system as it is by default; the machine comes up again.

    Before it panics, it says how large a dump of it would be; before that is saved, a dump is that
    has only what a report needs.
    """
    save_triage_too(machine)
    machine.ask("cat /proc/meminfo >/var/lab/before")
    machine.ask("vmcorefs estimate /proc/kcore --json >/var/lab/estimate")
    machine.ask("cat /proc/meminfo >/var/lab/after")
    leave(
        machine,
        "mounted",
        "echo BEGIN tree",
        "ls -l /run/vmcorefs",
        "echo END tree",
        "cmp /proc/vmcore /run/vmcorefs/vmcore && echo LAB-EQUAL",
        "dd if=/proc/vmcore of=/dev/vdb bs=1M 2>&1",
        "echo LAB-VMCORE $(stat -c %s /proc/vmcore)",
        "cp /run/vmcorefs/dmesg /run/vmcorefs/crash_notes /var/lab",
    )
    outcome = panic(machine, _SAVE_SECONDS)
    machine.wait_until_up("healthy", _BOOT_SECONDS)
    wait_until_armed(machine)
    machine.ask("sync")
    return outcome


def saved_by_initramfs(machine: Machine) -> Outcome:
    """Save from within an initramfs, to a file system of its own, with no root mounted."""
    machine.ask("cp --preserve=timestamps /opt/lab/initramfs.toml /etc/vmcorefs.toml")
    machine.ask("systemctl restart vmcorefs-load.service", _BOOT_SECONDS)
    return panic(machine, _SAVE_SECONDS)


def _fail_to_save_on(machine: Machine, label: str, *lines: str) -> Outcome:
    filesystem = f'filesystem = "LABEL={label}"'
    configure(machine, "[target]", filesystem, 'directory = "/"', *lines, *_FAILURE)
    return panic(machine, _FAIL_SECONDS)


def target_full(machine: Machine) -> Outcome:
    """Save where there is not enough room, and power off."""
    return _fail_to_save_on(machine, "lab-full", "[keep]", 'free = "1M"')


def target_missing(machine: Machine) -> Outcome:
    """Save to a file system that does not come up, and power off."""
    return _fail_to_save_on(machine, "no-such-label", 'wait = "10s"')


def saver_killed(machine: Machine) -> Outcome:
    """Have the process that saves be killed once it has begun to write, and power off."""
    configure(machine, *_FAILURE)
    leave(
        machine,
        "mounted",
        "(until [ -e /var/crash/*/vmcore.incomplete ]; do sleep 0.1; done;"
        " systemctl kill --signal=KILL vmcorefs-save.service; echo LAB-KILLED) &",
    )
    return panic(machine, _FAIL_SECONDS)


def time_over(machine: Machine) -> Outcome:
    """Give saving no more time than it cannot do with, and power off."""
    configure(machine, *_FAILURE, 'timeout = "2s"')
    return panic(machine, _FAIL_SECONDS)


def page_unreadable(machine: Machine) -> Outcome:
    """Save a /proc/vmcore that has a page of the kernel's text that is an error to read.

    The error is not the kernel's: guest/fault.py stands in front of its file.
    """
    iomem = machine.ask("cat /proc/iomem")
    text = re.search(r"^ *([0-9a-f]+)-[0-9a-f]+ : Kernel code$", iomem, re.MULTILINE)
    assert text is not None, iomem
    bad = (int(text[1], 16) + (1 << 20)) & -_PAGE_SIZE
    configure(machine, *_FAILURE)
    leave(
        machine,
        "before",
        "modprobe fuse",
        f"systemd-run --unit=lab-fault --property=StandardOutput=file:/dev/ttyS1"
        f" /opt/vmcorefs/bin/python /opt/lab/fault.py {bad:#x} {_PAGE_SIZE:#x}",
        'timeout 60 sh -c "until mountpoint -q /proc/vmcore; do sleep 0.2; done"',
    )
    return panic(machine, _SAVE_SECONDS)


def left_too_little(machine: Machine) -> Outcome:
    """Have too little memory left for vmcorefs in the capture kernel, and power off.

    A tmpfs takes the memory: a crash kernel small enough to leave as little would differ from
    kernel to kernel, and 6.12 panics by itself in one that 6.1 can be short of memory in. Nothing
    is killed there: Python's pages are read again and again, for as long as the services are
    allowed to come up. That is 90 s and twice 120 s, cut down here.
    """
    configure(machine, *_FAILURE)
    for name in ("vmcorefs", "vmcorefs-save", "vmcorefs-failure"):
        place = f"/etc/systemd/system/{name}.service.d"
        machine.ask(
            f"mkdir {place} && printf '[Service]\\nTimeoutStartSec=25\\n' >{place}/lab.conf"
        )
    leave(
        machine,
        "before",
        "mkdir /run/lab-full",
        "mount -t tmpfs -o size=100% lab-full /run/lab-full",
        "available() { while read -r key kib _; do"
        ' [ "$key" != MemAvailable: ] || echo "$kib"; done </proc/meminfo; }',
        f'while [ "$(available)" -gt {_TOO_LITTLE >> 10} ]; do'
        " head -c 1M /dev/zero >>/run/lab-full/pages; done",
        "echo LAB-AVAILABLE $(available)",
    )
    return panic(machine, _FAIL_SECONDS)


def reserved_far_too_little(machine: Machine) -> Outcome:
    """Have the crash kernel's memory be too little for the capture kernel itself."""
    configure(machine, *_FAILURE)
    shrink(machine, 72)
    return panic(machine, _SAVE_SECONDS)


def shrink(machine: Machine, size: int) -> None:
    """Shrink the memory that crashkernel= has reserved to ``size`` MiB, and load into that.

    kernel/kexec_core.c, crash_shrink_memory: what remains is as if it had been asked for at boot.
    """
    machine.ask("systemctl stop vmcorefs-load.service")
    machine.ask(f"echo {size << 20} >/sys/kernel/kexec_crash_size")
    machine.ask("systemctl start vmcorefs-load.service", _BOOT_SECONDS)
