"""What users give that is not memory: settings, VMCOREINFO in a file, words; a dump's headers."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.builders import dead_machines
from tests.builders.dumps import MemoryOutput, Watch, small_dump
from tests.fuzz.target import target
from vmcorefs.capture.settings import parse_duration, parse_settings
from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.formats.c_struct import Abi
from vmcorefs.core.formats.kdump.descriptors import places
from vmcorefs.core.formats.kdump.headers import (
    MAX_HEADER_SIZE,
    MAX_SUB_HEADER_SIZE,
    MainHeader,
    SubHeader,
    Utsname,
    pack_main_header,
    pack_sub_header,
    parse_main_header,
    parse_sub_header,
    sub_header_size,
)
from vmcorefs.core.space.extents import Kind
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.discovery.vmcoreinfo import given_vmcoreinfo
from vmcorefs.errors import FormatError, VmcorefsError
from vmcorefs.fuse.serve import parse_mount_options
from vmcorefs.output.ssh import parse_place
from vmcorefs.piece import Piece
from vmcorefs.reader import Reader
from vmcorefs.save.codecs import find_codec
from vmcorefs.save.command import parse_levels
from vmcorefs.save.formats.kdump import KdumpFormat
from vmcorefs.sources.registry import RawMemory, open_inputs

SHIPPED = Path(__file__).parents[2] / "systemd" / "vmcorefs.toml"


@target(
    "settings",
    valid=[
        b"",
        SHIPPED.read_bytes(),
        b'[target]\nurl = "ssh://crash@host/srv/crash"\n[keep]\nfree = "1G"\n',
    ],
    nasty=[
        b"[target]\nwait = '" + b"9" * 5000 + b"'\n",
        b"[target]\ndirectory = 'x'\nfilesystem = ''\n",
        b"[target]\nurl = 's3://\xc2\x80/\\u0000'\n",
        b"[dump]\nlevel = 99999999999999999999\n",
        b"[keep]\ndumps = -1\nfree = '9999999999999999999P'\n",
        b"[dump]\nlevels = 31\n",
        b"[" * 3000,
        b"a." * 3000 + b"a = 1\n",
        b"[load]\nkernel = '{release!r:{release}}'\n",
    ],
)
def _settings(data: bytes) -> None:
    settings = parse_settings(_text(data))
    assert parse_duration(settings.target.wait) > 0
    assert settings.keep.dumps >= 0


@target(
    "given-vmcoreinfo",
    valid=[
        dead_machines.vmcoreinfo_text(),
        dead_machines.vmcoreinfo_note(dead_machines.vmcoreinfo_text()),
        dead_machines.vmcoreinfo_note(dead_machines.vmcoreinfo_text(), ">"),
        b"11dc000 1024\n",
    ],
    nasty=[b"", b"\0" * 64, b"ffffffffffffffffff 1024\n", b"=\n", b"A=" + b"9" * (1 << 17)],
)
def _given_vmcoreinfo(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="vmcorefs-fuzz.") as directory:
        path = Path(directory, "vmcoreinfo")
        path.write_bytes(data)
        given = given_vmcoreinfo(str(path))
    assert isinstance(given, Vmcoreinfo) or 0 <= given < 1 << 64


@target(
    "more-words",
    valid=[b"31", b"0,1,31", b"ssh://a@b:22/c", b"30min", b"plane=mapped,direct_io"],
    nasty=[b"", b"9" * 5000, b",", b"ssh://a:b@c/d", b"ssh://[::]/%00", b"0s", "²".encode()],
)
def _more_words(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    parsers: list[Callable[[str], object]] = [
        parse_levels, parse_place, parse_duration,
        lambda word: parse_mount_options("/mnt", [word], allow_other=False),
    ]  # fmt: skip
    refused = 0
    for parse in parsers:
        try:
            parse(text)
        except VmcorefsError:
            refused += 1
    if refused == len(parsers):
        raise FormatError(f"{text!r} is no level, place, time or mount option")


def _headers(abi: Abi) -> bytes:
    main = MainHeader(abi, Utsname(), 4096, 1, 2, 1000)
    packed = pack_main_header(main).ljust(4096, b"\0")
    return packed + pack_sub_header(SubHeader(max_mapnr_64=1000), abi).ljust(4096, b"\0")


@target(
    "kdump-headers",
    valid=[_headers(Abi("<", 64)), _headers(Abi(">", 64)), _headers(Abi("<", 32))],
    nasty=[
        b"KDUMP   " + b"\xff" * 8192,
        b"KDUMP   " + b"\0" * 8192,
        _headers(Abi("<", 64))[:500],
        b"KDUMP   ",
    ],
)
def _kdump_headers(data: bytes) -> None:
    main = parse_main_header(data)
    assert main.block_size % 4096 == 0
    assert MAX_HEADER_SIZE <= main.block_size <= 1 << 20
    assert pack_main_header(main)[:8] == data[:8]
    sub = parse_sub_header(main, data[main.block_size :][:MAX_SUB_HEADER_SIZE])
    assert sub_header_size(main.abi) <= MAX_SUB_HEADER_SIZE
    assert 0 <= sub.max_mapnr_64 <= MAX_ADDRESS
    where = places(main, max(sub.max_mapnr_64, 1))
    assert where is not None


def _kdump(codec: str) -> bytes:
    output = MemoryOutput()
    KdumpFormat(find_codec(codec), 1)(small_dump(((0, 16 * 4096),)), [output], Watch())
    return bytes(output.data)


def _flattened(data: bytes) -> bytes:
    """As makedumpfile writes it: a page of header, then big-endian (offset, size) and data."""
    head = b"makedumpfile\0\0\0\0" + struct.pack(">QQ", 1, 1)
    end = struct.pack(">qq", -1, -1)
    return head.ljust(4096, b"\0") + struct.pack(">qq", 0, len(data)) + data + end


KDUMP = _kdump("zlib")


@target(
    "dump-files",
    valid=[KDUMP, _kdump("none"), _kdump("lzo"), _kdump("snappy"), _kdump("zstd"),
           _flattened(KDUMP)],
    nasty=[
        KDUMP[:4096],
        KDUMP[:-3],
        KDUMP[:8192] + b"\xff" * 8192 + KDUMP[16384:],  # the bitmaps say that all is there
        # found by damaging dumps: the second of two parts, up to a page that cannot be
        KDUMP[:4108] + struct.pack("<I", 1) + KDUMP[4112:4176] + b"\xff" * 16 + KDUMP[4192:],
        KDUMP[:16384] + b"\xff" * (len(KDUMP) - 16384),
        _flattened(KDUMP)[:-16],
        _flattened(_flattened(KDUMP)),
        _flattened(b"")[:-16] + struct.pack(">qq", 1 << 62, 1 << 62) + b"x",
        _flattened(b"")[:-16] + struct.pack(">qq", 8, -8) * 100,
        _flattened(b"x" * 64)[:-16] * 30,
    ],
)  # fmt: skip
def _dump_files(data: bytes) -> None:
    """Whatever is told of pages, none is longer than a page, and each is read or an error."""
    with tempfile.TemporaryDirectory(prefix="vmcorefs-fuzz.") as directory:
        path = Path(directory, "dump")
        path.write_bytes(data)
        dump = open_inputs([Piece(str(path))], ram_end=None)
        if isinstance(dump, RawMemory):
            for source in dump.sources:
                source.close()
            raise FormatError("raw memory")
        try:
            reader = Reader("memory", dump.memory, dump.sources)
            held = dump.memory.only(Kind.DATA)
            for row in range(min(len(held), 64)):
                buffer = memoryview(bytearray(min(int(held.size[row]), 4096)))
                with suppress(VmcorefsError):
                    reader.pread_into(int(held.start[row]), buffer)
        finally:
            dump.close()


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(str(error)) from None
