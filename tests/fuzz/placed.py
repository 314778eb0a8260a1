"""Formats that have memory by physical address."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.builders.cloud_hypervisor import pack_state
from tests.builders.lime import header, pack_avml, pack_lime
from tests.builders.lkcd import pack_lkcd
from tests.builders.qemu import (
    REGISTERS,
    block_list,
    capabilities,
    configuration,
    pack_libvirt,
    pack_mapped,
    pack_stream,
    start,
)
from tests.builders.s390 import header as header_of_s390, pack_extended, pack_s390
from tests.builders.sadump import pack_sadump
from tests.builders.vmware import pack_cpus, pack_vmss
from tests.builders.xen import pack_xen
from tests.fuzz.dumps import BytesFile
from tests.fuzz.target import target
from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.registers import encode_prstatus
from vmcorefs.core.formats.cloud_hypervisor import parse_state
from vmcorefs.core.formats.ramdump import parse_table
from vmcorefs.core.space.extents import Kind, validate
from vmcorefs.core.space.ranges import subtract
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import SourceIOError
from vmcorefs.reader import Reader
from vmcorefs.sources.dumps.placed.libvirt import open_libvirt
from vmcorefs.sources.dumps.placed.lime import open_avml, open_lime
from vmcorefs.sources.dumps.placed.lkcd import open_lkcd
from vmcorefs.sources.dumps.placed.memory import PlacedMemory
from vmcorefs.sources.dumps.placed.qemu import open_qemu
from vmcorefs.sources.dumps.placed.s390 import open_s390
from vmcorefs.sources.dumps.placed.sadump import open_sadump
from vmcorefs.sources.dumps.placed.vmware import open_vmware
from vmcorefs.sources.dumps.placed.xen import open_xen
from vmcorefs.sources.input import File

HUGE = (1 << 64) - 1
_MOST_READ = 1 << 20
_RANGES = [(0x1000, bytes(range(256)) * 16), (0x10000, bytes(0x3000))]


def check(open_it: Callable[[File], PlacedMemory], data: bytes) -> None:
    """Open a file, and read some of every range."""
    placed = open_it(BytesFile("dump", data))
    held = validate(placed.held).only(Kind.DATA)
    if len(placed.ram):
        assert placed.ram.max() <= MAX_ADDRESS
        assert not len(subtract(held.ranges, placed.ram))
    if placed.cpus is not None:
        for registers in placed.cpus.cpus:
            assert encode_prstatus(1, registers, placed.cpus.machine, "<")
    memory = Reader("memory", placed.held, placed.sources)
    left = _MOST_READ
    rows = (held.start, held.size, held.source)
    for first, size, source in zip(*(row.tolist() for row in rows), strict=True):
        assert size <= placed.sources[source].size
        step = min(size, 4096, left)
        for at in {first, first + size - step}:
            try:
                assert len(memory.pread(step, at)) == step
            except SourceIOError as error:
                assert str(error)  # noqa: PT017  # it must say something
        left -= step


@target(
    "lime",
    valid=[pack_lime(_RANGES), pack_lime(_RANGES)[:-9], pack_lime(_RANGES) + bytes(99)],
    nasty=[
        b"EMiL\1\0\0\0" * 99,
        header(0, HUGE) * 2,
        header(0, MAX_ADDRESS - 1) * 2,
        b"".join(header(n, n) for n in range(99)),
    ],
)
def _lime(data: bytes) -> None:
    check(open_lime, data)


_PAGES = b"".join(bytes([n]) * 4096 for n in (1, 2, 0, 0, 3))
_BLOCKS = start() + block_list({"pc.ram": 1 << 61})


@target(
    "qemu-stream",
    valid=[
        pack_stream(_PAGES),
        pack_stream(_PAGES, {"vga.vram": bytes(4096)}, _PAGES[::-1], [0, 0x2000])[:-6000],
        pack_mapped(_PAGES),
    ],
    nasty=[
        pack_stream(_PAGES, devices=b"\0\6\0\0\0\x0c{" * 999),
        configuration() + start() + block_list({"pc.ram": 1 << 61}) + struct.pack(">Q", 2) * 99,
        configuration() + start() + struct.pack(">QB6sQ", HUGE - 4091, 6, b"pc.ram", HUGE),
        configuration("pc", capabilities("mapped-ram"))
        + _BLOCKS
        + struct.pack(">IQQQ", 1, 4096, 200, 1 << 60),
    ],
)
def _qemu(data: bytes) -> None:
    check(open_qemu, data)


@target(
    "libvirt-save",
    valid=[pack_libvirt(pack_stream(_PAGES))],
    nasty=[pack_libvirt(b"", 5), b"LibvirtQemudSave" + b"\xff" * 99],
)
def _libvirt(data: bytes) -> None:
    check(open_libvirt, data)


@target(
    "vmware-state",
    valid=[
        pack_vmss(memory=bytes(9999)),
        pack_vmss(memory=bytes(4096), cpus=pack_cpus(REGISTERS)),
        pack_vmss(memory=bytes(4096), cpus=pack_cpus(REGISTERS, in_blocks=False)),
        pack_vmss([(0, 0, 4096), (0x10000, 4096, 4096)], bytes(8192)),
        pack_vmss([(0, 0, 1 << 40)], bytes(4096)),
    ],
    nasty=[
        pack_vmss([(0, 0, 8192), (4096, 4096, 4096)], bytes(8192)),
        struct.pack("<3I64sQQ", 0xBED2BED2, 8, 1, b"memory", HUGE, HUGE),
        struct.pack("<3I64sQQ", 0xBED2BED2, 8, 1, b"memory", 92, HUGE) + b"\x3f\0" * 999,
    ],
)
def _vmware(data: bytes) -> None:
    check(open_vmware, data)


@target(
    "ramdump-table",
    valid=[b"1 0x40000000 2147483648 DDR CS0 DDRCS0_0.BIN\r\n 1 0x0 9 DDR  EBI1CS1.BIN"],
    nasty=[b"1 0xffffffffffffffff 99999999999999999999 DDR DDRCS0_0.BIN"],
)
def _ramdump_table(data: bytes) -> None:
    for part in parse_table(data):
        assert 0 < part.size <= MAX_ADDRESS - part.paddr
        assert "/" not in part.name


_XEN = [(n, bytes([n]) * 4096) for n in (3, 4, 1, 9)]


@target(
    "xen-core",
    valid=[pack_xen(_XEN, cpus=REGISTERS), pack_xen(_XEN, paravirtual=True)],
    nasty=[pack_xen(_XEN)[:-9], pack_xen([(1 << 63, bytes(4096))]), pack_xen(_XEN * 2)],
)
def _xen(data: bytes) -> None:
    check(open_xen, data)


_S390 = [(0, b"ab" * 4096), (0x10000, bytes(8192))]


@target(
    "s390-dump",
    valid=[
        pack_s390(bytes(8192)),
        pack_extended(1 << 17, _S390),
        pack_extended(1 << 17, _S390, entry=8192),
        pack_extended(1 << 17, _S390)[:-9000],
    ],
    nasty=[
        header_of_s390(1 << 61, extended=True, entry=4096) + struct.pack(">QQQI", 0, 1 << 60, 0, 1),
        pack_extended(1 << 17, _S390, entry=4096).replace(b"\0\0\0\1\0", b"\xff\0\0\1\0"),
    ],
)
def _s390(data: bytes) -> None:
    check(open_s390, data)


_LKCD = [(n * 4096, bytes([n]) * 4096) for n in (3, 4, 1, 0)]


@target(
    "lkcd",
    valid=[
        pack_lkcd(_LKCD, 7, 1, ">"),
        pack_lkcd(_LKCD, first=4096),
        pack_lkcd(_LKCD, 10, 1, first=4096, end=False),
    ],
    nasty=[
        pack_lkcd([(HUGE - 4095, bytes(4096))], first=4096),
        pack_lkcd(_LKCD * 2, 9, 0, first=1024)[:-30],
    ],
)
def _lkcd(data: bytes) -> None:
    check(open_lkcd, data)


_DISKS = pack_sadump(bytes(9 * 4096), range(9), {2, 3, 7}, cuts=[1], cpus=REGISTERS)
(_DISK,) = pack_sadump(bytes(9 * 4096), range(9), {2, 3, 7}, cpus=REGISTERS)


@target("sadump", valid=[_DISK, _DISK[:-4096]], nasty=[_DISKS[0], _DISK[:9000]])
def _sadump(data: bytes) -> None:
    check(lambda file: open_sadump([file]), data)


@target(
    "sadump-set",
    valid=[_DISKS[0][4096:], _DISKS[0][4096:-4096]],
    nasty=[b"\xff" * 4096, struct.pack("<II", 1, 2) + b"\xff" * 9000],
)
def _sadump_set(data: bytes) -> None:
    disks = [BytesFile("first", _DISKS[0][:4096] + data), BytesFile("second", _DISKS[1])]
    placed = open_sadump(disks)
    assert not len(subtract(placed.held.only(Kind.DATA).ranges, placed.ram))


@target(
    "cloud-hypervisor-state",
    valid=[pack_state([(0, 4096), (1 << 32, 1 << 40)], REGISTERS)],
    nasty=[pack_state([(-1, 4096)]), pack_state([(0, 1 << 63)]), b"[" * 9999],
)
def _cloud_hypervisor_state(data: bytes) -> None:
    found = parse_state(data)
    for first, size in found.ranges if found is not None else ():
        assert 0 < size <= MAX_ADDRESS - first
    for registers in found.cpus.cpus if found is not None and found.cpus is not None else ():
        assert encode_prstatus(1, registers, EM_X86_64, "<")


_STREAM = pack_avml(_RANGES)[32:42]


@target(
    "avml",
    valid=[pack_avml(_RANGES), pack_avml(_RANGES)[:-9], pack_avml(_RANGES[:1])[:50]],
    nasty=[
        header(0, MAX_ADDRESS - 1, b"AVML", 2) + _STREAM + b"\0\0\0\0" * 99,
        header(0, 0xFFF, b"AVML", 2) + _STREAM + struct.pack("<I", 0xFFFFFF00),
        header(0, 0xFFFF, b"AVML", 2) + _STREAM + b"\0\x0a\0\0cccc\x80\x80\4abc",
    ],
)
def _avml(data: bytes) -> None:
    check(open_avml, data)
