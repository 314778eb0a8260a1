"""The kernel's log, decoded from its memory with nothing but VMCOREINFO.

There are three forms, told apart by the symbols in VMCOREINFO, as vmcore-dmesg does (kexec-tools,
util_lib/elf_info.c). The output is the same as its, byte for byte:

* since 5.10 the lockless ring buffer (kernel/printk/printk_ringbuffer.h), ``SYMBOL(prb)``;
* from 3.5 to 5.9 records in ``log_buf`` (kernel/printk/printk.c), ``SYMBOL(log_first_idx)``;
* before 3.5 plain text in ``log_buf``, ``SYMBOL(log_end)``.

Of a log that cannot be read whole, the records that can be read are printed, and in the place of
the others how much is missing.

Memory is treated as hostile here: sizes are checked before anything is read, and every loop ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vmcorefs.core.elf.vmcoreinfo import Vmcoreinfo
from vmcorefs.core.space.units import counted
from vmcorefs.core.structures.kernel_memory import KernelMemory
from vmcorefs.core.structures.partial import Partial, read_partial
from vmcorefs.core.structures.printk_records import Records
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


class Log(msgspec.Struct, frozen=True):
    """The log as text.

    Attributes:
        text: ``[    0.000000] text`` and a newline for each record.
        lost: Bytes of its buffers that could not be read.
    """

    text: bytes
    lost: int


def read_log(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Log:
    """Decode the whole log, as far as it can be read.

    Raises:
        FormatError: if VMCOREINFO lacks a key, or memory contradicts itself.
        VmcorefsError: if nothing of a buffer, or not all of what leads to it, can be read: whatever
            ``memory.read`` raises.
    """
    if "SYMBOL(prb)" in vmcoreinfo.values:
        ring = _load_ring(vmcoreinfo, memory)
        lost = ring.descs.lost + ring.infos.lost + ring.text.lost
        return Log(b"".join(_iter_ringbuffer(vmcoreinfo, memory, ring)), lost)
    buffer = _load_buffer(vmcoreinfo, memory)
    if "SYMBOL(log_first_idx)" in vmcoreinfo.values:
        return Log(b"".join(_iter_structured(vmcoreinfo, memory, buffer)), buffer.lost)
    return Log(_read_plain(vmcoreinfo, memory, buffer), buffer.lost)


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

    descs: Partial
    infos: Partial
    text: Partial
    tail: int
    head: int
    count: int


class _Budget:
    """How much text there can be: overlapping records would have more than their buffer."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def take(self, size: int) -> None:
        """Count a record's text."""
        self._left -= size
        if self._left < 0:
            raise FormatError(f"the log's records overlap: more text than the {self._size} bytes")


def _item(table: Partial, index: int, size: int) -> bytes | None:
    """An element of an array; None if it could not be read whole."""
    start = index * size
    return table.data[start : start + size] if table.has(start, size) else None


def _mended(buffer: Partial, start: int, end: int) -> bytes:
    """The text in ``[start, end)``, with a word in the place of what could not be read."""
    pieces = []
    for low, high in buffer.iter_gaps(start, min(end, len(buffer))):
        pieces += [buffer.data[start:low], _not_read(high - low, "byte")]
        start = high
    return b"".join((*pieces, buffer.data[start:end]))


def _not_read(count: int, what: str) -> bytes:
    return f"[{counted(count, what)} of the log could not be read]".encode()


def _load_ring(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> _Ring:
    offset = vmcoreinfo.offset
    prb = memory.pointer(vmcoreinfo.symbol("prb"))
    desc_ring = prb + offset("printk_ringbuffer.desc_ring")
    data_ring = prb + offset("printk_ringbuffer.text_data_ring")
    count_bits = memory.integer(desc_ring + offset("prb_desc_ring.count_bits"), 4)
    size_bits = memory.integer(data_ring + offset("prb_data_ring.size_bits"), 4)

    def read_table(pointer_at: int, what: str, item: int, bits: int) -> Partial:
        size = item << min(bits, 64)
        _bound(what, size)
        return read_partial(memory, memory.pointer(pointer_at), size)

    at, size = desc_ring + offset("prb_desc_ring.descs"), vmcoreinfo.size("prb_desc")
    descs = read_table(at, "the log's descriptors", size, count_bits)
    at, size = desc_ring + offset("prb_desc_ring.infos"), vmcoreinfo.size("printk_info")
    infos = read_table(at, "the log's infos", size, count_bits)
    text = read_table(data_ring + offset("prb_data_ring.data"), "the log's text", 1, size_bits)
    counter = offset("atomic_long_t.counter")
    tail = memory.pointer(desc_ring + offset("prb_desc_ring.tail_id") + counter)
    head = memory.pointer(desc_ring + offset("prb_desc_ring.head_id") + counter)
    return _Ring(descs, infos, text, tail, head, 1 << count_bits)


def _iter_ringbuffer(vmcoreinfo: Vmcoreinfo, memory: KernelMemory, ring: _Ring) -> Iterator[bytes]:
    lost = 0
    for line in _iter_records(vmcoreinfo, memory, ring):
        if line is None:
            lost += 1
            continue
        if lost:
            yield _not_read(lost, "record") + b"\n"
        lost = 0
        yield line
    if lost:
        yield _not_read(lost, "record") + b"\n"


def _iter_records(
    vmcoreinfo: Vmcoreinfo, memory: KernelMemory, ring: _Ring
) -> Iterator[bytes | None]:
    """Each record that has been written; None for one of which it or its text cannot be told."""
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
        state = memory.decode(desc[state_at : state_at + word]) if desc is not None else None
        if state is None or (state % ids == current and state >> id_bits in _READABLE):
            if desc is None or info is None:
                yield None
            else:
                begin = memory.decode(desc[begin_at : begin_at + word]) % len(ring.text)
                end = memory.decode(desc[end_at : end_at + word]) % len(ring.text)
                length = memory.decode(info[length_at : length_at + 2])
                stamp = memory.decode(info[stamp_at : stamp_at + 8])
                first, last = _block(len(ring.text), begin, end, length, word)
                budget.take(last - first)
                yield _format(stamp, _mended(ring.text, first, last))
        if current == ring.head % ids:
            return


def _block(size: int, begin: int, end: int, length: int, word_size: int) -> tuple[int, int]:
    """Where the text of one record is in a ring of ``size`` bytes.

    ``begin`` and ``end`` are logical positions within the ring.
    """
    if begin == end:  # a record without data
        return begin, begin
    if end == 0:
        # it fits exactly: Linux commit 67e1b0052f6b ("printk_ringbuffer: don't needlessly wrap data
        # blocks around"); before that, no block ended there
        end = size
    if begin > end:  # it did not fit before the end of the ring, so it is at the start
        begin = 0
    begin += word_size  # the block's own id
    return begin, begin + min(length, max(end - begin, 0))


def _load_buffer(vmcoreinfo: Vmcoreinfo, memory: KernelMemory) -> Partial:
    buffer = memory.pointer(vmcoreinfo.symbol("log_buf"))
    size = memory.integer(vmcoreinfo.symbol("log_buf_len"), 4)
    _bound("log_buf_len", size)
    return read_partial(memory, buffer, size)


def _iter_structured(
    vmcoreinfo: Vmcoreinfo, memory: KernelMemory, buffer: Partial
) -> Iterator[bytes]:
    current = memory.integer(vmcoreinfo.symbol("log_first_idx"), 4)
    last = memory.integer(vmcoreinfo.symbol("log_next_idx"), 4)
    records = Records(vmcoreinfo, memory, buffer)
    budget = _Budget(len(buffer))
    seen = 0
    while current != last:
        record = records.at(current)
        if record is None:
            following = records.find(current, last)
            passed = following - current if following >= current else len(buffer) - current
            # behind the last record that can be told, everything up to the newest is lost
            yield _not_read(passed, "byte") + b"\n"
        else:
            following = record.following
            passed = following - current if following > current else len(buffer) - current
            if record.text_size is not None:
                first = current + records.header
                end = min(first + record.text_size, len(buffer))
                budget.take(end - first)
                yield _format(record.stamp, _mended(buffer, first, end))
        current = following
        seen += passed
        if seen > len(buffer):
            raise FormatError("the log's records go round log_buf forever")


def _read_plain(vmcoreinfo: Vmcoreinfo, memory: KernelMemory, buffer: Partial) -> bytes:
    size = len(buffer)
    end = memory.integer(vmcoreinfo.symbol("log_end"), 4)
    kept = memory.integer(vmcoreinfo.symbol("logged_chars"), 4)
    if size & (size - 1) or not size:
        raise FormatError(f"log_buf_len is {size}, expected a power of two")
    kept = min(kept, size)
    start = (end - kept) % size
    after = min(start + kept, size)  # where it goes on at the start of the buffer
    return _mended(buffer, start, after) + _mended(buffer, 0, kept - (after - start))


def _format(stamp: int, text: bytes) -> bytes:
    seconds, nanoseconds = divmod(stamp, 1_000_000_000)
    is_plain = not text.translate(None, _PLAIN)
    escaped = text if is_plain else b"".join(map(_ESCAPED.__getitem__, text))
    return b"[%5d.%06d] %s\n" % (seconds, nanoseconds // 1000, escaped)


def _bound(what: str, size: int) -> None:
    if size > MAX_LOG:
        raise FormatError(f"{what}: {size} bytes, expected at most {MAX_LOG}")
