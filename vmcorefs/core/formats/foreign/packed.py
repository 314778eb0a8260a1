"""Compressed files and archives.

The numbers are those of each format's specification: RFC 1950 (zlib), RFC 1952 (gzip), RFC 8878
(zstd), the documents of xz and lz4, APPNOTE.TXT (zip), POSIX pax (tar, cpio), ECMA-119 (ISO 9660).
"""

from __future__ import annotations

import zlib

from vmcorefs.core.formats.foreign.signature import FILE, NEW, Foreign, Signature, Start

_BLOCK = 512
_ENOUGH = 512
_PVD = 0x8000
_ZSTD_FRAME, _LZ4_FRAME, _OLD_LZ4_FRAME = (
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x02\x21\x4c\x18",
)


def _decompress(name: str, by: str) -> Foreign:
    return Foreign(f"data compressed by {name}", f"decompress it first: {by}", name)


def _unpack(what: str, by: str, wrapper: str = "") -> Foreign:
    return Foreign(what, f"take the memory out of it first: {by}", wrapper)


def _is_gzip(start: Start) -> bool:
    flags, system = start.number(3, 1), start.number(9, 1)
    return flags < 0x20 and (system <= 13 or system == 0xFF)


def _is_zlib(start: Start) -> bool:
    """Whether it can be decompressed: the magic of two bytes says too little."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(start.head, _ENOUGH)
    except zlib.error:
        return False
    return len(data) == _ENOUGH or (stream.eof and not stream.unused_data)


def _is_lzma(start: Start) -> bool:
    """The header of .lzma: properties, a dictionary's size, the size of what is in it."""
    dictionary, size = start.number(1, 4), start.number(5, 8)
    low = dictionary & -dictionary
    usual = dictionary >= 4096 and dictionary in (low, 3 * low)
    return usual and (size == 2**64 - 1 or 0 < size < 1 << 48) and start.number(13, 1) == 0


def _is_skipped_frame(start: Start) -> bool:
    """A frame that pzstd and others put first, to be skipped: its size, and then a true frame."""
    return start.head.startswith((_ZSTD_FRAME, _LZ4_FRAME), 8 + start.number(4, 4))


def _is_aff4(start: Start) -> bool:
    return b"aff4://" in start.head or b"container.description" in start.head


def _is_tar(start: Start) -> bool:
    """Whether the sum in the first header is right; tar of before POSIX has no magic."""
    header, text = start.head[:_BLOCK], start.head[148:156].strip(b" \0")
    if len(header) < _BLOCK or not header[0] or not text.isdigit() or set(text) & set(b"89"):
        return False
    return int(text, 8) == sum(header[:148]) + 8 * 0x20 + sum(header[156:])


def _is_cpio_binary(start: Start) -> bool:
    big = start.head[:1] == b"\x71"
    mode, length = start.number(6, 2, big=big), start.number(20, 2, big=big)
    name = start.head[26 : 26 + length]
    kinds = (0o01, 0o02, 0o04, 0o06, 0o10, 0o12, 0o14)
    return mode >> 12 in kinds and 1 < length <= 4096 and name.find(b"\0") == length - 1


def _is_iso(start: Start) -> bool:
    """Whether nothing is before its descriptors but a boot sector or a partition map.

    Memory may hold what firmware has read from a disc, wherever it read that to.
    """
    system = start.head[:_PVD]
    return not any(system) or system[510:512] == b"\x55\xaa" or system[:2] == b"ER"


_ISO = _unpack(
    "a disc image (ISO 9660)", f"mount -o loop,ro {FILE} DIRECTORY, or bsdtar -xf {FILE}"
)
_TAR = _unpack("a tar archive", f"tar -xf {FILE}", "tar")
_CPIO = _unpack("a cpio archive", f"cpio -i <{FILE}")
_ZIP = _unpack("a zip archive", f"unzip {FILE}", "zip")
_LZ4 = _decompress("lz4", f"lz4 -d {FILE} {NEW}")
_ZSTD = _decompress("zstd", f"zstd -d {FILE} -o {NEW}")
_DEB = Foreign("an ar archive, such as a Debian package", f"unpack it: ar x {FILE}, or dpkg -x")

PACKED = (
    Signature(_decompress("gzip", f"gunzip <{FILE} >{NEW}"), (b"\x1f\x8b\x08",), check=_is_gzip),
    Signature(
        _decompress("bzip2", f"bunzip2 <{FILE} >{NEW}"),
        tuple(b"BZh%d" % n + magic for n in range(1, 10) for magic in (b"1AY&SY", b"\x17rE8P\x90")),
    ),
    Signature(_decompress("xz", f"xz -d <{FILE} >{NEW}"), (b"\xfd7zXZ\0",)),
    Signature(
        _decompress("lzma", f"xz -d --format=lzma <{FILE} >{NEW}"), (b"\x5d\0\0",), check=_is_lzma
    ),
    Signature(
        _decompress("zlib", f"pigz -dz <{FILE} >{NEW}"),
        (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
        check=_is_zlib,
    ),
    Signature(_decompress("lzip", f"lzip -d <{FILE} >{NEW}"), (b"LZIP\0", b"LZIP\1")),
    Signature(_decompress("lrzip", f"lrzip -d -o {NEW} {FILE}"), (b"LRZI\0",)),
    Signature(_ZSTD, (_ZSTD_FRAME,)),
    Signature(
        _ZSTD,
        tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16)),
        check=_is_skipped_frame,
    ),
    Signature(_LZ4, (_LZ4_FRAME, _OLD_LZ4_FRAME)),
    Signature(_decompress("lzop", f"lzop -d <{FILE} >{NEW}"), (b"\x89LZO\0\r\n\x1a\n",)),
    # in blocks, of codes of 9 to 16 bits
    Signature(
        _decompress("compress", f"uncompress <{FILE} >{NEW}"),
        tuple(bytes([0x1F, 0x9D, 0x80 + bits]) for bits in range(9, 17)),
    ),
    Signature(
        _decompress("snappy", f"a program for its framed format, such as snzip -d <{FILE} >{NEW}"),
        (b"\xff\x06\0\0sNaPpY",),
    ),
    Signature(_unpack("a 7-Zip archive", f"7z x {FILE}"), (b"7z\xbc\xaf\x27\x1c",)),
    Signature(
        _unpack("a rar archive", f"unrar x {FILE}"), (b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\1\0")
    ),
    Signature(
        Foreign(
            "an AFF4 container, as winpmem and linpmem write",
            f"export the memory in it as raw memory first, with the program that wrote {FILE}",
        ),
        (b"PK\3\4",),
        check=_is_aff4,
    ),
    Signature(_ZIP, (b"PK\3\4", b"PK\5\6" + bytes(16), b"PK\x07\x08PK\3\4")),
    Signature(_unpack("a cabinet archive", f"cabextract {FILE}"), (b"MSCF\0\0\0\0",)),
    Signature(_TAR, (b"",), check=_is_tar),
    Signature(_CPIO, (b"070701", b"070702", b"070707")),
    Signature(_CPIO, (b"\xc7\x71", b"\x71\xc7"), check=_is_cpio_binary),
    Signature(_DEB, (b"!<arch>\n",)),
    Signature(
        Foreign("an RPM package", f"unpack it: rpm2cpio {FILE} | cpio -id"), (b"\xed\xab\xee\xdb",)
    ),
    Signature(_ISO, (b"CD001\1", b"BEA01\1", b"NSR02\1", b"NSR03\1"), at=_PVD + 1, check=_is_iso),
)
"""The first that fits is it."""
