"""The headers of the kdump-compressed format, bytes to values and back.

A file consists, in blocks of one page of the crashed kernel, of a main header, a sub header
followed by the notes, and then (see ``descriptors.py``) the bitmaps, the page descriptors and the
pages (makedumpfile: IMPLEMENTATION, diskdump_mod.h; crash: diskdump.c; libkdumpfile: diskdump.c).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import asdict

from vmcorefs.core.formats.c_struct import LONG, Abi, layout, pack_struct, unpack_struct
from vmcorefs.core.formats.magics import KDUMP
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

HEADER_VERSION = 6
"""Written by makedumpfile since 1.5.6, and by QEMU and libvirt."""

MAX_HEADER_SIZE = 464
"""Bytes in the longest main header, that of a 64-bit machine."""

MAX_SUB_HEADER_SIZE = 104
"""Bytes in the longest sub header."""

MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 1 << 12, 1 << 18
"""Page sizes of the machines that Linux runs on, in bytes."""

U32_MAX = 2**32 - 1


class Utsname(msgspec.Struct, frozen=True):
    """The kernel's ``init_uts_ns.name``; each at most 64 bytes, without its NUL."""

    sysname: bytes = b""
    nodename: bytes = b""
    release: bytes = b""
    version: bytes = b""
    machine: bytes = b""
    domainname: bytes = b""


class MainHeader(msgspec.Struct, frozen=True):
    """``struct disk_dump_header``, with its own field names.

    Attributes:
        abi: How it is laid out.
        utsname: Of the crashed kernel; a file may leave it empty.
        block_size: Bytes in a block, which is a page of the crashed kernel.
        sub_hdr_size: Blocks of the sub header and the notes after it.
        bitmap_blocks: Blocks of both bitmaps together.
        max_mapnr: One more than the highest page frame number, truncated to 32 bits.
        tv_sec: When the machine crashed, or the dump was written; seconds since 1970.
        status: ``descriptors.Flag``.
    """

    abi: Abi
    utsname: Utsname
    block_size: int
    sub_hdr_size: int
    bitmap_blocks: int
    max_mapnr: int
    header_version: int = HEADER_VERSION
    tv_sec: int = 0
    tv_usec: int = 0
    status: int = 0
    total_ram_blocks: int = 0
    device_blocks: int = 0
    written_blocks: int = 0
    current_cpu: int = 0
    nr_cpus: int = 1


class SubHeader(msgspec.Struct, frozen=True):
    """``struct kdump_sub_header``, with its own field names; offsets and sizes in bytes.

    Attributes:
        phys_base: Physical address at which x86_64's kernel mapping begins, modulo 2**64.
        split: Not 0 if the file holds only the pages ``[start_pfn_64, end_pfn_64)``.
        start_pfn: ``start_pfn_64`` as a ``long``; ``end_pfn`` likewise.
        max_mapnr_64: One more than the highest page frame number.
    """

    phys_base: int = 0
    dump_level: int = 0
    split: int = 0
    start_pfn: int = 0
    end_pfn: int = 0
    offset_vmcoreinfo: int = 0
    size_vmcoreinfo: int = 0
    offset_note: int = 0
    size_note: int = 0
    offset_eraseinfo: int = 0
    size_eraseinfo: int = 0
    start_pfn_64: int = 0
    end_pfn_64: int = 0
    max_mapnr_64: int = 0


class KdumpHeaders(msgspec.Struct, frozen=True):
    """Both headers of a file."""

    main: MainHeader
    sub: SubHeader


def sub_header_size(abi: Abi) -> int:
    """Bytes in a sub header of version 6."""
    return layout(_SUB, abi).itemsize


def pack_main_header(main: MainHeader) -> bytes:
    """Encode the main header.

    Raises:
        OverflowError: if a field does not fit.
    """
    values = {"signature": KDUMP} | asdict(main) | asdict(main.utsname)
    return pack_struct(_MAIN, main.abi, values)


def pack_sub_header(sub: SubHeader, abi: Abi) -> bytes:
    """Encode the sub header.

    Raises:
        OverflowError: if a field does not fit.
    """
    return pack_struct(_SUB, abi, asdict(sub))


def parse_main_header(data: bytes) -> MainHeader:
    """Read the main header of any machine.

    The layout used is the one in which the sizes make sense, as in libkdumpfile (diskdump.c,
    ``open_common``).

    Args:
        data: The file's first bytes, at least ``MAX_HEADER_SIZE``.

    Raises:
        FormatError: if there is no such layout.
    """
    if data[: len(KDUMP)] != KDUMP or len(data) < MAX_HEADER_SIZE:
        raise FormatError(f"not a kdump header: starts with {data[:8]!r}, expected {KDUMP!r}")
    for abi in _abis():
        main = _unpack_main(abi, data)
        if _makes_sense(main):
            return main
    raise FormatError(
        "kdump header: block_size, sub_hdr_size, bitmap_blocks and max_mapnr make sense in no"
        " layout of 32 or 64 bits"
    )


def parse_sub_header(main: MainHeader, data: bytes) -> SubHeader:
    """Read the sub header; fields that its version lacks are 0, or come from the older fields.

    Args:
        main: The main header; if it is a 32-bit one, both alignments are tried.
        data: The bytes of block 1, at least ``MAX_SUB_HEADER_SIZE``.

    Raises:
        FormatError: if an offset or a size is absurd, or ``data`` is too short.
    """
    if len(data) < MAX_SUB_HEADER_SIZE:
        raise FormatError(f"kdump sub header: {len(data)} bytes, expected {MAX_SUB_HEADER_SIZE}")
    sub = _unpack_sub(main, main.abi, data)
    if main.abi.bits == 32 and not _notes_inside(main, sub):
        sub = _unpack_sub(main, Abi(main.abi.byte_order, 32, not main.abi.packed), data)
    told = ("offset_vmcoreinfo", "offset_note", "offset_eraseinfo", "max_mapnr_64")
    for name in (*told, *(("start_pfn_64", "end_pfn_64") if sub.split else ())):
        value = getattr(sub, name)
        if value > MAX_ADDRESS // MAX_BLOCK_SIZE:
            raise FormatError(f"kdump sub header: {name} is {value:#x}")
    return sub


_UTSNAME = tuple((name, "S65") for name in Utsname.__struct_fields__)
_MAIN = (
    ("signature", "S8"),
    ("header_version", "i4"),
    *_UTSNAME,
    ("tv_sec", LONG),
    ("tv_usec", LONG),
    ("status", "u4"),
    ("block_size", "i4"),
    ("sub_hdr_size", "i4"),
    ("bitmap_blocks", "u4"),
    ("max_mapnr", "u4"),
    ("total_ram_blocks", "u4"),
    ("device_blocks", "u4"),
    ("written_blocks", "u4"),
    ("current_cpu", "u4"),
    ("nr_cpus", "i4"),
)
_SUB = (
    ("phys_base", LONG),
    ("dump_level", "i4"),
    ("split", "i4"),
    ("start_pfn", LONG),
    ("end_pfn", LONG),
    ("offset_vmcoreinfo", "u8"),
    ("size_vmcoreinfo", LONG),
    ("offset_note", "u8"),
    ("size_note", LONG),
    ("offset_eraseinfo", "u8"),
    ("size_eraseinfo", LONG),
    ("start_pfn_64", "u8"),
    ("end_pfn_64", "u8"),
    ("max_mapnr_64", "u8"),
)
# header_version in which a field of the sub header appeared (diskdump_mod.h)
_SINCE = {
    **dict.fromkeys(("dump_level",), 1),
    **dict.fromkeys(("split", "start_pfn", "end_pfn"), 2),
    **dict.fromkeys(("offset_vmcoreinfo", "size_vmcoreinfo"), 3),
    **dict.fromkeys(("offset_note", "size_note"), 4),
    **dict.fromkeys(("offset_eraseinfo", "size_eraseinfo"), 5),
    **dict.fromkeys(("start_pfn_64", "end_pfn_64", "max_mapnr_64"), 6),
}


def _abis() -> Iterator[Abi]:
    for bits in (32, 64):
        for byte_order in ("<", ">"):
            yield Abi(byte_order, bits, packed=bits == 32)


def _unpack_main(abi: Abi, data: bytes) -> MainHeader:
    values = unpack_struct(_MAIN, abi, data)
    del values["signature"]
    names = {name: values.pop(name) for name, _kind in _UTSNAME}
    # a name ends at its first NUL; anything may follow
    utsname = Utsname(**{name: bytes(value).split(b"\0")[0] for name, value in names.items()})
    return MainHeader(abi=abi, utsname=utsname, **values)  # type: ignore[arg-type]


def _makes_sense(main: MainHeader) -> bool:
    block = main.block_size
    return (
        MIN_BLOCK_SIZE <= block <= MAX_BLOCK_SIZE
        and block & (block - 1) == 0
        and main.sub_hdr_size >= 1
        and main.header_version >= 0
        and 0 < main.max_mapnr <= 8 * main.bitmap_blocks * block
    )


def _unpack_sub(main: MainHeader, abi: Abi, data: bytes) -> SubHeader:
    values = unpack_struct(_SUB, abi, data)
    for name, since in _SINCE.items():
        if main.header_version < since:
            values[name] = 0
    if main.header_version < 6:
        values |= {
            "start_pfn_64": values["start_pfn"],
            "end_pfn_64": values["end_pfn"],
            "max_mapnr_64": main.max_mapnr,
        }
    return SubHeader(**values)  # type: ignore[arg-type]


def _notes_inside(main: MainHeader, sub: SubHeader) -> bool:
    """Whether VMCOREINFO and the notes lie behind the sub header: that tells the alignments apart.

    libkdumpfile looks at VMCOREINFO alone, which a dump with notes need not have.
    """
    end = (1 + main.sub_hdr_size) * main.block_size
    erased = bool(sub.offset_eraseinfo) == bool(sub.size_eraseinfo)
    places = ((sub.offset_vmcoreinfo, sub.size_vmcoreinfo), (sub.offset_note, sub.size_note))
    return erased and all(
        at == size == 0 or main.block_size < at <= end - size for at, size in places
    )
