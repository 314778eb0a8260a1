"""Where the elfcorehdr is: what the kernel that loaded it knows, and the one that was given it."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial

import numpy as np

from vmcorefs.core.space.ranges import Ranges
from vmcorefs.core.space.units import MAX_ADDRESS, PAGE_SIZE
from vmcorefs.discovery.crash_kernel.elfcorehdr import read_elfcorehdr
from vmcorefs.discovery.search.candidates import read_note
from vmcorefs.errors import FaultError, FormatError, VmcorefsError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.reader import Reader

_KIMAGE = 1024
"""Bytes of ``struct kimage`` that hold its sixteen segments (include/linux/kexec.h)."""

_COMMAND_LINE = 4096  # COMMAND_LINE_SIZE is at most that
_OPTION = re.compile(rb"(?:^| )elfcorehdr=(?:[^ @]*@)?(?:0x([0-9a-f]{1,16})|([0-9]{1,16}))([KMG]?)")
_UNITS = {b"": 0, b"K": 10, b"M": 20, b"G": 30}


def find_segments(kernel: Kernel, crash_kernel: Ranges) -> list[int] | None:
    """Addresses in the crash kernel's memory that ``kexec_crash_image`` names, in order.

    The elfcorehdr is one of the segments that a crash kernel is loaded in. Where in a ``struct
    kimage`` they stand differs from version to version, so each word counts that may be one.

    Args:
        kernel: The kernel that has loaded it.
        crash_kernel: The memory that it has reserved for that, a normal set.

    Returns:
        Physical addresses of pages; empty if no crash kernel is loaded, and None if that cannot be
        told.
    """
    try:
        image = kernel.virtual.pointer(kernel.symbol("kexec_crash_image"))
        words = kernel.virtual.integers(image, _KIMAGE // 8, 8) if image else None
    except VmcorefsError:
        return None
    if words is None:
        return []
    paddrs = np.unique(words[(words % PAGE_SIZE == 0) & (words < MAX_ADDRESS)]).astype(np.int64)
    inside = np.searchsorted(crash_kernel.ravel(), paddrs, side="right") % 2 == 1
    return paddrs[inside].tolist() or None


def find_crashed_note(kernel: Kernel) -> int | None:
    """Where the VMCOREINFO note is of the kernel that a capture kernel was booted for.

    Args:
        kernel: The capture kernel, whose command line says where the elfcorehdr is
            (Documentation/admin-guide/kernel-parameters.txt).

    Returns:
        Its physical address; None if that cannot be told.

    Raises:
        SourceIOError: if an input cannot be read.
    """
    try:
        at = kernel.virtual.pointer(kernel.symbol("saved_command_line"))
        paddr = parse_option(kernel.virtual.string(at, _COMMAND_LINE))
        notes = read_elfcorehdr(kernel.memory, paddr).elfcorehdr.notes
    except (FormatError, FaultError):
        return None
    # VMCOREINFO's is behind those of the CPUs
    places = notes["p_offset"].astype(np.int64).tolist()[::-1]
    return next((at for at in places if read_note(partial(_read, kernel.memory), at)), None)


def parse_option(command_line: bytes) -> int:
    """The address in ``elfcorehdr=[size@]offset``, as kexec-tools and the kernel write it.

    Raises:
        FormatError: if there is none, or no memory can be there.
    """
    options = _OPTION.findall(command_line)
    if not options:
        raise FormatError("no elfcorehdr= on the command line")
    hexadecimal, decimal, unit = options[-1]  # the last one counts, as in parse_early_param
    paddr = (int(hexadecimal, 16) if hexadecimal else int(decimal)) << _UNITS[unit]
    if paddr >= MAX_ADDRESS:
        raise FormatError(f"elfcorehdr={paddr:#x}: no memory can be there")
    return paddr


def _read(memory: Reader, paddr: int, size: int) -> bytes | None:
    with suppress(FaultError):
        return memory.pread(size, paddr)
    return None
