"""What the log says beside the end: complaints of the hardware, and the last warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_SHOWN: Final = 20
_HARDWARE: Final = re.compile(
    r"mce: |\[Hardware Error\]|EDAC |AER: |pcieport .*(?:error|Error)|NMI: .*(?:PCI|IOCK)"
    r"|Machine check|ERST: |GHES: |(?:ata|nvme|mmc)\S*: .*(?:error|timeout|timed out)"
    r"|I/O error, dev |critical (?:medium|target) error|CPU\d+: .*temperature above"
)
"""arch/x86/kernel/cpu/mce/, drivers/edac/, drivers/pci/pcie/aer.c, drivers/acpi/apei/,
arch/x86/kernel/nmi.c, drivers/ata/, drivers/nvme/, block/blk-core.c, thermal/intel/."""
_WARNING: Final = re.compile(
    r"WARNING: |BUG: |INFO: (?:task|rcu)|rcu: INFO|Oops|Out of memory: |oom-kill:"
    r"|invoked oom-killer|general protection fault|Unable to handle|segfault at"
    r"|EXT4-fs error|XFS .*(?:Corruption|error)|BTRFS (?:error|critical)"
    r"|page allocation (?:failure|stalls)|blocked for more than"
)


def hardware_errors(log: str) -> list[str]:
    """The last lines in which the hardware complains."""
    return list(_lines(log, _HARDWARE))[-_SHOWN:]


def last_warnings(log: str) -> list[str]:
    """The last lines that warn."""
    return list(_lines(log, _WARNING))[-_SHOWN:]


def _lines(log: str, pattern: re.Pattern[str]) -> Iterator[str]:
    return (line for line in log.splitlines() if pattern.search(line))
