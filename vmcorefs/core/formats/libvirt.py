"""The header of a virtual machine that libvirt saved (libvirt's src/qemu/qemu_saveimage.h)."""

from __future__ import annotations

import shlex
import struct
from typing import Final

import msgspec

from vmcorefs.errors import FormatError, UnsupportedError

MAGIC: Final = b"LibvirtQemudSave"
PARTIAL: Final = b"LibvirtQemudPart"
"""The magic of a file that is not complete yet."""

HEADER_SIZE: Final = 92
_VERSIONS: Final = (1, 2)
_RAW, _SPARSE = 0, 6
_COMPRESSED: Final = {
    1: ("gzip", "gunzip"),
    2: ("bzip2", "bunzip2"),
    3: ("xz", "xz -d"),
    4: ("lzop", "lzop -d"),
    5: ("zstd", "zstd -d"),
}


class Header(msgspec.Struct, frozen=True):
    """What the header says.

    Attributes:
        stream: Where QEMU's stream begins in the file.
        is_partial: Whether the file is marked as not complete.
    """

    stream: int
    is_partial: bool


def parse_header(data: bytes, name: str) -> Header:
    """Parse the header.

    Args:
        data: The first ``HEADER_SIZE`` bytes of the file.
        name: The file's, for advice.

    Raises:
        FormatError: if it cannot be true.
        UnsupportedError: if the stream is compressed.
    """
    if len(data) < HEADER_SIZE:
        raise FormatError(f"{len(data)} bytes, less than libvirt's header")
    # of the machine that wrote it
    order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, 16)[0] in _VERSIONS), None)
    if order is None:
        raise FormatError(f"libvirt's header has the version {data[16:20].hex()}, expected 1 or 2")
    _version, length, _running, form = struct.unpack_from(f"{order}4I", data, 16)
    stream = HEADER_SIZE + length
    if form in _COMPRESSED:
        codec, by = _COMPRESSED[form]
        raise UnsupportedError(
            f"a virtual machine that libvirt saved, compressed by {codec}: decompress QEMU's stream"
            f" first: tail -c +{stream + 1} {shlex.quote(name)} | {by} >NEW"
        )
    if form not in (_RAW, _SPARSE):
        raise FormatError(f"libvirt's header has the unknown format {form}")
    return Header(stream, data.startswith(PARTIAL))
