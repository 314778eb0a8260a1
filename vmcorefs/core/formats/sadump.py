"""Dumps by sadump, the firmware of Fujitsu's servers: on one disk, or on a set of disks.

A disk begins with a header of its own, then a set's first disk has a list of all; behind it is the
dump's header, what the firmware kept of the CPUs, a bitmap of RAM and one of what was dumped, and
the dumped pages, one behind the other over all disks (makedumpfile's sadump_mod.h, libkdumpfile's
src/kdumpfile/sadump.c; Fujitsu has published nothing). All is little-endian.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import numpy as np

from vmcorefs.core.elf.elf import EM_X86_64
from vmcorefs.core.elf.registers import CpuRegisters
from vmcorefs.core.formats.magics import SADUMP
from vmcorefs.core.formats.window import ReadAt
from vmcorefs.core.space.ranges import Ranges, normalise, true_runs
from vmcorefs.core.space.units import MAX_ADDRESS
from vmcorefs.errors import FormatError

_IDENTITY: Final = slice(88, 120)  # of the machine and of the set
_TIME: Final = slice(136, 152)
_DISK: Final = struct.Struct("<IIQ")
_DISK_AT: Final = 152
_MAGIC_AT: Final = _DISK_AT + _DISK.size
_SET: Final = struct.Struct("<II")
_DUMP: Final = struct.Struct("<8sII16s13I4xQ")
_MOST_DISKS: Final = 16
_MOST_CPUS: Final = 1 << 12
_MOST_BLOCKS: Final = 1 << 20
MAX_RUNS: Final = 1 << 22

# struct sadump_smram_cpu_state: where its registers begin, in bytes
_GENERAL_AT, _SEGMENTS_AT, _RIP_AT, _FLAGS_AT = 796, 936, 984, 1000
_STATE_SIZE: Final = 1024
_GENERAL: Final = (
    *("r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
)
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")


class Disk(msgspec.Struct, frozen=True):
    """A disk's header.

    Attributes:
        number: In the set, from 1 on; 0 if it is alone.
        identity: What is the same on all disks of a dump.
        block_size: Bytes in a block.
        used: Bytes of the disk that the dump takes.
    """

    number: int
    identity: bytes
    block_size: int
    used: int


class Dump(msgspec.Struct, frozen=True):
    """The dump's header.

    Attributes:
        disks: How many disks there are.
        block_size: Bytes in a block, and in a page.
        state: Where what is kept of the CPUs begins, and the bytes of it.
        ram: Where the bitmap of RAM begins, and the bytes of it.
        dumped: Where that of the dumped pages begins, and the bytes of it.
        data: Where the first page is on the first disk.
        pages: One past the last page frame number.
        cpus: How many CPUs there are.
    """

    disks: int
    block_size: int
    state: tuple[int, int]
    ram: tuple[int, int]
    dumped: tuple[int, int]
    data: int
    pages: int
    cpus: int


def read_disk(read: ReadAt) -> Disk:
    """Read a disk's header.

    Raises:
        FormatError: if it cannot be true.
    """
    raw = read(0, 1 << 16)
    if len(raw) < 4096 or not raw.startswith(SADUMP):
        raise FormatError(f"{len(raw)} bytes, which do not begin with a disk's header")
    number, _, used = _DISK.unpack_from(raw, _DISK_AT)
    size = _block_size(raw)
    if number > _MOST_DISKS:
        raise FormatError(f"disk {number} of a set, expected {_MOST_DISKS} at most")
    return Disk(number, raw[_IDENTITY] + raw[_TIME], size, used)


def _block_size(raw: bytes) -> int:
    """The first block is filled with numbers of which each follows from the one before it."""
    words = np.frombuffer(raw, dtype="<u4", offset=_MAGIC_AT, count=(len(raw) - _MAGIC_AT) // 4)
    follows = words[1:] == (words[:-1] + np.uint32(7)) * np.uint32(11)
    count = int(np.argmin(np.append(follows, False))) + 1
    size = _MAGIC_AT + 4 * count
    if size not in (512, 1024, 2048, 4096, 8192):
        raise FormatError(f"a block of {size} bytes")
    return size


def read_dump(read: ReadAt, disk: Disk) -> Dump:
    """Read the dump's header, which is on the first disk.

    Raises:
        FormatError: if it cannot be true.
    """
    at, disks, block = disk.block_size, 1, disk.block_size
    if disk.number:
        blocks, disks = _SET.unpack(read(at, _SET.size).ljust(_SET.size, b"\0"))
        if not 0 < blocks <= _MOST_BLOCKS or not 0 < disks <= _MOST_DISKS:
            raise FormatError(f"a set of {disks} disks, listed in {blocks} blocks")
        at += blocks * block
    raw = read(at, _DUMP.size)
    if len(raw) < _DUMP.size:
        raise FormatError("it is cut within the dump's header")
    magic, version, _, _, *numbers, pages64 = _DUMP.unpack(raw)
    told, state, ram, dumped, pages, cpus = (numbers[n] for n in (2, 4, 5, 6, 7, 12))
    pages = pages64 if version else pages
    if magic != SADUMP or told != block or max(state, ram, dumped) > _MOST_BLOCKS:
        raise FormatError(f"no dump's header at {at:#x}, or one with blocks of {told} bytes")
    if pages > MAX_ADDRESS // block or cpus > _MOST_CPUS:
        raise FormatError(f"{pages} pages and {cpus} CPUs")
    begin = at + block
    places = []
    for count in (state, ram, dumped):
        places.append((begin, count * block))
        begin += count * block
    return Dump(disks, block, places[0], places[1], places[2], begin, pages, cpus)


def read_bitmap(read: ReadAt, place: tuple[int, int], pages: int) -> Ranges:
    """The pages in a bitmap, by number: a normal set.

    Raises:
        FormatError: if it is cut off, or there are too many runs.
    """
    start, size = place
    found = [np.empty((0, 2), dtype=np.int64)]
    runs = 0
    for done in range(0, size, 1 << 20):
        want = min(1 << 20, size - done)
        raw = read(start + done, want)
        if len(raw) < want:
            raise FormatError("it is cut within its bitmaps: which pages follow is lost with them")
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8)).view(np.bool_)
        found.append(true_runs(bits) + done * 8)
        runs += len(found[-1])
        if runs > MAX_RUNS:
            raise FormatError(f"more than {MAX_RUNS} runs of pages")
    return normalise(np.concatenate(found).clip(0, pages))


def read_cpus(read: ReadAt, dump: Dump) -> CpuRegisters | None:
    """What the firmware kept of the CPUs: their state when it was called; None if it kept none."""
    start, size = dump.state
    raw = read(start, min(size, 1 << 24))
    if len(raw) < 4 or not dump.cpus:
        return None
    each = int.from_bytes(raw[:4], "little") // dump.cpus
    first = 4 + 16 * dump.cpus  # behind the state of each APIC
    if each < _STATE_SIZE or first + each * dump.cpus > len(raw):
        return None
    states = (raw[first + number * each :][:each] for number in range(dump.cpus))
    return CpuRegisters(EM_X86_64, tuple(map(_registers, states)))


def _registers(state: bytes) -> dict[str, int]:
    general = struct.unpack_from("<16Q", state, _GENERAL_AT)
    segments = struct.unpack_from("<6I", state, _SEGMENTS_AT)
    (rip,) = struct.unpack_from("<Q", state, _RIP_AT)
    (flags,) = struct.unpack_from("<Q", state, _FLAGS_AT)
    named = dict(zip((*_GENERAL, *_SEGMENTS), (*general, *segments), strict=True))
    return {**named, "rip": rip, "eflags": flags}
