"""What the kernel and its drivers noted of the hardware, beside the log."""

from __future__ import annotations

from typing import Final

from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.types.btf import read_enumerators, read_structs
from vmcorefs.errors import FormatError
from vmcorefs.kernel.kernel import Kernel
from vmcorefs.kernel.notes import CrashNotes
from vmcorefs.reports.report.schema import DeviceDump, Recovered

_COUNTED: Final = "HWERR_RECOV_"
_KINDS: Final = ("CPU", "MEMORY", "PCI", "CXL", "OTHERS")  # include/uapi/linux/vmcore.h
_NT_VMCOREDD: Final = 0x700  # include/uapi/linux/elf.h
_SECONDS: Final = 1 << 33  # more since 1970 is no time
_NAME_SIZE: Final = 44  # VMCOREDD_MAX_NAME_BYTES (include/uapi/linux/vmcore.h)


def read_recovered(kernel: Kernel) -> list[Recovered] | None:
    """The errors that the kernel counted (kernel/vmcore_info.c, ``hwerr_data``), those that were.

    None if it counts none, as before 6.19.

    Raises:
        VmcorefsError: if they cannot be read.
    """
    place = kernel.symbols.lookup("hwerr_data")
    return None if place is None else recovered_errors(kernel.image, place, kernel.types)


def recovered_errors(memory: KernelMemory, place: int, types: bytes) -> list[Recovered]:
    """The errors that are counted at an address, by the kernel's BTF.

    Raises:
        VmcorefsError: if they cannot be read.
    """
    info = read_structs(types, memory.byte_order, ["hwerr_info"])["hwerr_info"]
    names = {f"{_COUNTED}{kind}": kind.lower() for kind in _KINDS}
    found = []
    for name, row in read_enumerators(types, memory.byte_order, names).items():
        if not 0 <= row < len(_KINDS):
            raise FormatError(f"BTF: {name} is {row}, expected less than {len(_KINDS)}")
        one = place + row * info.size
        count = memory.integer(one + info.offset("count"), 4)
        time = memory.integer(one + info.offset("timestamp"), 8)
        if time >= _SECONDS:
            raise FormatError(f"hwerr_data: the last {names[name]} error was at {time}")
        if count:
            found.append(Recovered(names[name], count, time))
    return found


def find_device_dumps(notes: CrashNotes) -> list[DeviceDump]:
    """What drivers saved of their devices (fs/proc/vmcore.c, ``vmcore_add_device_dump``)."""
    return [
        DeviceDump(
            note.desc[:_NAME_SIZE].partition(b"\0")[0].decode("utf-8", "backslashreplace"),
            max(len(note.desc) - _NAME_SIZE, 0),
        )
        for slot in notes.slots
        for note in slot.notes
        if note.name.rstrip(b"\0") == b"LINUX" and note.note_type == _NT_VMCOREDD
    ]
