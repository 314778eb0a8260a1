"""The header of a virtual machine that libvirt saved (libvirt's src/qemu/qemu_saveimage.h)."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from vmcorefs.core.formats.magics import LIBVIRT_PARTIAL
from vmcorefs.errors import FormatError

HEADER_SIZE: Final = 92
_VERSIONS: Final = (1, 2)
_RAW, _SPARSE = 0, 6
_COMPRESSED: Final = {1: "gzip", 2: "bzip2", 3: "xz", 4: "lzop", 5: "zstd"}


class Header(msgspec.Struct, frozen=True):
    """What the header says.

    Attributes:
        stream: Where QEMU's stream begins in the file.
        codec: What that is compressed by; empty if it is not.
        is_partial: Whether the file is marked as not complete.
    """

    stream: int
    codec: str
    is_partial: bool


def parse_header(data: bytes) -> Header:
    """Parse the header.

    Args:
        data: The first ``HEADER_SIZE`` bytes of the file.

    Raises:
        FormatError: if it cannot be true.
    """
    if len(data) < HEADER_SIZE:
        raise FormatError(f"{len(data)} bytes, less than libvirt's header")
    # of the machine that wrote it
    order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, 16)[0] in _VERSIONS), None)
    if order is None:
        raise FormatError(f"libvirt's header has the version {data[16:20].hex()}, expected 1 or 2")
    _version, length, _running, form = struct.unpack_from(f"{order}4I", data, 16)
    if form not in (_RAW, _SPARSE) and form not in _COMPRESSED:
        raise FormatError(f"libvirt's header has the unknown format {form}")
    codec = _COMPRESSED.get(form, "")
    return Header(HEADER_SIZE + length, codec, data.startswith(LIBVIRT_PARTIAL))
