"""What the log says beside the end: of hardware, of memory that ran out, and other warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from vmcorefs.reports.report.schema import Oom

_SHOWN: Final = 20
_HARDWARE: Final = re.compile(
    r"mce: |\[Hardware Error\]|EDAC (?!MC: Ver)|AER: |pcieport .*(?:error|Error)"
    r"|NMI: .*(?:PCI|IOCK)|Machine check|ERST: |GHES: "
    r"|(?:ata|nvme|mmc)\S*: .*(?:error|timeout|timed out)"
    r"|I/O error, dev |critical (?:medium|target) error|CPU\d+: .*temperature above"
)
"""arch/x86/kernel/cpu/mce/, drivers/edac/, drivers/pci/pcie/aer.c, drivers/acpi/apei/,
arch/x86/kernel/nmi.c, drivers/ata/, drivers/nvme/, block/blk-core.c, thermal/intel/."""
_WARNING: Final = re.compile(
    r"WARNING: |BUG: |INFO: (?:task|rcu)|rcu: INFO|Oops|Out of memory: |oom-kill:"
    r"|invoked oom-killer|general protection fault|Unable to handle|segfault at"
    r"|EXT4-fs error|XFS .*(?:Corruption|error)|BTRFS (?:error|critical)"
    r"|page allocation (?:failure|stalls)|blocked for more than|hard LOCKUP on cpu"
)

_INVOKED: Final = re.compile(
    r"^(?P<by>.*) invoked oom-killer: gfp_mask=(?P<gfp>\S+), .*?order=(?P<order>-?\d{1,3}),",
    re.MULTILINE,
)
_CONSTRAINT: Final = re.compile(r"oom-kill:constraint=(\w+)")
_KILLED: Final = re.compile(r"Killed process \d.*")
_STAMP: Final = re.compile(r"^(?:\[ *[\d.]+\](?:\[ *[TC]\d+\])? ?)?")
"""mm/oom_kill.c, ``dump_header``, ``dump_oom_victim`` and ``__oom_kill_process``."""


def last_oom(log: str) -> Oom | None:
    """The last time that memory ran out; None if the log tells of none."""
    told, times = None, 0
    for told in _INVOKED.finditer(log):  # noqa: B007  # the last one is wanted
        times += 1
    if told is None:
        return None
    rest = log[told.end() :]
    constraint, killed = _CONSTRAINT.search(rest), _KILLED.search(rest)
    return Oom(
        times=times,
        invoked_by=_STAMP.sub("", told["by"]),
        order=int(told["order"]),
        gfp=told["gfp"],
        constraint=constraint[1] if constraint else "",
        killed=killed[0] if killed else "",
    )


def hardware_errors(log: str) -> list[str]:
    """The last lines in which the hardware complains."""
    return list(_lines(log, _HARDWARE))[-_SHOWN:]


def last_warnings(log: str) -> list[str]:
    """The last lines that warn."""
    return list(_lines(log, _WARNING))[-_SHOWN:]


def complains(line: str) -> bool:
    """Whether the hardware complains in a line, or it warns."""
    return bool(_HARDWARE.search(line) or _WARNING.search(line))


def _lines(log: str, pattern: re.Pattern[str]) -> Iterator[str]:
    return (line for line in log.splitlines() if pattern.search(line))
