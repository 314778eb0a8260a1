"""The line that /proc/version printed, read from the kernel's memory.

It is ``linux_banner`` (init/version-timestamp.c, before 6.2 init/version.c): the release, who built
the kernel and with which compiler, and the version. Without symbols only ``init_uts_ns`` can be
found, through VMCOREINFO (since 5.11); it lacks the builder and the compiler.
"""

from __future__ import annotations

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_BANNER = 1 << 12
"""Longest banner accepted, in bytes; distributions' have 150 to 250."""

_STEP = 64  # reads end at multiples of this, so none runs into memory that is not there
_UTS_FIELD = 65  # __NEW_UTS_LEN and a NUL (include/uapi/linux/utsname.h)


def read_banner(memory: KernelMemory, vaddr: int) -> bytes:
    """Read ``linux_banner``, including its newline.

    Args:
        memory: The kernel's virtual memory; its image is enough.
        vaddr: Of ``linux_banner``.

    Raises:
        FormatError: if it is not one line that starts with ``Linux version``.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    text = b""
    while b"\n" not in text and len(text) < MAX_BANNER:
        at = vaddr + len(text)
        text += memory.read(at, _STEP - at % _STEP)
    line, newline, _ = text.partition(b"\n")
    if not newline or not line.startswith(b"Linux version ") or not _is_printable(line):
        raise FormatError(f"linux_banner at {vaddr:#x} is {text[:40]!r}, expected Linux version")
    return line + newline


def names_uts(vmcoreinfo: Vmcoreinfo) -> bool:
    """Whether VMCOREINFO says where the kernel's ``struct new_utsname`` is."""
    return {"SYMBOL(init_uts_ns)", "OFFSET(uts_namespace.name)"} <= vmcoreinfo.values.keys()


def read_uts(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> bytes:
    """Make the same line as far as ``init_uts_ns`` allows: ``Linux version RELEASE VERSION``.

    Args:
        vmcoreinfo: The kernel's; it says where ``init_uts_ns`` is.
        memory: The kernel's virtual memory; its image is enough.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or a field is empty, unprintable or too long.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    start = vmcoreinfo.symbol("init_uts_ns") + vmcoreinfo.offset("uts_namespace.name")
    stored = memory.read(start, 4 * _UTS_FIELD)
    # the second field, the node's name, is not in /proc/version
    sysname, _, release, version = (
        stored[at : at + _UTS_FIELD] for at in range(0, len(stored), _UTS_FIELD)
    )
    fields = []
    for name, field in {"sysname": sysname, "release": release, "version": version}.items():
        value, nul, _ = field.partition(b"\0")
        if not value or not nul or not _is_printable(value):
            raise FormatError(f"init_uts_ns: {name} is {field[:40]!r}, expected a name")
        fields.append(value)
    return b"%s version %s %s\n" % (fields[0], fields[1], fields[2])


def _is_printable(text: bytes) -> bool:
    return all(0x20 <= code < 0x7F for code in text)
