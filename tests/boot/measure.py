"""What saving costs in a capture kernel, measured there: ``python -m tests.boot.measure``.

Under emulation no figure is a machine's; their ratios are worth something.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from tests.boot.armed import armed
from tests.boot.crashes import Outcome, leave, panic, save_triage_too
from tests.boot.disk import disk
from tests.boot.machine import CRASHKERNEL, MEMORY, resumed
from tests.lab import console
from tests.lab.host import locked

if TYPE_CHECKING:
    from tests.boot.machine import Machine

_SECONDS: Final = 1800
_MIB: Final = 1 << 20

_MOUNTED: Final = (
    "echo LAB-MOUNTED $(systemctl show -P ActiveEnterTimestampMonotonic vmcorefs.service)",
    "daemon=$(systemctl show -P MainPID vmcorefs.service)",
    "echo LAB-DAEMON $(grep VmHWM /proc/$daemon/status)",
    "echo LAB-TOTAL $(grep MemTotal /proc/meminfo)",
    "echo LAB-VMCORE $(stat -c %s /proc/vmcore)",
    "mkdir -p /var/lab",
    "start=$(date +%s%N)",
    "makedumpfile -c -d 31 /proc/vmcore /var/lab/dump >/dev/null",
    "sync -f /var/lab/dump",
    "echo LAB-MAKEDUMPFILE $(($(date +%s%N) - start)) $(stat -c %s /var/lab/dump)",
    # what saves comes after this script; what memory it takes is looked at meanwhile
    "main_pid() { systemctl show -P MainPID vmcorefs-save.service; }",
    "sample() { echo LAB-SAMPLE $(grep -h -e MemAv -e VmHWM /proc/meminfo /proc/$1/status); }",
    "(while sleep 0.5; do sample $(main_pid); done) 2>/dev/null &",
)


def measured(machine: Machine) -> Outcome:
    """Save to the root file system as it is by default, after makedumpfile has done the same.

    And before that, what a report needs.
    """
    save_triage_too(machine)
    leave(machine, "mounted", *_MOUNTED)
    return panic(machine, _SECONDS)


def report(outcome: Outcome) -> str:
    """Return the figures as a Markdown table."""
    said = outcome.said
    (directory,) = outcome.files("/var/crash").iterdir()
    (triage,) = (outcome.files("/var/lab") / "triage").iterdir()
    summary, small = (
        cast("dict[str, Any]", json.loads((one / "summary.json").read_text()))
        for one in (directory, triage)
    )
    vmcore = int(console.expect(said, "VMCORE")) / _MIB
    nanoseconds, size = map(int, console.expect(said, "MAKEDUMPFILE").split())
    theirs, ours = nanoseconds / 1e9, float(summary["seconds"])
    command = int(console.expect(said, "TRIAGE")) / 1e9
    samples = re.findall(r"LAB-SAMPLE MemAvailable: (\d+) kB(?: VmHWM: (\d+) kB)?\n", said)
    rows = {
        "memory of the machine, crashkernel=": f"{MEMORY}, {CRASHKERNEL}",
        "/proc/vmcore": f"{vmcore:.0f} MiB",
        "memory of the capture kernel": _mib(console.expect(said, "TOTAL")),
        "from its start to the readable mount": f"{_seconds(console.expect(said, 'MOUNTED'))} s",
        "most that the daemon of the mount took": _mib(console.expect(said, "DAEMON")),
        "most that the saver took": f"{max(int(peak or 0) for _, peak in samples) // 1024} MiB",
        "least that was available": f"{min(int(free) for free, _ in samples) // 1024} MiB",
        "saving, zlib, level 31": f"{ours:.1f} s, {vmcore / ours:.1f} MiB/s",
        "the dump": f"{(directory / 'vmcore').stat().st_size / _MIB:.1f} MiB",
        "makedumpfile -c -d 31": f"{theirs:.1f} s, {vmcore / theirs:.1f} MiB/s",
        "its dump": f"{size / _MIB:.1f} MiB",
        "ours in units of makedumpfile's time": f"{ours / theirs:.2f}",
        'with `level = "triage"`, the whole command': f"{command:.1f} s",
        "of that, writing the triage dump": f"{small['triage_dump']['seconds']:.1f} s",
        "the triage dump": f"{(triage / 'vmcore.triage').stat().st_size / _MIB:.1f} MiB",
        "from the panic to the reboot, without these two": (
            f"{outcome.seconds - theirs - command:.0f} s"
        ),
    }
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]
    )


def _seconds(microseconds: str) -> str:
    return f"{int(microseconds) / 1e6:.1f}"


def _mib(words: str) -> str:
    return f"{int(words.split()[1]) // 1024} MiB"


@click.command()
def main() -> None:
    """Print the figures, as a Markdown table."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    made = disk()
    with tempfile.TemporaryDirectory(prefix="vmcorefs-boot.") as directory:
        with locked("guest"), resumed(made, armed(made), Path(directory)) as machine:
            outcome = measured(machine)
        click.echo(report(outcome))


if __name__ == "__main__":
    main()
