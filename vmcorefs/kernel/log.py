"""Reading the crashed kernel's log from its memory."""

from __future__ import annotations

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.printk import names_log, read_log
from vmcorefs.errors import VmcorefsError


def find_log(vmcoreinfo: Vmcoreinfo | None, kernel: KernelMemory) -> tuple[bytes | None, str]:
    """Decode the kernel's log.

    Args:
        vmcoreinfo: Where the log is, and how its structures are laid out.
        kernel: The kernel's virtual memory; its image and the direct map are enough.

    Returns:
        The log's text, or None and the reason, if VMCOREINFO promises one.
    """
    if vmcoreinfo is None or not names_log(vmcoreinfo):
        return None, ""
    try:
        return read_log(vmcoreinfo, kernel), ""
    except VmcorefsError as error:
        return None, f"no dmesg: {error}"
