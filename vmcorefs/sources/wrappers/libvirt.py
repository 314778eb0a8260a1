"""QEMU's stream behind libvirt's header, where it is compressed and is to be unwrapped."""

from __future__ import annotations

from vmcorefs.core.formats.libvirt import HEADER_SIZE, parse_header
from vmcorefs.core.formats.magics import LIBVIRT, LIBVIRT_PARTIAL
from vmcorefs.errors import FormatError
from vmcorefs.sources.base import read_at
from vmcorefs.sources.input import File
from vmcorefs.sources.wrappers.archives import Member
from vmcorefs.system.progress import Progress

WRAPPER = "libvirt's header"


def is_compressed(head: bytes) -> bool:
    """Whether a file is of libvirt's, with a compressed stream in it.

    Args:
        head: Its first bytes, at least ``HEADER_SIZE``.
    """
    try:
        known = head.startswith((LIBVIRT, LIBVIRT_PARTIAL))
        return known and bool(parse_header(head[:HEADER_SIZE]).codec)
    except FormatError:
        return False


def open_stream(file: File, progress: Progress) -> Member:
    """The stream, as it is compressed.

    Args:
        file: Of libvirt's; closed with what is returned.
        progress: Not told: only the header is read.

    Raises:
        FormatError: if the file is cut before the stream.
    """
    del progress
    header = parse_header(read_at(file)(0, HEADER_SIZE))
    size = file.size - header.stream
    if size <= 0:
        raise FormatError(f"{file.name}: {file.size} bytes, which end within libvirt's header")
    stream = Member(file, WRAPPER, "stream", size, [(0, size, header.stream)])
    if header.is_partial:
        stream.damage = "libvirt has marked it as not complete"
    return stream
