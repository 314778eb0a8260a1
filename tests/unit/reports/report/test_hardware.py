"""What the kernel and its drivers noted of the hardware."""

from __future__ import annotations

import struct

import pytest

from tests.builders import btf
from tests.builders.kernels import virtual
from vmcorefs.core.elf.notes import NT_PRSTATUS, Note
from vmcorefs.errors import FormatError
from vmcorefs.kernel.notes import CrashNotes, NoteSlot
from vmcorefs.reports.report.hardware import find_device_dumps, recovered_errors
from vmcorefs.reports.report.schema import DeviceDump, Recovered

_PLACE = 0xFFFFFFFF82000000


def _slot(*notes: Note) -> NoteSlot:
    return NoteSlot(0, b"", notes, 0)


def test_what_drivers_saved_of_their_devices() -> None:
    dump = b"cxgb4_0000:04:00.4\0".ljust(44, b"\0") + bytes(4096)
    notes = CrashNotes(
        (
            _slot(Note(b"LINUX\0\0", 0x700, dump, 0)),
            _slot(Note(b"CORE", NT_PRSTATUS, bytes(336), 0), Note(b"LINUX", 0x202, bytes(8), 356)),
            _slot(Note(b"LINUX", 0x700, b"short", 0)),
        )
    )
    assert find_device_dumps(notes) == [
        DeviceDump("cxgb4_0000:04:00.4", 4096),
        DeviceDump("short", 0),
    ]


def _types(memory: int = 1) -> bytes:
    types = btf.Writer()
    types.add(btf.INT, "int", 4, [32])
    types.add_struct("hwerr_info", 16, [("count", 1, 0), ("timestamp", 1, 64)])
    kinds = [("HWERR_RECOV_CPU", 0), ("HWERR_RECOV_MEMORY", memory), ("HWERR_RECOV_PCI", 2)]
    types.add_list(btf.ENUM, "hwerr_error_type", 4, [*kinds, ("HWERR_RECOV_MAX", 5)])
    return types.finish()


def _counted(*rows: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<i4xq", *row) for row in rows)


def test_errors_that_the_kernel_counted() -> None:
    memory = virtual({_PLACE: _counted((3, 1700000000), (0, 0), (1, 1700000100), (9, 9), (9, 9))})
    assert recovered_errors(memory, _PLACE, _types()) == [
        Recovered("cpu", 3, 1700000000),
        Recovered("pci", 1, 1700000100),
    ]


def test_a_count_that_is_none_is_refused() -> None:
    memory = virtual({_PLACE: _counted((3, 1 << 40))})
    with pytest.raises(FormatError, match=f"the last cpu error was at {1 << 40}"):
        recovered_errors(memory, _PLACE, _types())
    memory = virtual({_PLACE: _counted((0, 0))})
    with pytest.raises(FormatError, match="HWERR_RECOV_MEMORY is 70000, expected less than 5"):
        recovered_errors(memory, _PLACE, _types(memory=70000))
