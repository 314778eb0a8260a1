"""Kernel logs of the three forms as bytes in memory, written apart from vmcorefs' decoder."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo, parse_vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FaultError

PRB, DESCS, INFOS, TEXT = 0xFFFF_0000, 0xFFFF_1000, 0xFFFF_8000, 0xFFFF_F000
LOG_BUF, VARIABLES = 0x8_0000, 0x1000

# offsets as a 6.1 kernel on x86-64 tells them
RING_INFO = """\
SYMBOL(prb)=%x
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=48
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
OFFSET(atomic_long_t.counter)=0
""" % (PRB + 8)

STRUCTURED_INFO = f"""\
SYMBOL(log_buf)={VARIABLES:x}
SYMBOL(log_buf_len)={VARIABLES + 8:x}
SYMBOL(log_first_idx)={VARIABLES + 12:x}
SYMBOL(log_next_idx)={VARIABLES + 16:x}
SIZE(printk_log)=16
OFFSET(printk_log.ts_nsec)=0
OFFSET(printk_log.len)=8
OFFSET(printk_log.text_len)=10
"""

PLAIN_INFO = f"""\
SYMBOL(log_buf)={VARIABLES:x}
SYMBOL(log_buf_len)={VARIABLES + 8:x}
SYMBOL(log_end)={VARIABLES + 12:x}
SYMBOL(logged_chars)={VARIABLES + 16:x}
"""


@dataclass
class Log:
    """Bytes by virtual address, and the VMCOREINFO that leads to them.

    Attributes:
        info: VMCOREINFO.
        blocks: The bytes, by their first address.
        bad: Ranges of addresses that cannot be read.
    """

    info: Vmcoreinfo
    blocks: dict[int, bytes] = field(default_factory=dict)
    bad: list[tuple[int, int]] = field(default_factory=list)

    @property
    def memory(self) -> KernelMemory:
        return KernelMemory(self.read, "<", 8)

    def read(self, vaddr: int, size: int) -> bytes:
        if any(vaddr < end and start < vaddr + size for start, end in self.bad):
            raise FaultError("memory", vaddr, size, "unreadable")
        for start, block in self.blocks.items():
            if start <= vaddr and vaddr + size <= start + len(block):
                return block[vaddr - start : vaddr - start + size]
        raise FaultError("memory", vaddr, size, "missing")


@dataclass
class Record:
    """One record of the ring: what is written, and how its writer left it (2: finalized)."""

    text: bytes
    nanoseconds: int = 0
    state: int = 2


def make_ring(
    records: list[Record], *, count_bits: int = 4, size_bits: int = 8, first_id: int = 0
) -> Log:
    """A ring after ``records`` were written one behind the other, the oldest overwritten."""
    size, count = 1 << size_bits, 1 << count_bits
    text, position = bytearray(size), 0
    descs, infos = bytearray(24 * count), bytearray(88 * count)
    for number, record in enumerate(records):
        identity = (first_id + number) % (1 << 62)
        slot = identity % count
        length = (8 + len(record.text) + 7) & ~7
        begin = position
        start = begin % size
        if start + length > size:  # the block goes to the start; begin stays in the lap before
            position += size - start
            start = 0
        position += length
        text[start : start + 8] = struct.pack("<Q", identity)
        text[start + 8 : start + 8 + len(record.text)] = record.text
        state = record.state << 62 | identity
        struct.pack_into("<QQQ", descs, slot * 24, state, begin, position)
        struct.pack_into("<QQH", infos, slot * 88, number, record.nanoseconds, len(record.text))
    head = (first_id + len(records) - 1) % (1 << 62)
    tail = (first_id + max(len(records) - count, 0)) % (1 << 62)
    ring = struct.pack("<IIQQQQ", count_bits, 0, DESCS, INFOS, head, tail).ljust(48, b"\0")
    ring += struct.pack("<IIQ", size_bits, 0, TEXT)
    blocks = {
        PRB: bytes(8) + struct.pack("<Q", PRB + 16) + ring,
        DESCS: bytes(descs),
        INFOS: bytes(infos),
        TEXT: bytes(text),
    }
    return Log(parse_vmcoreinfo(RING_INFO.encode()), blocks)


def make_structured(buffer: bytes, first: int, following: int) -> Log:
    """The log of 3.5 to 5.9: records in ``buffer``, from ``first`` up to ``following``."""
    variables = struct.pack("<QIII", LOG_BUF, len(buffer), first, following)
    return Log(parse_vmcoreinfo(STRUCTURED_INFO.encode()), {VARIABLES: variables, LOG_BUF: buffer})


def make_plain(buffer: bytes, end: int, kept: int) -> Log:
    """The log before 3.5: characters in ``buffer``, which goes round."""
    variables = struct.pack("<QIII", LOG_BUF, len(buffer), end, kept)
    return Log(parse_vmcoreinfo(PLAIN_INFO.encode()), {VARIABLES: variables, LOG_BUF: buffer})


def pack_record(nanoseconds: int, text: bytes) -> bytes:
    """One ``struct printk_log`` and its text, padded to 8 bytes."""
    length = (16 + len(text) + 7) & ~7
    header = struct.pack("<QHHHBB", nanoseconds, length, len(text), 0, 0, 0)
    return (header + text).ljust(length, b"\0")
