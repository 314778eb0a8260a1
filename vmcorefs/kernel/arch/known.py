"""The architectures whose kernels can be read from memory alone."""

from __future__ import annotations

from typing import Final

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.paging.formats import PageTableFormat
from vmcorefs.errors import UnsupportedError
from vmcorefs.kernel.arch.architecture import Architecture
from vmcorefs.kernel.arch.arm64 import ARM64
from vmcorefs.kernel.arch.ppc64 import PPC64
from vmcorefs.kernel.arch.riscv64 import RISCV64
from vmcorefs.kernel.arch.s390 import S390X
from vmcorefs.kernel.arch.x86_64 import X86_64

ARCHITECTURES: Final = {known.machine: known for known in (X86_64, ARM64, RISCV64, PPC64, S390X)}
"""By ``e_machine``."""


def find_architecture(machine: int) -> Architecture:
    """The architecture of a machine.

    Raises:
        UnsupportedError: if it is none of those whose kernels can be read from memory alone.
    """
    found = ARCHITECTURES.get(machine)
    if found is None:
        *names, last = (known.name for known in ARCHITECTURES.values())
        raise UnsupportedError(
            f"machine {machine}: cannot walk its page tables, only those of"
            f" {', '.join(names)} and {last}"
        )
    return found


def machine_of(vmcoreinfo: Vmcoreinfo) -> int | None:
    """The architecture that wrote VMCOREINFO, as ``e_machine``; None if it is not a known one."""
    values = vmcoreinfo.values
    return next(
        (known.machine for known in ARCHITECTURES.values() if known.told_by in values), None
    )


def locate_page_tables(machine: int, vmcoreinfo: Vmcoreinfo) -> tuple[PageTableFormat, int]:
    """Find the place and the format of the kernel's page tables from VMCOREINFO alone.

    Returns:
        The format and the physical address of the root.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or one of them cannot be true.
        UnsupportedError: if the machine or its format is none of those that can be walked.
    """
    return find_architecture(machine).page_tables(vmcoreinfo)
