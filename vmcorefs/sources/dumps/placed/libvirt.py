"""What libvirt saves: a header and the domain's XML, and behind them QEMU's stream."""

from __future__ import annotations

from msgspec.structs import replace

from vmcorefs.core.formats.libvirt import HEADER_SIZE, parse_header
from vmcorefs.errors import FormatError, UnsupportedError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.qemu import open_qemu
from vmcorefs.sources.input import File


def open_libvirt(file: File) -> PlacedMemory:
    """Open what ``virsh save``, ``managedsave`` or a plain ``virsh dump`` wrote.

    The errors are those of ``open_qemu``.
    """
    try:
        header = parse_header(read_at(file)(0, HEADER_SIZE))
    except FormatError as error:
        raise FormatError(f"{file.name}: {error}") from error
    if header.codec:  # its bytes were to be taken as they are
        raise UnsupportedError(f"{file.name}: QEMU's stream in it is compressed by {header.codec}")
    opened = open_qemu(file, header.stream, "a virtual machine's state by libvirt, a QEMU stream")
    if header.is_partial and not opened.lost:
        return replace(opened, lost=f"{file.name}: libvirt has marked it as not complete")
    return opened
