"""VMCOREINFO that the user gives: its text, its note, or its address."""

from __future__ import annotations

import re

from vmcorefs.core.elf.notes import ByteOrder, find_vmcoreinfo, walk_notes
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.discovery.search.candidates import read_note
from vmcorefs.errors import ConfigError, FaultError, FormatError
from vmcorefs.reader import Reader
from vmcorefs.system.files import read_file

_MAX_SIZE = 1 << 17  # a page of 64 KiB, and a note's header
_ORDERS: tuple[ByteOrder, ...] = ("<", ">")
# it goes into the vmcore unchanged, so a whole dump that contains it is not accepted
_TEXT = re.compile(rb"(?:[\t\r\n\x20-\x7e]*\n)?OSRELEASE=[\t\r\n\x20-\x7e]*")
_ADDRESS = re.compile(rb"\s*(?:0x)?([0-9a-f]{1,16})\s+[0-9a-f]{1,8}\s*")


def given_vmcoreinfo(given: str | int) -> Vmcoreinfo | int:
    """Read the VMCOREINFO that the user gives.

    Args:
        given: A physical address; or the path of the text, of an ELF note, or of a copy of
            /sys/kernel/vmcoreinfo, which has the address (kernel/ksysfs.c).

    Returns:
        VMCOREINFO, or the physical address of its note.

    Raises:
        ConfigError: if the file cannot be read.
        FormatError: if it is none of these.
    """
    if isinstance(given, int):
        return given
    data = read_file(given, "VMCOREINFO", _MAX_SIZE)
    address = _ADDRESS.fullmatch(data)
    if address is not None:
        return int(address[1], 16)
    notes = (find_vmcoreinfo(walk_notes(data, order).notes) for order in _ORDERS)
    text = (next(filter(None, notes), data)).rstrip(b"\0")
    if not _TEXT.fullmatch(text):
        raise FormatError(
            f"{given}: starts with {data[:16]!r}, expected the text of VMCOREINFO, its note, or a"
            " copy of /sys/kernel/vmcoreinfo"
        )
    return parse_vmcoreinfo(text)


def vmcoreinfo_in_use(given: Vmcoreinfo | int | None, memory: Reader) -> Vmcoreinfo | None:
    """The VMCOREINFO that the user gives, read from memory if only its address is given.

    Raises:
        ConfigError: if it is not at its address.
        SourceIOError: if the image cannot be read.
    """
    if not isinstance(given, int):
        return given
    if given > MAX_ADDRESS:
        raise ConfigError(f"no VMCOREINFO note at {given:#x}")

    def read_memory(offset: int, size: int) -> bytes | None:
        try:
            return memory.pread(size, offset)
        except FaultError:
            return None

    note = read_note(read_memory, given)
    if note is None:
        raise ConfigError(f"no VMCOREINFO note at {given:#x}")
    return parse_vmcoreinfo(note[0])
