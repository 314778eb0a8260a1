"""The kernel's log, decoded from its memory with nothing but VMCOREINFO.

There are three forms, told apart by the symbols in VMCOREINFO, as vmcore-dmesg does (kexec-tools,
util_lib/elf_info.c). The output is the same as its, byte for byte:

* since 5.10 the lockless ring buffer (kernel/printk/printk_ringbuffer.h), ``SYMBOL(prb)``;
* from 3.5 to 5.9 records in ``log_buf`` (kernel/printk/printk.c), ``SYMBOL(log_first_idx)``;
* before 3.5 plain text in ``log_buf``, ``SYMBOL(log_end)``.

Memory is treated as hostile here: sizes are checked before anything is read, and every loop ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.errors import FormatError

MAX_LOG = 1 << 27
"""Longest buffer accepted, in bytes: the kernel's own limit is 2 GiB, but log_buf_len= is set to a
few MiB at most."""

_STATE_SHIFT = 2  # flag bits at the top of a state variable (printk_ringbuffer.h, DESC_FLAGS_SHIFT)
_READABLE = (1, 2)  # desc_committed, desc_finalized

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n\v\f\r"
_ESCAPED = tuple(bytes([code]) if code in _PLAIN else b"\\x%02x" % code for code in range(256))


def names_log(vmcoreinfo: Vmcoreinfo) -> bool:
    """Whether VMCOREINFO names a log of any form."""
    return not vmcoreinfo.values.keys().isdisjoint({"SYMBOL(prb)", "SYMBOL(log_buf)"})


def read_log(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> bytes:
    """Decode the whole log: ``[    0.000000] text`` and a newline for each record.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or memory contradicts itself.
        VmcorefsError: whatever ``memory.read`` raises.
    """
    if "SYMBOL(prb)" in vmcoreinfo.values:
        return b"".join(_iter_ringbuffer(vmcoreinfo, memory))
    if "SYMBOL(log_first_idx)" in vmcoreinfo.values:
        return b"".join(_iter_structured(vmcoreinfo, memory))
    return _read_plain(vmcoreinfo, memory)


class _Ring(msgspec.Struct, frozen=True):
    """A lockless ring buffer, read out of memory.

    Attributes:
        descs: ``struct prb_desc`` of all descriptors, one after another.
        infos: ``struct printk_info`` of all descriptors, likewise.
        text: The data ring; a record's logical positions are taken modulo its size.
        tail: Id of the oldest descriptor.
        head: Id of the newest.
        count: Number of descriptors, a power of two.
    """

    descs: bytes
    infos: bytes
    text: bytes
    tail: int
    head: int
    count: int


class _Budget:
    """How much text there can be: overlapping records would have more than their buffer."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def take(self, text: bytes) -> bytes:
        """Count a record's text and return it."""
        self._left -= len(text)
        if self._left < 0:
            raise FormatError(f"the log's records overlap: more text than the {self._size} bytes")
        return text


def _item(table: bytes, index: int, size: int) -> bytes:
    return table[index * size : (index + 1) * size]


def _load_ring(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> _Ring:
    offset = vmcoreinfo.offset
    prb = memory.pointer(vmcoreinfo.symbol("prb"))
    desc_ring = prb + offset("printk_ringbuffer.desc_ring")
    data_ring = prb + offset("printk_ringbuffer.text_data_ring")
    count_bits = memory.integer(desc_ring + offset("prb_desc_ring.count_bits"), 4)
    size_bits = memory.integer(data_ring + offset("prb_data_ring.size_bits"), 4)

    def read_table(pointer_at: int, what: str, item: int, bits: int) -> bytes:
        size = item << min(bits, 64)
        _bound(what, size)
        return memory.read(memory.pointer(pointer_at), size)

    at, size = desc_ring + offset("prb_desc_ring.descs"), vmcoreinfo.size("prb_desc")
    descs = read_table(at, "the log's descriptors", size, count_bits)
    at, size = desc_ring + offset("prb_desc_ring.infos"), vmcoreinfo.size("printk_info")
    infos = read_table(at, "the log's infos", size, count_bits)
    text = read_table(data_ring + offset("prb_data_ring.data"), "the log's text", 1, size_bits)
    counter = offset("atomic_long_t.counter")
    tail = memory.pointer(desc_ring + offset("prb_desc_ring.tail_id") + counter)
    head = memory.pointer(desc_ring + offset("prb_desc_ring.head_id") + counter)
    return _Ring(descs, infos, text, tail, head, 1 << count_bits)


def _iter_ringbuffer(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Iterator[bytes]:
    ring = _load_ring(vmcoreinfo, memory)
    offset, word = vmcoreinfo.offset, memory.word_size
    desc_size, info_size = vmcoreinfo.size("prb_desc"), vmcoreinfo.size("printk_info")
    state_at = offset("prb_desc.state_var") + offset("atomic_long_t.counter")
    begin_at, end_at = (
        offset("prb_desc.text_blk_lpos") + offset(f"prb_data_blk_lpos.{field}")
        for field in ("begin", "next")
    )
    stamp_at, length_at = offset("printk_info.ts_nsec"), offset("printk_info.text_len")
    id_bits = word * 8 - _STATE_SHIFT
    ids = 1 << id_bits

    budget = _Budget(len(ring.text))
    for step in range(ring.count):  # a ring cannot hold more, whatever head and tail say
        current = (ring.tail + step) % ids
        desc = _item(ring.descs, current % ring.count, desc_size)
        info = _item(ring.infos, current % ring.count, info_size)
        state = memory.decode(desc[state_at : state_at + word])
        if state % ids == current and state >> id_bits in _READABLE:
            begin = memory.decode(desc[begin_at : begin_at + word]) % len(ring.text)
            end = memory.decode(desc[end_at : end_at + word]) % len(ring.text)
            length = memory.decode(info[length_at : length_at + 2])
            stamp = memory.decode(info[stamp_at : stamp_at + 8])
            yield _format(stamp, budget.take(_block(ring.text, begin, end, length, word)))
        if current == ring.head % ids:
            return


def _block(text: bytes, begin: int, end: int, length: int, word_size: int) -> bytes:
    """The text of one record; ``begin`` and ``end`` are logical positions within the ring."""
    if begin == end:  # a record without data
        return b""
    if end == 0:
        # it fits exactly: Linux commit 67e1b0052f6b ("printk_ringbuffer: don't needlessly wrap data
        # blocks around"); before that, no block ended there
        end = len(text)
    if begin > end:  # it did not fit before the end of the ring, so it is at the start
        begin = 0
    begin += word_size  # the block's own id
    return text[begin : begin + min(length, max(end - begin, 0))]


def _iter_structured(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Iterator[bytes]:
    name = "printk_log" if "SIZE(printk_log)" in vmcoreinfo.values else "log"
    header = vmcoreinfo.size(name)
    stamp_at, length_at, text_at = (
        vmcoreinfo.offset(f"{name}.{field}") for field in ("ts_nsec", "len", "text_len")
    )
    buffer = memory.pointer(vmcoreinfo.symbol("log_buf"))
    size = memory.integer(vmcoreinfo.symbol("log_buf_len"), 4)
    current = memory.integer(vmcoreinfo.symbol("log_first_idx"), 4)
    last = memory.integer(vmcoreinfo.symbol("log_next_idx"), 4)
    _bound("log_buf_len", size)
    data = memory.read(buffer, size)
    budget = _Budget(size)
    seen = 0
    while current != last:
        if current + header > size:
            raise FormatError(f"the log's record at {current:#x} ends past log_buf, {size:#x}")
        length = memory.decode(data[current + length_at : current + length_at + 2])
        if length == 0:  # the rest of the buffer was too short: the next record is at its start
            length = size - current
            current = 0
        else:
            if length < header:
                raise FormatError(f"the log's record at {current:#x} has {length} bytes")
            stamp = memory.decode(data[current + stamp_at : current + stamp_at + 8])
            count = memory.decode(data[current + text_at : current + text_at + 2])
            text = data[current + header : current + header + count]
            yield _format(stamp, budget.take(text))
            current += length
        seen += length
        if seen > size:
            raise FormatError("the log's records go round log_buf forever")


def _read_plain(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> bytes:
    buffer = memory.pointer(vmcoreinfo.symbol("log_buf"))
    size = memory.integer(vmcoreinfo.symbol("log_buf_len"), 4)
    end = memory.integer(vmcoreinfo.symbol("log_end"), 4)
    kept = memory.integer(vmcoreinfo.symbol("logged_chars"), 4)
    _bound("log_buf_len", size)
    if size & (size - 1) or not size:
        raise FormatError(f"log_buf_len is {size}, expected a power of two")
    data = memory.read(buffer, size)
    kept = min(kept, size)
    start = (end - kept) % size
    return (data[start:] + data[:start])[:kept]


def _format(stamp: int, text: bytes) -> bytes:
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    is_plain = not text.translate(None, _PLAIN)
    escaped = text if is_plain else b"".join(map(_ESCAPED.__getitem__, text))
    return b"[%5d.%06d] %s\n" % (seconds, nanoseconds // 1000, escaped)


def _bound(what: str, size: int) -> None:
    if size > MAX_LOG:
        raise FormatError(f"{what}: {size} bytes, expected at most {MAX_LOG}")
